"""Memory as the evaluated code sees it: through the translation that is in force, with the code's own stores in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from kexecdbg.arm64.faults import Access, Fault, FaultKind
from kexecdbg.arm64.interfaces import PhysicalMemory, RegisterValues
from kexecdbg.arm64.regimes import current_el, regime_of
from kexecdbg.arm64.walk import walk
from kexecdbg.arm64.walk_result import Walk
from kexecdbg.errors import ArchitectureError, MemoryUnreadableError, RegisterUnknownError

_PAGE_BITS = 12
PAGE_SIZE = 1 << _PAGE_BITS


@dataclass(frozen=True)
class Location:
    """Where a virtual address leads.

    Attributes:
        pa: physical address, or ``None`` with a fault or when it cannot be told.
        fault: the fault that the access takes.
        is_device: the access is made to Device memory.
    """

    pa: int | None
    fault: Fault | None = None
    is_device: bool = False


UNKNOWN_LOCATION = Location(None)


class AddressSpace(Protocol):
    """How evaluated code reaches memory."""

    def locate(self, registers: RegisterValues, va: int, access: Access) -> Location:
        """Where ``va`` leads with these registers."""
        ...

    def fetch(self, pa: int) -> int:
        """The instruction word at the physical address; raises MemoryUnreadableError."""
        ...

    def read(self, pa: int, size: int) -> bytes:
        """Memory at the physical address with the code's stores in it; raises MemoryUnreadableError."""
        ...

    def store(self, pa: int | None, size: int, data: bytes | None) -> None:
        """The code stores ``data`` (``None``: unknown data) at the physical address (``None``: anywhere)."""
        ...

    def translation_changed(self) -> None:
        """A register that decides translations has been written."""
        ...


@dataclass(frozen=True)
class _StoredPage:
    """Bytes that the code stored into one page, by offset, and offsets whose contents are unknown since."""

    known: dict[int, int]
    unknown: set[int]


class TranslatedMemory:
    """Physical memory reached through the translation regime of the evaluated registers.

    Walks are made anew whenever the code writes a translation register or table memory: what a TLB may still hold is
    not considered. ``base`` is not written to.
    """

    def __init__(self, base: PhysicalMemory) -> None:
        self._base = base
        self._walks: dict[int, Walk | None] = {}
        self._table_pages: set[int] = set()
        self._stored: dict[int, _StoredPage] = {}
        self.lost = False
        """The code stored to an address that cannot be told: what any memory holds is unknown from then on."""

    @property
    def has_stores(self) -> bool:
        """Whether the code stored anything."""
        return self.lost or bool(self._stored)

    def locate(self, registers: RegisterValues, va: int, access: Access) -> Location:
        """See :class:`AddressSpace`."""
        result = self._walk(registers, va)
        if result is None:
            return UNKNOWN_LOCATION
        fault = result.fault_for(access)
        if fault is not None:
            return UNKNOWN_LOCATION if fault.kind is FaultKind.UNKNOWN else Location(None, fault)
        if result.pa is None:
            return UNKNOWN_LOCATION
        kind = result.memory_type
        return Location(result.pa | va & PAGE_SIZE - 1, is_device=kind is not None and kind.is_device)

    def _walk(self, registers: RegisterValues, va: int) -> Walk | None:
        page = va >> _PAGE_BITS
        if page not in self._walks:
            try:
                regime = regime_of(current_el(registers), registers)
                result = walk(registers, self, page << _PAGE_BITS, regime=regime)
            except (RegisterUnknownError, ArchitectureError):
                self._walks[page] = None
                return None
            self._table_pages.update(level.address >> _PAGE_BITS for level in result.levels)
            self._walks[page] = result
        return self._walks[page]

    def fetch(self, pa: int) -> int:
        """See :class:`AddressSpace`. A store to an unknown address is taken not to change code."""
        return int.from_bytes(self._with_stores(pa, 4), "little")

    def read(self, pa: int, size: int) -> bytes:
        """Memory with the code's stores in it.

        Raises:
            MemoryUnreadableError: it cannot be read, or the code stored something there that cannot be told.
        """
        if self.lost:
            raise MemoryUnreadableError(pa, size, "the code stores to an address that cannot be told")
        return self._with_stores(pa, size)

    def _with_stores(self, pa: int, size: int) -> bytes:
        data = self._base.read(pa, size)
        if not self._stored:
            return data
        pages = range(pa >> _PAGE_BITS, (pa + size - 1 >> _PAGE_BITS) + 1)
        touched = [(page, self._stored[page]) for page in pages if page in self._stored]
        if not touched:
            return data
        merged = bytearray(data)
        for page, stored in touched:
            start = page << _PAGE_BITS
            for address in range(max(pa, start), min(pa + size, start + PAGE_SIZE)):
                offset = address - start
                if offset in stored.unknown:
                    raise MemoryUnreadableError(pa, size, "the code stores a value there that cannot be told")
                if offset in stored.known:
                    merged[address - pa] = stored.known[offset]
        return bytes(merged)

    def store(self, pa: int | None, size: int, data: bytes | None) -> None:
        """See :class:`AddressSpace`."""
        if pa is None:
            self.lost = True
            self._walks.clear()
            return
        if self._table_pages & {pa >> _PAGE_BITS, pa + size - 1 >> _PAGE_BITS}:
            self.translation_changed()
        for position in range(size):
            page = self._stored.setdefault(pa + position >> _PAGE_BITS, _StoredPage({}, set()))
            offset = pa + position & PAGE_SIZE - 1
            if data is None:
                page.unknown.add(offset)
            else:
                page.unknown.discard(offset)
                page.known[offset] = data[position]

    def translation_changed(self) -> None:
        """See :class:`AddressSpace`."""
        self._walks.clear()
