"""RES0 bits in descriptors: which they are for each granule and level, and that a scan reports them."""

from __future__ import annotations

import pytest

from kexecdbg.arm64.bits import field_mask
from kexecdbg.arm64.geometry import GRANULE_4K, GRANULE_16K, GRANULE_64K, Granule
from kexecdbg.arm64.ranges import ProblemKind
from kexecdbg.arm64.regimes import Regime
from kexecdbg.arm64.scan import scan
from kexecdbg.lab.tables import table_format
from tests.unit.arm64.tables import Words, page_path, registers

HIGH = 3 << 48
ROOT, VA, LEAF = 0x5000_0000, 0x4030_1000, 0x4030_1713


@pytest.mark.parametrize(
    ("granule", "level", "is_table", "expected"),
    [
        (GRANULE_4K, 3, False, HIGH),
        (GRANULE_4K, 0, True, HIGH),
        (GRANULE_4K, 2, False, HIGH | field_mask(20, 12) & ~(1 << 16)),
        (GRANULE_4K, 1, False, HIGH | field_mask(29, 12) & ~(1 << 16)),
        (GRANULE_16K, 3, False, HIGH | field_mask(13, 12)),
        (GRANULE_16K, 1, True, HIGH | field_mask(13, 12)),
        (GRANULE_64K, 3, False, HIGH | field_mask(15, 12)),
        (GRANULE_64K, 2, False, HIGH | field_mask(28, 12) & ~(1 << 16)),
    ],
)
def test_the_address_bits_that_a_descriptor_does_not_have_are_reserved(
    granule: Granule, level: int, is_table: bool, expected: int
) -> None:
    assert table_format(granule, 48).reserved_bits(level, is_table=is_table) == expected


def test_52_bit_descriptors_use_some_of_them() -> None:
    assert table_format(GRANULE_4K, 52, wide=True).reserved_bits(3, is_table=False) == 0
    assert table_format(GRANULE_16K, 52, wide=True).reserved_bits(0, is_table=True) == field_mask(13, 12)
    assert table_format(GRANULE_64K, 52, wide=True).reserved_bits(3, is_table=False) == HIGH


@pytest.mark.parametrize(
    ("bits", "level", "text"), [(1 << 49, 3, "49"), (HIGH, 3, "49, 48"), (1 << 17 | 1 << 12, 2, "17, 12")]
)
def test_a_scan_names_the_entry_and_the_bits(bits: int, level: int, text: str) -> None:
    if level == 3:
        words = page_path(LEAF | bits, VA, ROOT)
        address = ROOT + 0x3_0000 + 8 * (VA >> 12 & 511)
    else:
        words = page_path(0, VA, ROOT)
        address = ROOT + 0x2_0000 + 8 * (VA >> 21 & 511)
        words[address] = (LEAF & ~0x1F_FFFF | 0x711) | bits
    result = scan(registers(TTBR0_EL2=ROOT, TCR_EL2=0x8084_3510), Words(words), Regime.EL2)
    (problem,) = result.problems
    assert (problem.kind, problem.address, problem.target) == (ProblemKind.RESERVED_BITS, address, bits)
    assert problem.text.endswith(f"has bits {text} set, which are RES0")
    assert len(result.ranges) == 1


def test_the_nt_bit_and_software_bits_are_nobodys_business() -> None:
    words = page_path(0, VA, ROOT)
    words[ROOT + 0x2_0000 + 8 * (VA >> 21 & 511)] = 0x4020_0711 | 1 << 16 | field_mask(58, 55)
    assert scan(registers(TTBR0_EL2=ROOT, TCR_EL2=0x8084_3510), Words(words), Regime.EL2).problems == ()
