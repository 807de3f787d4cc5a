"""Table entries printed by an oops, by level, against the syndrome."""

from __future__ import annotations

from pathlib import Path

import pytest

from kexecdbg.arm64.descriptors import DescriptorKind
from kexecdbg.checks.printed_walk import Agreement, WalkJudgement, judge_walk
from kexecdbg.machine.pasted_text import PrintedWalk, read_pasted_text

DATA = Path(__file__).parents[2] / "data" / "decode"


def judged(name: str, **more: int) -> WalkJudgement:
    found = read_pasted_text((DATA / name).read_text())
    values = {**found.values, **more}
    esr = next(value for name, value in values.items() if name.startswith("ESR"))
    return judge_walk(found.walks[0], esr, values)


def levels(walk: WalkJudgement) -> list[tuple[str, int, DescriptorKind]]:
    return [(item.name, item.level, item.kind) for item in walk.levels]


def test_four_levels_without_p4d() -> None:
    walk = judged("oops_4k48.txt")
    table = DescriptorKind.TABLE
    assert levels(walk) == [("pgd", 0, table), ("pud", 1, table), ("pmd", 2, table), ("pte", 3, DescriptorKind.INVALID)]
    assert [item.output for item in walk.levels] == [0x7FEFF000, 0x7FEFE000, 0x7FEFA000, None]
    assert walk.agreement is Agreement.AGREES
    assert walk.text[0] == "The level 3 descriptor (pte) is empty."


def test_16k_with_47_bits_starts_at_level_1() -> None:
    walk = judged("oops_16k47.txt")
    assert levels(walk) == [("pgd", 1, DescriptorKind.INVALID)]
    assert walk.geometry == "16K pages, 47-bit addresses: levels 1 to 3"
    assert walk.agreement is Agreement.AGREES


def test_three_levels_fold_p4d_and_pud_into_pgd() -> None:
    walk = judged("oops_4k39_vhe.txt")
    assert levels(walk) == [("pgd=p4d=pud", 1, DescriptorKind.INVALID)]
    assert walk.agreement is Agreement.AGREES


def test_a_syndrome_that_the_entries_do_not_explain_is_left_as_it_is() -> None:
    walk = judged("oops_disagrees.txt")
    assert [item.name for item in walk.levels] == ["pgd=p4d", "pud", "pmd", "pte"]
    assert walk.leaf is not None and walk.leaf.output == 0x2000155000
    assert walk.stop is None and walk.rights == ("rw-", "---")
    assert walk.agreement is Agreement.OPEN
    assert "0x20fffff000, needs 38 bits" in walk.text[1] and "Neither is corrected" in walk.text[1]


def test_the_output_size_settles_an_address_size_fault() -> None:
    assert judged("oops_disagrees.txt", TCR_EL1=4 << 32).agreement is Agreement.DIFFERS
    assert judged("oops_disagrees.txt", TCR_EL1=1 << 32).agreement is Agreement.AGREES


def test_a_permission_fault_is_explained_by_the_bit() -> None:
    walk = judged("oops_pxn.txt")
    assert walk.agreement is Agreement.AGREES
    assert walk.leaf is not None and (walk.leaf.level, walk.leaf.output) == (2, 0x7F8E00000)
    assert "map 0xffffbd2fe97a3ba0 to 0x7f8fa3ba0 (block, level 2)" in walk.text[0]
    assert "PXN in the leaf" in walk.text[1]


PAGE = 0x0068_0000_8000_0F03
TABLE = 0x8000_1003


@pytest.mark.parametrize(
    ("esr", "pte", "agreement"),
    [
        (0x96000006, 0, Agreement.DIFFERS),  # level 2 said, level 3 empty
        (0x96000007, PAGE, Agreement.DIFFERS),  # the entry is valid by now
        (0x9600000B, PAGE & ~(1 << 10), Agreement.AGREES),  # AF is 0
        (0x9600000B, PAGE, Agreement.DIFFERS),
        (0x9600004F, PAGE | 0x80, Agreement.AGREES),  # write to a read-only page
        (0x9600000F, PAGE | 0x80, Agreement.DIFFERS),  # but a read is allowed
        (0x9200000F, PAGE, Agreement.AGREES),  # EL0, kernel page
        (0x96000010, PAGE, Agreement.OPEN),  # external abort
        (0xF200F000, PAGE, Agreement.OPEN),  # brk
        (None, PAGE, Agreement.OPEN),
    ],
)
def test_agreement(esr: int | None, pte: int, agreement: Agreement) -> None:
    walk = PrintedWalk(0x1000, (("pgd", TABLE), ("pud", TABLE), ("pmd", TABLE), ("pte", pte)), 4, 48)
    assert judge_walk(walk, esr, {}).agreement is agreement


@pytest.mark.parametrize(
    ("page_kib", "va_bits", "expected"),
    [
        (4, 52, [-1, 0, 1, 2, 3]),
        (4, 48, [0, 0, 1, 2, 3]),
        (4, 39, [1, 1, 1, 2, 3]),
        (16, 48, [0, 0, 1, 2, 3]),
        (16, 47, [1, 1, 1, 2, 3]),
        (16, 36, [2, 2, 2, 2, 3]),
        (64, 52, [1, 1, 1, 2, 3]),
        (64, 42, [2, 2, 2, 2, 3]),
    ],
)
def test_level_of_each_name(page_kib: int, va_bits: int, expected: list[int]) -> None:
    # Different values at a folded level: each stays its own line, and it is said that they should be one.
    names = ("pgd", "p4d", "pud", "pmd", "pte")
    entries = tuple((name, TABLE + (index << 16)) for index, name in enumerate(names))
    walk = judge_walk(PrintedWalk(0x1000, entries, page_kib, va_bits), None, {})
    assert [item.level for item in walk.levels] == expected
    assert len(walk.assumptions) == 5 - len(set(expected))


def test_without_a_pgtable_line_the_geometry_is_said_to_be_assumed() -> None:
    walk = judge_walk(PrintedWalk(0x10, (("pgd", TABLE), ("pud", TABLE), ("pmd", 0))), 0x92000006, {})
    assert [item.name for item in walk.levels] == ["pgd=pud", "pmd"]
    assert walk.agreement is Agreement.AGREES
    assert "no usable 'pgtable:' line" in walk.assumptions[0]
