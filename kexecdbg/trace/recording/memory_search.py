"""Searches all memory while it is recorded, for what the checks search a machine's memory for.

The pages with what was found go into the trace, and that there is nothing on all others: a replay says the same as the
machine, without a copy of its memory.
"""

from __future__ import annotations

from collections.abc import Sequence

from kexecdbg.arm64.interfaces import PhysicalMemory
from kexecdbg.checks.stuck.operand_value import BYTES_AROUND
from kexecdbg.checks.stuck.search import SCTLR_WRITES
from kexecdbg.errors import MemoryUnreadableError
from kexecdbg.machine.memory import PopulatedMemory
from kexecdbg.machine.word_search import FoundWords, WordPattern, scan_words
from kexecdbg.trace.step_block import PAGE_SIZE
from kexecdbg.trace.writer import TraceWriter

_MOST_PAGES = 1 << 13
"""Pages with what was found that are recorded at most; a kernel has some dozens."""


class MemorySearch:
    """What is known of all memory in the present state of ``writer``.

    Args:
        writer: the trace.
        seen: physical addresses of the pages that are in it; those that a search adds are put there.
    """

    def __init__(self, writer: TraceWriter, seen: set[int]) -> None:
        self._writer = writer
        self._seen = seen
        self._found: FoundWords | None = None

    @property
    def holds(self) -> bool:
        """Whether memory was searched, and every write since then is known."""
        return self._found is not None

    def make(self, memory: PhysicalMemory) -> None:
        """Search ``memory``, the machine's as it is in the present state; nothing where it cannot be searched whole."""
        if not isinstance(memory, PopulatedMemory):
            return
        self.forget()
        scan = scan_words(memory, memory.populated_ranges(), SCTLR_WRITES)
        pages = {
            page
            for address in scan.addresses
            for page in range((address - BYTES_AROUND) & -PAGE_SIZE, address + BYTES_AROUND, PAGE_SIZE)
        }
        if len(pages) > _MOST_PAGES:
            return
        for page in sorted(pages):
            self._see(page, memory)
        self._writer.searched(SCTLR_WRITES, scan.occupied)
        self._found = scan.found

    def _see(self, page: int, memory: PhysicalMemory) -> None:
        try:
            data = memory.read(page, PAGE_SIZE)
        except MemoryUnreadableError:  # beside what was found, and no memory
            return
        self._writer.see(page, data)
        self._seen.add(page)

    def forget(self) -> None:
        """Something may have been written anywhere: what was found counts no more."""
        if self._found is not None:
            self._writer.searched((), ())
            self._found = None

    def find_words(self, patterns: Sequence[WordPattern], /) -> FoundWords | None:
        """What :meth:`make` found, as far as it still holds; for analyses right after it."""
        return self._found if self._found is not None and set(SCTLR_WRITES) == set(patterns) else None
