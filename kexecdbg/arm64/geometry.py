"""Translation granules and the shape of translation tables, for both stages.

Arm ARM D8.2 (translation process, tables 8-10 to 8-34); pseudocode ``TGxGranuleBits``, ``AArch64.S1StartLevel``,
``AArch64.BlockDescSupported``, ``ContiguousSize``. A level is an integer from -1 to 3.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from kexecdbg.arm64.bits import mask

LAST_LEVEL = 3


@dataclass(frozen=True)
class Granule:
    """A translation granule.

    Attributes:
        name: ``4K``, ``16K`` or ``64K``.
        shift: log2 of its size in bytes.
        block_levels: levels at which a block descriptor is always legal.
        wide_block_level: a further one, legal with 52-bit addresses only (TCR.DS for 4K and 16K, FEAT_LPA for 64K).
        contiguous: number of entries in a contiguous run, by level.
    """

    name: str
    shift: int
    block_levels: frozenset[int]
    wide_block_level: int
    contiguous: Mapping[int, int] = field(hash=False)

    @property
    def stride(self) -> int:
        """Address bits that one full table resolves."""
        return self.shift - 3

    def level_shift(self, level: int) -> int:
        """log2 of the bytes that one entry of a table at ``level`` maps."""
        return self.shift + (LAST_LEVEL - level) * self.stride


GRANULE_4K = Granule("4K", 12, frozenset({1, 2}), 0, {1: 16, 2: 16, 3: 16})
GRANULE_16K = Granule("16K", 14, frozenset({2}), 1, {2: 32, 3: 128})
GRANULE_64K = Granule("64K", 16, frozenset({2}), 1, {2: 32, 3: 32})


def no_granule_text(field: str, position: tuple[int, int], why: str) -> str:
    """The clause about a TGn ``field``, at bits (msb, lsb), that selects no granule; ``why`` is its predicate."""
    msb, lsb = position
    return f"{field} (bits {msb}:{lsb}) {why}: which granule the CPU takes instead is IMPLEMENTATION DEFINED"


#: TCR_ELx.TG0 and VTCR_EL2.TG0. 3 is reserved.
TG0_GRANULES: Mapping[int, Granule] = {0: GRANULE_4K, 1: GRANULE_64K, 2: GRANULE_16K}
#: TCR_ELx.TG1, which has a coding of its own. 0 is reserved.
TG1_GRANULES: Mapping[int, Granule] = {1: GRANULE_16K, 2: GRANULE_4K, 3: GRANULE_64K}

#: Bits of an address by the coding of TCR_ELx.PS, IPS and ID_AA64MMFR0_EL1.PARange. 7 needs FEAT_D128.
ADDRESS_SIZES = (32, 36, 40, 42, 44, 48, 52, 56)


def stage1_start_level(granule: Granule, input_bits: int) -> int:
    """The level of the first table for addresses of ``input_bits`` bits (pseudocode ``AArch64.S1StartLevel``)."""
    return LAST_LEVEL - (input_bits - 1 - granule.shift) // granule.stride


@dataclass(frozen=True)
class TableFormat:
    """Everything about the tables of one VA range (stage 1) or of the IPA space (stage 2), except their contents.

    Attributes:
        granule: the granule.
        input_bits: bits of the input address; 64 - TxSZ.
        start_level: level of the first table, -1 to 3.
        output_bits: bits of an output or table address; anything above is an Address size fault.
        ds: descriptors hold 52-bit addresses in the FEAT_LPA2 layout (4K and 16K with TCR.DS).
        lpa: descriptors hold 52-bit addresses in the FEAT_LPA layout (64K).
        big_endian: descriptors are big-endian in memory (SCTLR_ELx.EE).
        hardware_af: the CPU sets the Access flag itself (TCR.HA).
        stage: 1 or 2.
    """

    granule: Granule
    input_bits: int
    start_level: int
    output_bits: int
    ds: bool = False
    lpa: bool = False
    big_endian: bool = False
    hardware_af: bool = False
    stage: int = 1

    def shift(self, level: int) -> int:
        """log2 of the bytes one entry at ``level`` maps."""
        return self.granule.level_shift(level)

    def index_bits(self, level: int) -> int:
        """Address bits that index a table at ``level``; the first table may be smaller or larger than a granule."""
        return self.input_bits - self.shift(level) if level == self.start_level else self.granule.stride

    def index(self, address: int, level: int) -> int:
        """The entry of a table at ``level`` that translates ``address``."""
        return (address >> self.shift(level)) & mask(self.index_bits(level))

    @property
    def base_alignment(self) -> int:
        """Alignment of the first table in bytes: its size, and at least 64 with 52-bit addresses."""
        size = 8 << self.index_bits(self.start_level)
        return max(size, 64) if self.ds or (self.lpa and self.output_bits > 48) else size

    def block_allowed(self, level: int) -> bool:
        """Whether a block descriptor is legal at ``level`` (pseudocode ``AArch64.BlockDescSupported``)."""
        wide = self.ds or self.lpa
        return level in self.granule.block_levels or (wide and level == self.granule.wide_block_level)

    def contiguous_entries(self, level: int) -> int:
        """Entries in a contiguous run at ``level``; 1 where the Contiguous bit has no meaning."""
        return self.granule.contiguous.get(level, 1)

    def output_address(self, descriptor: int, low_bit: int) -> int:
        """The address field of ``descriptor`` down to ``low_bit``: the level's shift in a leaf, the granule's in a
        table descriptor (Arm ARM D8.3; pseudocode ``AArch64.LeafBase``, ``AArch64.NextTableBase``)."""
        address = (descriptor & mask(48)) >> low_bit << low_bit
        if self.ds:
            return address | ((descriptor >> 48) & 3) << 48 | ((descriptor >> 8) & 3) << 50
        if self.lpa:
            return address | ((descriptor >> 12) & 0xF) << 48
        return address

    def reserved_bits(self, level: int, *, is_table: bool) -> int:
        """The RES0 bits among the address bits of a descriptor, as a mask (Arm ARM D8.3.1, D8.3.2).

        They are what an address leaves free that is aligned to more than 4 KiB, and bits [49:48] without DS. Bit 16
        of a block is nT, and not among them.
        """
        lowest = self.granule.shift if is_table else self.shift(level)
        reserved = mask(lowest) & ~mask(12)
        if self.lpa:
            reserved &= ~(0xF << 12)
        if not is_table and level < LAST_LEVEL:
            reserved &= ~(1 << 16)
        return reserved if self.ds else reserved | 3 << 48

    def fits(self, address: int) -> bool:
        """Whether ``address`` lies within the output size."""
        return address >> self.output_bits == 0
