"""Guest memory as the log has it so far: the snapshot, with every store that was decoded since."""

from __future__ import annotations

from collections.abc import Sequence

from kexecdbg.arm64.interfaces import PhysicalMemory
from kexecdbg.errors import MemoryUnreadableError
from kexecdbg.machine.memory_map import MemoryMap
from kexecdbg.machine.word_search import FoundWords, WordPattern
from kexecdbg.trace.recording.log.snapshot import RamSnapshot
from kexecdbg.trace.recording.memory_search import MemorySearch
from kexecdbg.trace.step_block import PAGE_SIZE
from kexecdbg.trace.writer import TraceWriter


class LoggedMemory:
    """Physical memory in the state that ``writer`` has come to; every page that is read goes into the trace."""

    def __init__(self, snapshot: RamSnapshot, writer: TraceWriter) -> None:
        self._snapshot = snapshot
        self._writer = writer
        self._seen: set[int] = set()
        self._since = writer.steps
        self._search = MemorySearch(writer, self._seen)

    @property
    def memory_map(self) -> MemoryMap:
        """The machine's memory map."""
        return self._snapshot.memory_map

    def read(self, address: int, size: int) -> bytes:
        """Exactly ``size`` bytes; raises MemoryUnreadableError for a hole, and for what stores made unknown."""
        data = bytearray()
        while len(data) < size:
            position = address + len(data)
            page = self.page(position & -PAGE_SIZE)
            if page is None:
                self.memory_map.check_readable(address, size)
                raise MemoryUnreadableError(address, size, "the log does not show what was stored there")
            offset = position % PAGE_SIZE
            data += page[offset : offset + size - len(data)]
        return bytes(data)

    def page(self, page: int) -> bytes | None:
        """The page at physical ``page``, now; ``None`` when it is no memory, or not known."""
        return self._writer.page(page) if self.see(page) else None

    def see(self, page: int) -> bool:
        """Put a page into the trace as it was when the recording began; whether it is memory."""
        if page in self._seen:
            return True
        data = self._snapshot.page(page)
        if data is None:
            return False
        # What was never stored to is still as it was.
        self._writer.see(page, data, self._since)
        self._seen.add(page)
        return True

    def see_everything(self) -> None:
        """Put all RAM that was ever written into the trace."""
        for page in self._snapshot.pages():
            self.see(page)

    def search(self, real: PhysicalMemory) -> None:
        """Record what the checks search all memory for; ``real`` is the machine's, stopped in the present state."""
        self._search.make(real)

    def lose_track(self) -> None:
        """Something was stored, and the log does not show where."""
        self._search.forget()

    def find_words(self, patterns: Sequence[WordPattern], /) -> FoundWords | None:
        """See :class:`kexecdbg.machine.word_search.SearchableMemory`; as of the last search."""
        return self._search.find_words(patterns)

    def compare(self, real: PhysicalMemory) -> list[int]:
        """Take over the pages of the stopped machine that are not as the log has it; their addresses."""
        different = []
        for page in sorted(self._seen):
            data = real.read(page, PAGE_SIZE)
            if self._writer.page(page) != data:
                different.append(page)
                self._writer.distrust(page)
                self._writer.see(page, data)
        return different
