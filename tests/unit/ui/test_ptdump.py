"""``--format ptdump``: a whole table as the kernel prints its own.

The golden lines are those of a kernel on ``-cpu max`` with 52-bit addresses, in pwndbg/pwndbg issue 3285.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from kexecdbg.arm64.geometry import GRANULE_4K, TableFormat
from kexecdbg.arm64.memory_types import MemoryType, memory_type_of_mair_byte
from kexecdbg.arm64.ranges import NO_ACCESS, MappedRange, RangeAttributes, TableScan
from kexecdbg.arm64.regimes import Regime
from kexecdbg.ui.ptdump import ptdump_text
from kexecdbg.ui.style import Style
from kexecdbg.ui.table_text import table_text

BASE = 0xFFF0_0000_0000_0000
TAGGED, NORMAL, DEVICE = (memory_type_of_mair_byte(byte) for byte in (0xF0, 0xFF, 0x04))
READ_WRITE, READ_ONLY = 1 << 54 | 1 << 53 | 1 << 10, 1 << 54 | 1 << 53 | 1 << 10 | 1 << 7
EXECUTABLE = 1 << 54 | 1 << 50 | 1 << 10 | 1 << 8 | 1 << 7

GOLDEN = """\
0xfff0000000000000-0xfff0000000210000        2112K PTE       RW NX     AF            UXN    MEM/NORMAL-TAGGED
0xfff0000000210000-0xfff0000000400000        1984K PTE       ro NX     AF            UXN    MEM/NORMAL
0xfff0000000400000-0xfff0000002200000          30M PMD       ro NX     AF        BLK UXN    MEM/NORMAL
0xfff0000002200000-0xfff0000002250000         320K PTE       ro NX     AF            UXN    MEM/NORMAL
0xfff0000002250000-0xfff0000002d88000       11488K PTE       RW NX     AF            UXN    MEM/NORMAL-TAGGED
0xfff0000002d88000-0xfff0000002e18000         576K PTE       ro NX     AF            UXN    MEM/NORMAL-TAGGED
0xfff0000002e18000-0xfff0000002e50000         224K PTE       RW NX     AF            UXN    MEM/NORMAL-TAGGED
0xfff0000002e50000-0xfff0000002fc0000        1472K PTE       ro NX     AF            UXN    MEM/NORMAL-TAGGED
0xfff0000002fc0000-0xfff0000080000000     2048256K PTE       RW NX     AF            UXN    MEM/NORMAL-TAGGED
0xfff0000080000000-0xfff0008000000000         510G PUD
0xfff0008000000000-0xfff1000000000000      261632G P4D
""".splitlines()


def mapped(va: int, end: int, descriptor: int, memory_type: MemoryType, level: int = 3) -> MappedRange:
    attributes = RangeAttributes(
        descriptor=descriptor,
        inherited=0,
        privileged=NO_ACCESS,
        user=None,
        memory_type=memory_type,
        shareability=None,
        access_flag=True,
        guarded=False,
        contiguous=False,
        dirty_modifier=False,
        not_global=False,
    )
    return MappedRange(va, end, 0x4000_0000, 1 << GRANULE_4K.level_shift(level), level, attributes)


def table(ranges: list[MappedRange], register: str = "TTBR1_EL1", input_bits: int = 52) -> TableScan:
    start_level = 3 - (input_bits - 13) // 9
    form = TableFormat(GRANULE_4K, input_bits, start_level, 52, ds=input_bits > 48, lpa=False)
    return TableScan(Regime.EL1_0, 0x4000_0000, register, form, tuple(ranges), 0, (), (), 0, False, (), ())


BOUNDS = (
    0, 0x21_0000, 0x40_0000, 0x220_0000, 0x225_0000, 0x2D8_8000, 0x2E1_8000, 0x2E5_0000, 0x2FC_0000, 0x8000_0000
)  # fmt: skip
LINEAR_MAP = [
    mapped(BASE + start, BASE + end, descriptor, memory_type, level)
    for (start, end), (descriptor, memory_type, level) in zip(
        pairwise(
            (0, 0x210000, 0x400000, 0x2200000, 0x2250000, 0x2D88000, 0x2E18000, 0x2E50000, 0x2FC0000, 0x8000_0000)
        ),
        (
            (READ_WRITE, TAGGED, 3),
            (READ_ONLY, NORMAL, 3),
            (READ_ONLY, NORMAL, 2),
            (READ_ONLY, NORMAL, 3),
            (READ_WRITE, TAGGED, 3),
            (READ_ONLY, TAGGED, 3),
            (READ_WRITE, TAGGED, 3),
            (READ_ONLY, TAGGED, 3),
            (READ_WRITE, TAGGED, 3),
        ),
        strict=True,
    )
]


def test_the_linear_map_of_a_kernel_with_52_bit_addresses() -> None:
    scan = table(LINEAR_MAP)
    lines = ptdump_text(scan, scan.ranges).splitlines()
    assert lines[: len(GOLDEN)] == GOLDEN
    # What is not mapped goes on to the end of the address space, which ptdump prints as 0.
    assert lines[len(GOLDEN) :] == ["0xfff1000000000000-0x0000000000000000        3840T PGD"]


def test_physical_gaps_do_not_split_and_holes_of_one_level_are_one() -> None:
    """A hole over the end of one level 3 table into the next; two ranges that differ in their output addresses only."""
    first = mapped(0x3000, 0x5000, EXECUTABLE, NORMAL)
    ranges = [first, mapped(0x5000, 0x6000, EXECUTABLE, NORMAL), mapped(0x20_2000, 0x20_3000, READ_WRITE, DEVICE)]
    scan = table(ranges, "TTBR0_EL1", 39)
    assert ptdump_text(scan, scan.ranges).splitlines() == [
        "0x0000000000000000-0x0000000000003000          12K PTE",
        "0x0000000000003000-0x0000000000006000          12K PTE       ro x  SHD AF            UXN GP MEM/NORMAL",
        "0x0000000000006000-0x0000000000202000        2032K PTE",
        "0x0000000000202000-0x0000000000203000           4K PTE       RW NX     AF            UXN    DEVICE/nGnRE",
        "0x0000000000203000-0x0000000000400000        2036K PTE",
        "0x0000000000400000-0x0000000040000000        1020M PMD",
        "0x0000000040000000-0x0000008000000000         511G PGD",
    ]


@pytest.mark.parametrize(
    ("regime", "words"),
    [
        (Regime.EL1_0, None),
        (Regime.EL2_0, None),
        (Regime.EL2, "UXN (bit 54) is XN"),
        (Regime.EL3, "UXN (bit 54) is XN"),
        (None, "bits 7:6 (ro, USR) are S2AP"),
    ],
)
def test_other_regimes_than_the_kernels_are_noted(regime: Regime | None, words: str | None) -> None:
    scan = replace(table([mapped(0, 0x1000, EXECUTABLE, NORMAL)], "TTBR0_EL2", 39), regime=regime)
    _, note = ptdump_text(scan, scan.ranges).partition("note")[1:]
    assert words in " ".join(note.split()) if words else note == ""


def test_tagged_memory_has_a_short_name_in_the_text_too() -> None:
    scan = table(LINEAR_MAP)
    lines = table_text(scan, scan.ranges, Style(False)).splitlines()
    first = next(line for line in lines if line.startswith(f"{scan.ranges[0].va:016x}-"))
    assert first.endswith("Normal WB Tag") and len(first) <= 80


def test_a_selection_has_no_holes() -> None:
    scan = table(LINEAR_MAP)
    assert ptdump_text(scan, [scan.ranges[0], scan.ranges[4]]).splitlines() == [GOLDEN[0], GOLDEN[4]]
