"""The machine's memory, with every page that is read put into the trace."""

from __future__ import annotations

from collections.abc import Sequence

from kexecdbg.arm64.interfaces import PhysicalMemory
from kexecdbg.errors import MemoryUnreadableError
from kexecdbg.machine.device_registers import read_register_of
from kexecdbg.machine.memory import PopulatedMemory
from kexecdbg.machine.memory_map import MemoryMap, memory_map_of
from kexecdbg.machine.word_search import FoundWords, WordPattern
from kexecdbg.trace.recording.memory_search import MemorySearch
from kexecdbg.trace.step_block import PAGE_SIZE
from kexecdbg.trace.writer import TraceWriter


class SeenMemory:
    """Physical memory of the machine that ``writer`` records.

    Attributes:
        memory_map: the machine's.
        tracked_since: number of the first state since which every write to memory is known: what is read now, and was
            never written, was the same then.
    """

    def __init__(self, memory: PhysicalMemory, writer: TraceWriter) -> None:
        self.memory_map: MemoryMap | None = memory_map_of(memory)
        self.tracked_since = writer.steps
        self._memory = memory
        self._writer = writer
        self._seen: set[int] = set()
        self._search = MemorySearch(writer, self._seen)

    def read(self, address: int, size: int) -> bytes:
        """Exactly ``size`` bytes; raises MemoryUnreadableError as the machine's memory does."""
        data = self._memory.read(address, size)
        for page in range(address & -PAGE_SIZE, address + size, PAGE_SIZE):
            if page not in self._seen:
                self.see(page)
        return data

    def search(self) -> None:
        """Record what the checks can search all memory for, if that can be done."""
        self._search.make(self._memory)

    def search_if_void(self) -> None:
        """:meth:`search` if what was known of all memory does not hold any more."""
        if not self._search.holds:
            self.search()

    def find_words(self, patterns: Sequence[WordPattern], /) -> FoundWords | None:
        """See :class:`kexecdbg.machine.word_search.SearchableMemory`; as of the last search."""
        return self._search.find_words(patterns)

    def read_device_register(self, address: int, size: int) -> int:
        """A device register of the machine; see :mod:`kexecdbg.machine.device_registers`."""
        return read_register_of(self._memory, address, size)

    def see(self, address: int) -> None:
        """Record the page of physical ``address``, if it is memory; each page once, its writes are recorded as such."""
        page = address & -PAGE_SIZE
        if page in self._seen:
            return
        try:
            data = self._memory.read(page, PAGE_SIZE)
        except MemoryUnreadableError:
            return
        self._writer.see(page, data, self.tracked_since)
        self._seen.add(page)

    def see_everything(self) -> None:
        """Record all RAM that was ever written."""
        if isinstance(self._memory, PopulatedMemory):
            for start, end in self._memory.populated_ranges():
                for page in range(start & -PAGE_SIZE, end, PAGE_SIZE):
                    self.see(page)

    def see_written(self, address: int) -> None:
        """Record how the page of ``address`` looks now; it may have been written in ways that were not recorded."""
        page = address & -PAGE_SIZE
        try:
            data = self._memory.read(page, PAGE_SIZE)
        except MemoryUnreadableError:
            return
        self._writer.see(page, data)
        self._seen.add(page)

    def lose_track(self) -> None:
        """Something may have been written anywhere: from now on memory is as it is found now."""
        self._search.forget()
        for page in self._seen:
            self._writer.see(page, self._memory.read(page, PAGE_SIZE))
        self.tracked_since = self._writer.steps
