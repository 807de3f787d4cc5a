"""Builds translation tables for lab guests: 4 KiB granule, 4 levels, any descriptor, right or wrong."""

from __future__ import annotations

from collections.abc import Callable

_ENTRIES = 512
_TABLE_TYPE = 0b11
_SHIFTS = (39, 30, 21, 12)

PAGE_SIZE = 4096

# Linux 5.3 arch/arm64/include/asm/pgtable-prot.h, with MT_NORMAL at MAIR index 4 as it was then.
PAGE_KERNEL = 0x00E8_0000_0000_0713
"""Linux 5.3's PAGE_KERNEL: read and write, PXN and UXN set."""
PAGE_KERNEL_EXEC = 0x00C8_0000_0000_0713
"""Linux 5.3's PAGE_KERNEL_EXEC: PXN (bit 53) clear, UXN (bit 54) still set."""


class TableBuilder:
    """Page tables for one translation regime, built top-down as trans_table_map_page() of the 2019 series did.

    ``allocate_page`` gives the physical address of a fresh page; the first call gives the root. ``table_bits`` is
    ORed into every table descriptor (the upper attributes, for instance bit 60, UXNTable or XNTable).
    """

    def __init__(self, allocate_page: Callable[[], int], table_bits: int = 0) -> None:
        self._allocate_page = allocate_page
        self._table_bits = table_bits
        self.root = allocate_page()
        self._tables: dict[int, list[int]] = {self.root: [0] * _ENTRIES}

    def map_page(self, va: int, pa: int, attributes: int) -> None:
        """Map the 4 KiB page at ``va`` to ``pa``; ``attributes`` are all other bits of the level 3 descriptor."""
        self._tables[self._table_of(va)][self._index(va, 3)] = pa | attributes

    def set_descriptor(self, va: int, level: int, descriptor: int) -> None:
        """Overwrite the descriptor on the path to ``va`` at ``level`` (0 to 3), whatever it was."""
        self._tables[self._table_of(va, level)][self._index(va, level)] = descriptor

    def descriptor(self, va: int, level: int = 3) -> int:
        """The descriptor on the path to ``va`` at ``level``."""
        return self._tables[self._table_of(va, level)][self._index(va, level)]

    def descriptor_address(self, va: int, level: int = 3) -> int:
        """Physical address of the descriptor on the path to ``va`` at ``level``."""
        return self._table_of(va, level) + 8 * self._index(va, level)

    def pages(self) -> dict[int, bytes]:
        """Every table's contents by physical address."""
        return {
            address: b"".join(entry.to_bytes(8, "little") for entry in entries)
            for address, entries in self._tables.items()
        }

    def _table_of(self, va: int, level: int = 3) -> int:
        table = self.root
        for upper in range(level):
            index = self._index(va, upper)
            if not self._tables[table][index]:
                child = self._allocate_page()
                self._tables[child] = [0] * _ENTRIES
                self._tables[table][index] = child | _TABLE_TYPE | self._table_bits
            table = self._tables[table][index] & 0x0000_FFFF_FFFF_F000
        return table

    @staticmethod
    def _index(va: int, level: int) -> int:
        return (va >> _SHIFTS[level]) % _ENTRIES
