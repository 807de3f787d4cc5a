"""64-bit translation table descriptors: kinds and the names of their bits.

Arm ARM D8.3 (descriptor formats). What bit 54 is called depends on the regime, so the names come per layout.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from kexecdbg.arm64.bits import bit
from kexecdbg.arm64.geometry import LAST_LEVEL, TableFormat

VALID_BIT, TABLE_BIT = 0, 1
AP1_BIT, AP2_BIT, AF_BIT, NG_BIT, NT_BIT = 6, 7, 10, 11, 16
GP_BIT, DBM_BIT, CONTIGUOUS_BIT, PXN_BIT, UXN_BIT = 50, 51, 52, 53, 54
PXN_TABLE_BIT, UXN_TABLE_BIT, AP_TABLE0_BIT, AP_TABLE1_BIT, NS_TABLE_BIT = 59, 60, 61, 62, 63
NDIRTY_BIT = 7  # AP[2]'s place, with permission indirection
S2AP_READ_BIT, S2AP_WRITE_BIT, S2_XN0_BIT, S2_XN1_BIT = 6, 7, 53, 54


class DescriptorKind(Enum):
    """What a descriptor is at its level; the value is the word used in output."""

    TABLE = "table"
    BLOCK = "block"
    PAGE = "page"
    INVALID = "invalid"
    RESERVED = "reserved"
    UNREADABLE = "unreadable"


LEAF_KINDS = frozenset({DescriptorKind.BLOCK, DescriptorKind.PAGE})


@dataclass(frozen=True)
class BitNames:
    """Names of the attribute bits of leaf and table descriptors in one regime or stage, by bit position."""

    leaf: Mapping[int, str]
    table: Mapping[int, str]


_COMMON_LEAF = {AF_BIT: "AF", GP_BIT: "GP", DBM_BIT: "DBM", CONTIGUOUS_BIT: "Contiguous"}

#: EL1&0 and EL2&0.
TWO_RANGE_NAMES = BitNames(
    leaf={AP1_BIT: "AP[1]", AP2_BIT: "AP[2]", NG_BIT: "nG", PXN_BIT: "PXN", UXN_BIT: "UXN", **_COMMON_LEAF},
    table={PXN_TABLE_BIT: "PXNTable", UXN_TABLE_BIT: "UXNTable", AP_TABLE0_BIT: "APTable[0]",
           AP_TABLE1_BIT: "APTable[1]", NS_TABLE_BIT: "NSTable"},
)  # fmt: skip
#: EL2 with HCR_EL2.E2H = 0, and EL3. Bit 6 is RES1, bits 53, 59 and 61 are RES0: they have no name here.
ONE_RANGE_NAMES = BitNames(
    leaf={AP2_BIT: "AP[2]", UXN_BIT: "XN", **_COMMON_LEAF},
    table={UXN_TABLE_BIT: "XNTable", AP_TABLE1_BIT: "APTable[1]", NS_TABLE_BIT: "NSTable"},
)
#: EL1&0 with HCR_EL2.{NV,NV1} = {1,1} (FEAT_NV).
NV1_NAMES = BitNames(
    leaf={AP2_BIT: "AP[2]", NG_BIT: "nG", UXN_BIT: "PXN", **_COMMON_LEAF},
    table={UXN_TABLE_BIT: "PXNTable", AP_TABLE1_BIT: "APTable[1]", NS_TABLE_BIT: "NSTable"},
)
#: Stage 2. Its table descriptors have no attributes.
STAGE2_NAMES = BitNames(
    leaf={S2AP_READ_BIT: "S2AP[0]", S2AP_WRITE_BIT: "S2AP[1]", AF_BIT: "AF", NG_BIT: "FnXS", DBM_BIT: "DBM",
          CONTIGUOUS_BIT: "Contiguous", S2_XN0_BIT: "XN[0]", S2_XN1_BIT: "XN[1]"},
    table={},
)  # fmt: skip


def descriptor_kind(table: TableFormat, descriptor: int, level: int) -> DescriptorKind:
    """What ``descriptor`` is at ``level`` (pseudocode ``AArch64.DecodeDescriptorType``).

    ``RESERVED`` is an encoding with bit 0 set that translates like an invalid one: bits [1:0] = 0b01 at level 3, or a
    block where the granule allows none.
    """
    if not bit(descriptor, VALID_BIT):
        return DescriptorKind.INVALID
    if bit(descriptor, TABLE_BIT):
        return DescriptorKind.PAGE if level == LAST_LEVEL else DescriptorKind.TABLE
    if table.block_allowed(level):
        return DescriptorKind.BLOCK
    return DescriptorKind.RESERVED


def set_bit_names(names: Mapping[int, str], descriptor: int) -> tuple[str, ...]:
    """Names of the attribute bits that are set in ``descriptor``, from the highest bit down."""
    return tuple(names[position] for position in sorted(names, reverse=True) if descriptor >> position & 1)
