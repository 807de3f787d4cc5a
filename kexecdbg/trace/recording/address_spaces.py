"""Where the virtual addresses of a recorded run lead, remembered until something can have changed it."""

from __future__ import annotations

from collections.abc import Iterator

from kexecdbg.arm64.evaluation import TranslatedMemory
from kexecdbg.arm64.faults import Access
from kexecdbg.arm64.interfaces import PhysicalMemory, RegisterValues
from kexecdbg.arm64.pstate import el_of
from kexecdbg.trace.step_block import PAGE_SIZE


class AddressSpaces:
    """The translations of each exception level, as the registers and the tables in memory have them.

    What a TLB may still hold is not considered: QEMU's is flushed by what the architecture asks software to do.
    """

    def __init__(self, memory: PhysicalMemory) -> None:
        self._tables = _TableReads(memory)
        self._spaces: dict[int, TranslatedMemory] = {}

    def locate(self, registers: RegisterValues, pstate: int, va: int, access: Access) -> int | None:
        """Physical address of ``va``; ``None`` where it faults or cannot be told."""
        el = el_of(pstate)
        space = self._spaces.get(el)
        if space is None:
            space = self._spaces[el] = TranslatedMemory(self._tables)
        return space.locate(registers, va, access).pa

    def pieces(
        self, registers: RegisterValues, pstate: int, va: int, size: int, access: Access
    ) -> Iterator[tuple[int, int, int]]:
        """Virtual address, physical address and size of each part within a page; parts that fault are left out."""
        end = va + size
        while va < end:
            length = min(PAGE_SIZE - va % PAGE_SIZE, end - va)
            pa = self.locate(registers, pstate, va, access)
            if pa is not None:
                yield va, pa, length
            va += length

    def table_pages(self) -> set[int]:
        """Physical addresses of the pages with tables that the translations depend on."""
        return {page * PAGE_SIZE for page in self._tables.pages}

    def changed(self) -> None:
        """A register or an instruction may have changed translations."""
        self._spaces.clear()
        self._tables.pages.clear()

    def written(self, pa: int) -> None:
        """Memory was written at ``pa``: when a table is there, translations may have changed."""
        if pa // PAGE_SIZE in self._tables.pages:
            self.changed()


class _TableReads:
    """Remembers which pages were read for walks."""

    def __init__(self, memory: PhysicalMemory) -> None:
        self.pages: set[int] = set()
        self._memory = memory

    def read(self, address: int, size: int) -> bytes:
        self.pages.add(address // PAGE_SIZE)
        return self._memory.read(address, size)
