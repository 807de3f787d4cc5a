"""Translation tables for tests: sparse memory, register defaults, and a builder of one path or many."""

from __future__ import annotations

from pathlib import Path

from kexecdbg.arm64.geometry import TableFormat
from kexecdbg.errors import MemoryUnreadableError

DATA = Path(__file__).resolve().parents[2] / "data" / "walks"

# ID registers of QEMU's CPU model "max", as far as they matter: 52-bit PA, LPA2 for 4K and 16K, LVA, TTST, XNX,
# HAFDBS 2, HPDS, PAN 3, VHE, E0PD, FWB.
MAX_CPU = {
    "ID_AA64MMFR0_EL1": 0x0323_1020_0006,
    "ID_AA64MMFR1_EL1": 1 << 28 | 3 << 20 | 2 << 12 | 1 << 8 | 2,
    "ID_AA64MMFR2_EL1": 1 << 60 | 1 << 40 | 1 << 28 | 1 << 16,
    "ID_AA64MMFR3_EL1": 0,
    "ID_AA64MMFR4_EL1": 0,
    "ID_AA64PFR0_EL1": 0x1111,
}

DEFAULTS = {
    "HCR_EL2": 0x8000_0000,
    "SCTLR_EL1": 0x30D0_1805,
    "SCTLR_EL2": 0x30C5_1835,
    "TCR_EL1": 0x5_B510_3510,
    "TCR_EL2": 0x8085_3510,
    "MAIR_EL1": 0xBBFF_440C_0400,
    "MAIR_EL2": 0xBBFF_440C_0400,
    "TTBR0_EL1": 0,
    "TTBR1_EL1": 0,
    "TTBR0_EL2": 0,
    "TTBR1_EL2": 0,
    "VTCR_EL2": 0,
    "VTTBR_EL2": 0,
    "PSTATE": 0x3C9,
}


def registers(**changes: int) -> dict[str, int]:
    """The defaults on the "max" CPU, with changes."""
    return {**DEFAULTS, **MAX_CPU, **changes}


class Words:
    """Memory of 8-byte words, zero unless set, with an optional set of holes: pages that cannot be read."""

    def __init__(self, words: dict[int, int] | None = None, holes: frozenset[int] = frozenset()) -> None:
        self.words = dict(words or {})
        self.holes = holes
        self.reads = 0

    def read(self, address: int, size: int) -> bytes:
        self.reads += 1
        if any(page in self.holes for page in range(address >> 12, (address + size - 1 >> 12) + 1)):
            raise MemoryUnreadableError(address, size, "a hole")
        return b"".join(self.words.get(word, 0).to_bytes(8, "little") for word in range(address, address + size, 8))

    def big_endian(self) -> Words:
        """The same memory with every word byte-swapped."""
        swapped = {a: int.from_bytes(w.to_bytes(8, "little"), "big") for a, w in self.words.items()}
        return Words(swapped, self.holes)


class RamOnly:
    """A block of bytes at ``start``; everything else is a hole."""

    def __init__(self, start: int, data: bytes) -> None:
        self.start, self.data = start, data

    def read(self, address: int, size: int) -> bytes:
        offset = address - self.start
        if offset < 0 or offset + size > len(self.data):
            raise MemoryUnreadableError(address, size, "outside RAM")
        return self.data[offset : offset + size]


def page_path(leaf: int, va: int = 0x40301000, root: int = 0x5000_0000, table_bits: int = 0) -> dict[int, int]:
    """4K tables with 48-bit addresses down to the level 3 descriptor ``leaf`` for ``va``.

    ``table_bits`` goes into the level 0 table descriptor.
    """
    one, two, three = root + 0x1_0000, root + 0x2_0000, root + 0x3_0000
    return {
        root + 8 * (va >> 39 & 511): one | 3 | table_bits,
        one + 8 * (va >> 30 & 511): two | 3,
        two + 8 * (va >> 21 & 511): three | 3,
        three + 8 * (va >> 12 & 511): leaf,
    }


def path_to_level(table: TableFormat, base: int, va: int, last: int, leaf: int) -> dict[int, int]:
    """Tables of ``table``'s shape from ``base`` to ``leaf`` at level ``last``; each next table is 1 MiB further."""
    words = {}
    for level in range(table.start_level, last):
        shift = table.granule.shift + (3 - level) * (table.granule.shift - 3)
        width = table.input_bits - shift if level == table.start_level else table.granule.shift - 3
        following = base + 0x10_0000
        words[base + 8 * (va >> shift & ((1 << width) - 1))] = following | 3
        base = following
    shift = table.granule.shift + (3 - last) * (table.granule.shift - 3)
    width = table.input_bits - shift if last == table.start_level else table.granule.shift - 3
    words[base + 8 * (va >> shift & ((1 << width) - 1))] = leaf
    return words
