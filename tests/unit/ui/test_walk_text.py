"""The text and the document of a walk: what stage 2 reports, and what decides the rights of EL0."""

from __future__ import annotations

import pytest

from kexecdbg.arm64.regimes import Regime
from kexecdbg.arm64.stage2 import stage2_of, translate_ipa
from kexecdbg.arm64.walk import walk
from kexecdbg.arm64.walk_result import Walk
from kexecdbg.ui.style import Style
from kexecdbg.ui.walk_json import stage2_json, walk_json
from kexecdbg.ui.walk_text import walk_command, walk_text
from tests.unit.arm64.tables import Words, page_path, registers

VA, ROOT, SECOND_ROOT = 0x4030_1000, 0x5000_0000, 0x6000_0000
PAGE = 0x4030_1713
STAGE2 = {"HCR_EL2": 0x8000_0001, "VTCR_EL2": 1 << 31 | 5 << 16 | 1 << 6 | 25, "VTTBR_EL2": SECOND_ROOT}
SECOND_GIB = {SECOND_ROOT + 8: 0x4000_07FD}
"""Stage 2 maps the second GiB, where the tables are, and nothing else."""


def two_stages(leaf: int, stage2: dict[int, int]) -> Walk:
    values = registers(TTBR0_EL1=ROOT, **STAGE2)
    return walk(values, Words({**page_path(leaf, VA, ROOT), **stage2}), VA, regime=Regime.EL1_0)


def text_of(result: Walk) -> str:
    return " ".join(walk_text(result, Style()).split())


def test_a_stage_2_fault_is_reported_to_el2() -> None:
    result = two_stages(0x8030_1713, SECOND_GIB)
    assert (
        "Translation fault, level 1, stage 2: ESR_EL2 0x82000005 on a fetch, 0x92000005 on a read, HPFAR_EL2 0x803010;"
        in text_of(result)
    )
    fault = walk_json(result)["result"]["fault"]
    assert (fault["esr"], fault["hpfar"], fault["stage"]) == ("0x92000005", "0x803010", 2)


def test_so_is_one_on_a_stage_1_table_walk() -> None:
    result = two_stages(PAGE, {})
    assert "ESR_EL2 0x82000085 on a fetch, 0x92000085 on a read, HPFAR_EL2 0x500000;" in text_of(result)
    assert walk_json(result)["result"]["faults"]["write"]["esr"] == "0x920000c5"


def test_what_decides_the_rights_of_el0() -> None:
    result = walk(registers(TTBR0_EL1=ROOT), Words(page_path(PAGE, VA, ROOT)), VA, regime=Regime.EL1_0)
    no_access = "bit 6 (AP[1], EL0 access) of the level 3 descriptor at 0x50030808 is clear"
    executable = "bit 54 of the level 3 descriptor at 0x50030808 is UXN in the EL1&0 regime and is clear"
    assert f"EL0 --x read, write: {no_access} execute: {executable}" in text_of(result)
    because = walk_json(result)["result"]["user"]["because"]
    assert because == {"read": no_access, "write": no_access, "execute": executable}


def test_what_decides_the_rights_of_stage_2() -> None:
    """S2AP[1] clear, and XN[1:0] = 2: no execution at EL1 nor at EL0."""
    leaf = SECOND_GIB[SECOND_ROOT + 8] & ~(1 << 7) | 2 << 53
    stage2 = stage2_of(registers(**STAGE2))
    document = stage2_json(translate_ipa(stage2, Words({SECOND_ROOT + 8: leaf}), VA))
    found = document["result"]
    assert (found["write"], found["execute"], found["user"]["execute"]) == (False, False, False)
    assert "bit 7 (S2AP[1], write) of the stage 2 level 1 descriptor at 0x60000008" in found["because"]["write"]
    assert "bits 54:53 (XN[1:0] = 2)" in found["user"]["because"]["execute"]


@pytest.mark.parametrize(
    ("changes", "memory_type", "shareability", "said"),
    [
        ({}, "Normal Write-Back RA WA", "Inner Shareable", False),
        ({"TCR_EL2": 0x8085_0010}, "Normal Non-cacheable", "Outer Shareable", True),
        ({"SCTLR_EL2": 0x30C5_1831}, "Normal Non-cacheable", "Outer Shareable", True),  # C clear
    ],
)
def test_what_the_tables_are_read_as(changes: dict[str, int], memory_type: str, shareability: str, said: bool) -> None:
    result = walk(registers(TTBR0_EL2=ROOT, **changes), Words(page_path(PAGE, VA, ROOT)), VA, regime=Regime.EL2)
    assert walk_json(result)["table_access"] == {"memory_type": memory_type, "shareability": shareability}
    assert (f"tables read as {memory_type}, {shareability}: not from the caches" in text_of(result)) is said


def test_what_to_type_for_a_walk_names_the_table_that_the_address_belongs_to() -> None:
    kernel = 0xFFFF_8000_0801_0000
    assert walk_command(Regime.EL1_0, kernel) == "walk-ttbr1 0xffff800008010000"
    assert walk_command(Regime.EL2_0, VA, " --cpu 1") == "walk-ttbr0 --cpu 1 0x40301000"
    assert walk_command(Regime.EL2, kernel) == "walk-ttbr0 0xffff800008010000"
