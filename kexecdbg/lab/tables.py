"""Builds translation tables for lab guests: any granule, size and start level, any descriptor, right or wrong."""

from __future__ import annotations

import struct
from collections.abc import Callable

from kexecdbg.arm64.bits import mask
from kexecdbg.arm64.geometry import GRANULE_4K, LAST_LEVEL, Granule, TableFormat, stage1_start_level
from kexecdbg.errors import KexecdbgError

_TABLE_TYPE, _PAGE_TYPE, _BLOCK_TYPE = 0b11, 0b11, 0b01
_TYPE_BITS = 0b11

# Linux 5.3 arch/arm64/include/asm/pgtable-prot.h, with MT_NORMAL at MAIR index 4 as it was then.
PAGE_KERNEL = 0x00E8_0000_0000_0713
"""Linux 5.3's PAGE_KERNEL: read and write, PXN and UXN set."""
PAGE_KERNEL_EXEC = 0x00C8_0000_0000_0713
"""Linux 5.3's PAGE_KERNEL_EXEC: PXN (bit 53) clear, UXN (bit 54) still set."""


def table_format(granule: Granule, input_bits: int, *, wide: bool = False, big_endian: bool = False) -> TableFormat:
    """The format of tables for addresses of ``input_bits`` bits.

    ``wide`` asks for 52-bit output addresses: FEAT_LPA2 (TCR.DS) with 4K and 16K, FEAT_LPA with 64K.
    """
    lpa = wide and granule.shift == 16
    return TableFormat(
        granule=granule,
        input_bits=input_bits,
        start_level=stage1_start_level(granule, input_bits),
        output_bits=52 if wide else 48,
        ds=wide and not lpa,
        lpa=lpa,
        big_endian=big_endian,
    )


LINUX_4K_48BIT = table_format(GRANULE_4K, 48)
"""What the trans_table of the 2019 series is made for: 4 levels."""


class Arena:
    """Physical memory from ``start`` to ``end`` (exclusive) that tables are allocated from, ascending."""

    def __init__(self, start: int, end: int) -> None:
        self._next, self._end = start, end

    def allocate(self, size: int) -> int:
        """The address of ``size`` fresh bytes (a power of two), aligned to their size.

        Raises:
            KexecdbgError: there is no room left.
        """
        address = (self._next + size - 1) & ~(size - 1)
        if address + size > self._end:
            raise KexecdbgError(f"lab tables: no room for {size:#x} bytes below {self._end:#x}")
        self._next = address + size
        return address


class TableBuilder:
    """The tables of one address range of a stage 1 regime, built top-down as they are needed.

    ``allocate`` gives the physical address of a fresh table of so many bytes; the first call gives the root.
    ``table_bits`` is ORed into every table descriptor (the upper attributes, for instance bit 60, UXNTable or XNTable).
    The format need not be the one that the control registers will say: that is how defects are made.
    """

    def __init__(
        self, allocate: Callable[[int], int], table_bits: int = 0, table: TableFormat = LINUX_4K_48BIT
    ) -> None:
        self.table = table
        self._allocate = allocate
        self._table_bits = table_bits
        self._tables: dict[int, list[int]] = {}
        self.root = self._new_table(table.start_level)

    def map_page(self, va: int, pa: int, attributes: int) -> None:
        """Map the page at ``va`` to ``pa``; ``attributes`` are all other bits of the level 3 descriptor."""
        self.map_leaf(va, pa, attributes, LAST_LEVEL)

    def map_leaf(self, va: int, pa: int, attributes: int, level: int) -> None:
        """Map the page or block that ``va`` lies in to the one that ``pa`` lies in.

        ``level`` need not be one that the granule allows blocks at. The type bits of ``attributes`` do not count.
        """
        size_bits = self.table.shift(level)
        kind = _PAGE_TYPE if level == LAST_LEVEL else _BLOCK_TYPE
        output = encode_address(self.table, pa >> size_bits << size_bits)
        self.set_descriptor(va, level, output | attributes & ~_TYPE_BITS | kind)

    def set_descriptor(self, va: int, level: int, descriptor: int) -> None:
        """Overwrite the descriptor on the path to ``va`` at ``level``, whatever it was."""
        self._tables[self._table_of(va, level)][self.table.index(va, level)] = descriptor

    def change_descriptor(self, va: int, level: int, *, set_bits: int = 0, clear_bits: int = 0) -> None:
        """Set and clear bits of the descriptor on the path to ``va`` at ``level``."""
        self.set_descriptor(va, level, self.descriptor(va, level) & ~clear_bits | set_bits)

    def descriptor(self, va: int, level: int = LAST_LEVEL) -> int:
        """The descriptor on the path to ``va`` at ``level``."""
        return self._tables[self._table_of(va, level)][self.table.index(va, level)]

    def descriptor_address(self, va: int, level: int = LAST_LEVEL) -> int:
        """Physical address of the descriptor on the path to ``va`` at ``level``."""
        return self._table_of(va, level) + 8 * self.table.index(va, level)

    def pages(self) -> dict[int, bytes]:
        """Every table's contents by physical address, in the byte order of the format."""
        word = struct.Struct(">Q" if self.table.big_endian else "<Q")
        return {address: b"".join(map(word.pack, entries)) for address, entries in self._tables.items()}

    def _table_of(self, va: int, level: int) -> int:
        table = self.root
        for upper in range(self.table.start_level, level):
            index = self.table.index(va, upper)
            if not self._tables[table][index]:
                child = self._new_table(upper + 1)
                self._tables[table][index] = encode_address(self.table, child) | _TABLE_TYPE | self._table_bits
            table = self.table.output_address(self._tables[table][index], self.table.granule.shift)
        return table

    def _new_table(self, level: int) -> int:
        # A root smaller than a granule gets a whole one: what else lies in its page is of no account.
        entries = 1 << max(self.table.index_bits(level), self.table.granule.stride)
        address = self._allocate(8 * entries)
        self._tables[address] = [0] * entries
        return address


def encode_address(table: TableFormat, address: int) -> int:
    """``address`` as the address bits of a descriptor; the inverse of :meth:`TableFormat.output_address`."""
    value = address & mask(48)
    if table.ds:
        return value | (address >> 48 & 3) << 48 | (address >> 50 & 3) << 8
    if table.lpa:
        return value & ~0xF000 | (address >> 48 & 0xF) << 12
    return value
