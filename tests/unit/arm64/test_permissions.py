"""Which bit decides each right: the measured matrix, an independent truth table, and the words of each cause."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import yaml

from kexecdbg.arm64.faults import Access, CauseKind, FaultKind
from kexecdbg.arm64.permissions import (
    NV1_LAYOUT,
    ONE_RANGE_LAYOUT,
    TWO_RANGE_LAYOUT,
    IndirectRegisters,
    PermissionRules,
    decide,
)
from kexecdbg.arm64.regimes import Regime
from kexecdbg.arm64.walk import Walk, walk
from tests.unit.arm64.tables import DATA, Words, page_path, registers

MATRIX = yaml.safe_load((DATA / "permission_matrix.yaml").read_text())
PAGE = 0x4030_1713 & ~(1 << 6)  # valid page, AttrIndx 4, AF, inner shareable, read-write, no EL0 access
COLUMNS = {
    "plain": PAGE,
    "bit54": PAGE | 1 << 54,
    "bit53": PAGE | 1 << 53,
    "both": PAGE | 3 << 53,
    "ro": PAGE | 1 << 7,
    "ap1": PAGE | 1 << 6,
    "ro_ap1": PAGE | 3 << 6,
    "af0": PAGE & ~(1 << 10),
}
VA = 0x4030_1000
ROOT = 0x5000_0000


def walk_page(leaf: int, regime: Regime, table_bits: int = 0, *, pan: int = 0, **changes: int) -> Walk:
    """A walk to ``leaf`` at level 3 with ``table_bits`` in the level 0 entry."""
    changes.setdefault(regime.facts.ttbr0, ROOT)
    if regime is Regime.EL2_0:
        changes.setdefault("HCR_EL2", 0x4_8800_0000)
        changes.setdefault("TCR_EL2", 0x5_B510_3510)
    if regime is Regime.EL3:
        changes = {"SCTLR_EL3": 0x30C5_1835, "TCR_EL3": 0x8085_3510, "MAIR_EL3": 0xFF << 32, **changes}
    return walk(registers(**changes), Words(page_path(leaf, VA, ROOT, table_bits)), VA, regime=regime, pan=bool(pan))


@pytest.mark.parametrize("row", MATRIX["rows"], ids=lambda row: f"{row['regime']}-{row['table']}-wxn{row['wxn']}")
def test_measured_matrix(row: dict[str, Any]) -> None:
    regime = Regime.EL2_0 if row["regime"] == "VHE" else Regime.EL2
    table_bits = 1 << row["table"] if row["table"] else 0
    for column, wanted in zip(MATRIX["columns"], row["rights"], strict=True):
        result = walk_page(COLUMNS[column], regime, table_bits, SCTLR_EL2=0x30C5_1835 | row["wxn"] << 19)
        assert result.privileged.text.upper() == wanted, column


def test_truth_table_of_a_two_range_regime() -> None:
    """All 2^9 combinations against the Arm ARM's tables, written out another way than the code."""
    for ap, uxn, pxn, wxn, ap_table, uxn_table, pxn_table in itertools.product(
        range(4), range(2), range(2), range(2), range(4), range(2), range(2)
    ):
        leaf = ap << 6 | pxn << 53 | uxn << 54
        table = pxn_table << 59 | uxn_table << 60 | ap_table << 61
        privileged_write = ap in (0, 1) and not ap_table & 2
        user_read = ap in (1, 3) and not ap_table & 1
        user_write = ap == 1 and ap_table == 0
        privileged_execute = not (pxn or pxn_table or user_write or (wxn and privileged_write))
        user_execute = not (uxn or uxn_table or (wxn and user_write))
        decision = decide(PermissionRules(TWO_RANGE_LAYOUT, wxn=bool(wxn)), leaf, table)
        assert decision.privileged.text == _text(True, privileged_write, privileged_execute)
        assert decision.user is not None
        assert decision.user.text == _text(user_read, user_write, user_execute)


def test_truth_table_of_a_one_range_regime() -> None:
    """Bits 6, 53, 59 and 61 must make no difference."""
    for read_only, xn, wxn, table_read_only, xn_table, noise in itertools.product(range(2), repeat=6):
        leaf = read_only << 7 | xn << 54 | noise << 6 | noise << 53
        table = xn_table << 60 | table_read_only << 62 | noise << 59 | noise << 61
        writable = not (read_only or table_read_only)
        decision = decide(PermissionRules(ONE_RANGE_LAYOUT, wxn=bool(wxn)), leaf, table)
        assert decision.privileged.text == _text(True, writable, not (xn or xn_table or (wxn and writable)))
        assert decision.user is None


def _text(read: bool, write: bool, execute: bool) -> str:
    return ("r" if read else "-") + ("w" if write else "-") + ("x" if execute else "-")


LEAF = "the level 3 descriptor at 0x50030808"
TABLE = "the level 0 descriptor at 0x50000000"


@pytest.mark.parametrize(
    ("regime", "leaf", "table_bits", "changes", "kind", "words"),
    [
        (Regime.EL2, 1 << 54, 0, {}, CauseKind.LEAF_XN, f"bit 54 of {LEAF} is XN in the EL2 regime and is set"),
        (Regime.EL3, 1 << 54, 0, {}, CauseKind.LEAF_XN, f"bit 54 of {LEAF} is XN in the EL3 regime and is set"),
        (Regime.EL2, 0, 1 << 60, {}, CauseKind.TABLE_XN, f"bit 60 of {TABLE} is XNTable in the EL2 regime"),
        (Regime.EL2_0, 1 << 53, 0, {}, CauseKind.LEAF_PXN, f"bit 53 of {LEAF} is PXN in the EL2&0 regime"),
        (Regime.EL1_0, 0, 1 << 59, {}, CauseKind.TABLE_PXN, f"bit 59 of {TABLE} is PXNTable in the EL1&0 regime"),
        (Regime.EL1_0, 1 << 6, 0, {}, CauseKind.EL0_WRITABLE, "what EL0 can write is never executable at EL1"),
        (Regime.EL2, 0, 0, {"SCTLR_EL2": 0x30CD_1835}, CauseKind.WXN, "SCTLR_EL2.WXN is set"),
    ],
)
def test_cause_of_no_execute(
    regime: Regime, leaf: int, table_bits: int, changes: dict[str, int], kind: CauseKind, words: str
) -> None:
    result = walk_page(PAGE | leaf, regime, table_bits, **changes)
    assert not result.privileged.execute.allowed
    assert [cause.kind for cause in result.privileged.execute.causes] == [kind]
    assert words in result.privileged.execute.because
    fault = result.fault_for(Access.FETCH)
    assert fault is not None
    assert (fault.kind, fault.level, fault.fsc, fault.text) == (
        FaultKind.PERMISSION,
        3,
        0x0F,
        "Permission fault, level 3",
    )


@pytest.mark.parametrize(
    ("leaf", "table_bits", "access", "privileged", "kind", "bit"),
    [
        (1 << 7, 0, Access.WRITE, True, CauseKind.READ_ONLY, 7),
        (0, 1 << 62, Access.WRITE, True, CauseKind.TABLE_READ_ONLY, 62),
        (0, 0, Access.READ, False, CauseKind.NO_EL0_ACCESS, 6),
        (1 << 6, 1 << 61, Access.READ, False, CauseKind.TABLE_NO_EL0, 61),
        (1 << 6 | 1 << 54, 0, Access.FETCH, False, CauseKind.LEAF_UXN, 54),
        (1 << 6, 1 << 60, Access.FETCH, False, CauseKind.TABLE_UXN, 60),
    ],
)
def test_cause_in_el1(leaf: int, table_bits: int, access: Access, privileged: bool, kind: CauseKind, bit: int) -> None:
    result = walk_page(PAGE | leaf, Regime.EL1_0, table_bits)
    fault = result.fault_for(access, privileged)
    assert fault is not None
    assert (fault.kind, fault.cause.kind, fault.cause.bit) == (FaultKind.PERMISSION, kind, bit)
    assert fault.cause.address == (0x5000_0000 if bit > 58 else 0x5003_0808)


def test_all_causes_of_a_denial_are_listed() -> None:
    result = walk_page(PAGE | 1 << 53, Regime.EL1_0, 1 << 59, SCTLR_EL1=0x30D8_1805)
    kinds = [cause.kind for cause in result.privileged.execute.causes]
    assert kinds == [CauseKind.LEAF_PXN, CauseKind.TABLE_PXN, CauseKind.WXN]


def test_a_grant_says_what_it_rests_on() -> None:
    result = walk_page(PAGE, Regime.EL2)
    assert result.privileged.execute.because == (
        "bit 54 of the level 3 descriptor at 0x50030808 is XN in the EL2 regime and is clear"
    )
    assert result.privileged.write.because == (
        "bit 7 (AP[2], read-only) of the level 3 descriptor at 0x50030808 is clear"
    )


def test_the_same_leaf_in_two_regimes() -> None:
    """The bug of the 2019 mail: PAGE_KERNEL_EXEC is executable at EL1 and with E2H, and not at EL2 without."""
    kernel_exec = 0x00C8_0000_4030_1713
    assert walk_page(kernel_exec, Regime.EL1_0).privileged.text == "rwx"
    assert walk_page(kernel_exec, Regime.EL2_0).privileged.text == "rwx"
    assert walk_page(kernel_exec, Regime.EL2).privileged.text == "rw-"


def test_hpd_switches_table_attributes_off() -> None:
    everything = 0xF << 59
    assert walk_page(PAGE, Regime.EL2, everything, TCR_EL2=0x8185_3510).privileged.text == "rwx"
    assert walk_page(PAGE | 1 << 6, Regime.EL1_0, everything, TCR_EL1=0x5_B510_3510 | 1 << 41).user is not None
    without = walk_page(PAGE, Regime.EL2, everything, TCR_EL2=0x8185_3510, ID_AA64MMFR1_EL1=0)
    assert without.privileged.text == "r--", "no FEAT_HPDS: the bit is RES0"


@pytest.mark.parametrize(("hardware", "rights"), [(0, "r-x"), (1 << 39, "r-x"), (1 << 40, "r-x"), (3 << 39, "rwx")])
def test_dbm_counts_with_ha_and_hd_only(hardware: int, rights: str) -> None:
    result = walk_page(PAGE | 1 << 7 | 1 << 51, Regime.EL1_0, TCR_EL1=0x5_B510_3510 | hardware)
    assert result.privileged.text == rights


class TestPan:
    EL0_PAGE = PAGE | 1 << 6

    def test_denies_data_not_fetches(self) -> None:
        result = walk_page(self.EL0_PAGE | 1 << 7, Regime.EL1_0, pan=True)
        assert result.privileged.text == "--x"
        assert result.user is not None
        assert result.user.text == "r-x"
        assert [cause.kind for cause in result.privileged.read.causes] == [CauseKind.PAN]

    def test_execute_only_page_needs_epan(self) -> None:
        execute_only = PAGE | 1 << 7  # no EL0 data access, UXN clear
        assert walk_page(execute_only, Regime.EL1_0, pan=True).privileged.text == "r-x"
        epan = 0x30D0_1805 | 1 << 57
        assert walk_page(execute_only, Regime.EL1_0, pan=True, SCTLR_EL1=epan).privileged.text == "--x"

    def test_comes_from_pstate(self) -> None:
        values = registers(TTBR0_EL1=ROOT, PSTATE=0x3C5 | 1 << 22)
        memory = Words(page_path(self.EL0_PAGE, VA, ROOT))
        assert walk(values, memory, VA, regime=Regime.EL1_0).privileged.text == "---"
        values["PSTATE"] = 0x3C5
        assert walk(values, memory, VA, regime=Regime.EL1_0).privileged.text == "rw-"

    def test_means_nothing_in_one_range_regimes(self) -> None:
        assert walk_page(self.EL0_PAGE, Regime.EL2, pan=True).privileged.text == "rwx"


def test_nv1_variant() -> None:
    """HCR_EL2.{NV,NV1}: bit 54 is PXN, bit 60 PXNTable; AP[1], APTable[0] and PAN have no effect."""
    rules = PermissionRules(NV1_LAYOUT)
    for leaf, table, wanted in (
        (1 << 6, 0, "rwx"),
        (1 << 54, 0, "rw-"),
        (1 << 53, 0, "rwx"),
        (0, 1 << 60, "rw-"),
        (0, 1 << 59, "rwx"),
        (1 << 6, 1 << 61, "rwx"),
    ):
        assert decide(rules, leaf, table, pan=True).privileged.text == wanted
    nv = {"HCR_EL2": 0x8000_0000 | 3 << 42, "ID_AA64MMFR2_EL1": 1 << 24 | 1 << 60}
    assert walk_page(PAGE | 1 << 54, Regime.EL1_0, **nv).privileged.text == "rw-"


PIR_TEXT = [
    "---",
    "r--",
    "--x",
    "r-x",
    "---",
    "rw-",
    "rw-",
    "rwx",
    "r--",
    "r--",
    "r-x",
    "---",
    "rw-",
    "---",
    "rwx",
    "---",
]


class TestIndirection:
    """FEAT_S1PIE: PIIndex is bits 54, 53, 51, 6."""

    @pytest.mark.parametrize("nibble", range(16))
    def test_every_nibble(self, nibble: int) -> None:
        for index in range(16):
            leaf = (index >> 3 & 1) << 54 | (index >> 2 & 1) << 53 | (index >> 1 & 1) << 51 | (index & 1) << 6
            rules = PermissionRules(ONE_RANGE_LAYOUT, indirect=IndirectRegisters(nibble << 4 * index, None))
            assert decide(rules, leaf, 0xF << 59).privileged.text == PIR_TEXT[nibble]

    def test_wxn_of_sctlr_has_no_effect(self) -> None:
        rules = PermissionRules(ONE_RANGE_LAYOUT, wxn=True, indirect=IndirectRegisters(0x7, None))
        assert decide(rules, 0, 0).privileged.text == "rwx"

    def test_privileged_execute_with_el0_write_leaves_nothing(self) -> None:
        rules = PermissionRules(TWO_RANGE_LAYOUT, indirect=IndirectRegisters(0x3, 0x5))
        decision = decide(rules, 0, 0)
        assert decision.user is not None
        assert (decision.privileged.text, decision.user.text) == ("---", "---")

    def test_pan_with_any_el0_right(self) -> None:
        rules = PermissionRules(TWO_RANGE_LAYOUT, indirect=IndirectRegisters(0x5, 0x2))
        assert decide(rules, 0, 0, pan=True).privileged.text == "---"
        rules = PermissionRules(TWO_RANGE_LAYOUT, indirect=IndirectRegisters(0x5, 0x0))
        assert decide(rules, 0, 0, pan=True).privileged.text == "rw-"

    def test_clean_page(self) -> None:
        clean = 1 << 7
        registers_ = IndirectRegisters(0x5, None)
        assert decide(PermissionRules(ONE_RANGE_LAYOUT, indirect=registers_), clean, 0).privileged.text == "r--"
        managed = PermissionRules(ONE_RANGE_LAYOUT, indirect=registers_, dirty=True)
        assert decide(managed, clean, 0).privileged.text == "rw-"

    def test_in_a_walk(self) -> None:
        changes = {
            "ID_AA64MMFR3_EL1": 1 << 8 | 1,
            "TCR2_EL2": 1 << 1,
            "PIR_EL2": 0x1,
            "SCR_EL3": 1 << 43 | 1,
        }
        result = walk_page(PAGE, Regime.EL2, **changes)
        assert result.privileged.text == "r--"
        assert result.privileged.write.because == (
            f"permission indirection: entry 0 of PIR_EL2 (bits 54, 53, 51, 6 of {LEAF}) is 0x1"
        )


class TestOverlay:
    """FEAT_S1POE: bits 62:60 of the leaf pick a nibble of POR_ELx."""

    @pytest.mark.parametrize(
        ("nibble", "wanted"),
        [(0, "---"), (1, "r--"), (2, "--x"), (3, "r-x"), (4, "-w-"), (5, "rw-"), (6, "-wx"), (7, "rwx"), (8, "---")],
    )
    def test_every_nibble(self, nibble: int, wanted: str) -> None:
        rules = PermissionRules(ONE_RANGE_LAYOUT, hierarchical=False, overlay=nibble << 20)
        assert decide(rules, 5 << 60, 0).privileged.text == wanted

    def test_upper_half_of_the_indirect_nibbles_is_exempt(self) -> None:
        rules = PermissionRules(ONE_RANGE_LAYOUT, overlay=0, indirect=IndirectRegisters(0xE, None))
        assert decide(rules, 0, 0).privileged.text == "rwx"

    def test_wxn_sees_what_the_overlay_leaves(self) -> None:
        rules = PermissionRules(ONE_RANGE_LAYOUT, wxn=True, overlay=0x3)
        assert decide(rules, 0, 0).privileged.text == "r-x"
