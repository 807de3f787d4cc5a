"""Newer table formats and switches: TCR2_ELx, FEAT_AIE, FEAT_S1POE in walks and scans; SCTLR_ELx.C; warnings."""

from __future__ import annotations

import pytest

from kexecdbg.arm64.faults import Access, CauseKind
from kexecdbg.arm64.regimes import Regime
from kexecdbg.arm64.scan import scan
from kexecdbg.arm64.walk import Walk, walk
from kexecdbg.errors import RegisterUnknownError
from tests.unit.arm64.tables import Words, page_path, registers

VA, ROOT = 0x4030_1000, 0x5000_0000
PAGE = 0x4030_1713
# TCR2, S1PIE, S1POE, AIE
NEW_CPU = {"ID_AA64MMFR3_EL1": 1 | 1 << 8 | 1 << 16 | 1 << 24, "SCR_EL3": 1 | 1 << 43, "HCRX_EL2": 1 << 14}
PIE, POE, AIE = 1 << 1, 1 << 3, 1 << 4
INDIRECT = {**NEW_CPU, "TCR2_EL1": PIE, "PIR_EL1": 0, "PIRE0_EL1": 0, "TCR2_EL2": PIE, "PIR_EL2": 0}


def walk_page(changes: dict[str, int], leaf: int = PAGE, regime: Regime = Regime.EL2) -> Walk:
    values = registers(**{regime.facts.ttbr0: ROOT, **changes})
    return walk(values, Words(page_path(leaf, VA, ROOT)), VA, regime=regime)


class TestTcr2:
    """Which TCR2_ELx acts: nibble 0 of PIR is "none", so that indirection shows."""

    @pytest.mark.parametrize("regime", [Regime.EL1_0, Regime.EL2])
    def test_acts(self, regime: Regime) -> None:
        assert walk_page(INDIRECT, regime=regime).privileged.text == "---"

    @pytest.mark.parametrize(
        ("regime", "change"),
        [
            (Regime.EL1_0, {"HCRX_EL2": 0}),
            (Regime.EL1_0, {"SCR_EL3": 1}),
            (Regime.EL2, {"SCR_EL3": 1}),
            (Regime.EL2, {"ID_AA64MMFR3_EL1": 0}),
            (Regime.EL2, {"ID_AA64MMFR3_EL1": 1}),
        ],
    )
    def test_does_not_act(self, regime: Regime, change: dict[str, int]) -> None:
        assert walk_page({**INDIRECT, **change}, regime=regime).privileged.text == "rwx"

    def test_hcrx_does_not_matter_at_el2(self) -> None:
        assert walk_page({**INDIRECT, "HCRX_EL2": 0}).privileged.text == "---"

    def test_unknown_on_a_cpu_that_has_it(self) -> None:
        with pytest.raises(RegisterUnknownError, match="TCR2_EL2"):
            walk_page(NEW_CPU)

    def test_unknown_on_an_unknown_cpu(self) -> None:
        values = registers(TTBR0_EL2=ROOT)
        del values["ID_AA64MMFR3_EL1"]
        result = walk(values, Words(page_path(PAGE, VA, ROOT)), VA, regime=Regime.EL2)
        assert result.privileged.text == "rwx"
        assert [text for text in result.assumptions if "TCR2_EL2" in text] == [
            "TCR2_EL2 is unknown: no permission indirection, overlays or 128-bit descriptors"
        ]

    def test_el3_has_them_in_tcr_el3(self) -> None:
        el3 = {"SCTLR_EL3": 0x30C5_1835, "TCR_EL3": 0x8085_3510 | 1 << 35, "MAIR_EL3": 0, "PIR_EL3": 0x3}
        assert walk_page({**NEW_CPU, **el3}, regime=Regime.EL3).privileged.text == "r-x"


def test_aie_takes_a_fourth_index_bit() -> None:
    changes = {**NEW_CPU, "TCR2_EL2": AIE, "MAIR2_EL2": 0x04 << 32}
    normal, device = walk_page(changes), walk_page(changes, PAGE | 1 << 59)
    assert normal.memory_type is not None
    assert device.memory_type is not None
    assert (normal.memory_type.text, device.memory_type.text) == ("Normal Write-Back RA WA", "Device-nGnRE")
    assert walk_page({}, PAGE | 1 << 59).memory_type == normal.memory_type, "without AIE, bit 59 is not looked at"


def test_scan_tells_ranges_with_other_index_or_overlay_apart() -> None:
    pages = {0x5003_0800 + 8 * index: PAGE - 0x1000 + (index << 12) for index in range(2)}
    values = registers(**NEW_CPU, TTBR0_EL2=ROOT, TCR2_EL2=AIE | POE, MAIR2_EL2=0, POR_EL2=0x7654_3210)
    for bit, wanted in ((59, ["rwx", "rwx"]), (60, ["rwx", "-wx"])):
        # Overlay 7 leaves everything, overlay 6 no read.
        words = {**page_path(PAGE, VA, ROOT), **{address: leaf | 7 << 60 for address, leaf in pages.items()}}
        words[0x5003_0808] ^= 1 << bit
        result = scan(values, Words(words), Regime.EL2)
        assert [item.privileged.text for item in result.ranges] == wanted
        assert len({item.attributes for item in result.ranges}) == 2


def test_scan_knows_e0pd_and_table_attributes() -> None:
    words = page_path(PAGE | 1 << 6, VA, ROOT)
    values = registers(TTBR0_EL1=ROOT, TCR_EL1=0x5_B510_3510 | 1 << 55)
    (only,) = scan(values, Words(words), Regime.EL1_0).ranges
    assert (only.privileged.text, only.user and only.user.text) == ("rw-", "---")
    values["ID_AA64MMFR2_EL1"] = 0
    (only,) = scan(values, Words(words), Regime.EL1_0).ranges
    assert (only.user and only.user.text) == "rwx", "without FEAT_E0PD the bit is RES0"


NFD0, E0PD0 = 1 << 53, 1 << 55
SVE = {"ID_AA64PFR0_EL1": 0x1_0000_1111}


@pytest.mark.parametrize(
    ("leaf", "tcr", "cpu", "warned"),
    [
        (PAGE | 1 << 6, NFD0, SVE, True),
        (PAGE | 1 << 6, NFD0, {}, False),  # RES0 without FEAT_SVE
        (PAGE | 1 << 6, 0, SVE, False),
        (PAGE | 1 << 6, NFD0 | E0PD0, SVE, False),  # no access at all
        (PAGE, NFD0, SVE, False),
    ],
)
def test_nfd_is_said_of_a_page_that_el0_may_read(leaf: int, tcr: int, cpu: dict[str, int], warned: bool) -> None:
    """TCR_EL1.NFD0: no walk for non-fault SVE loads from EL0; every other access walks as without it."""
    changes = {**cpu, "TTBR0_EL1": ROOT, "TCR_EL1": 0x5_B510_3510 | tcr}
    result = walk_page(changes, leaf, Regime.EL1_0)
    table = scan(registers(**changes), Words(page_path(leaf, VA, ROOT)), Regime.EL1_0)
    assert result.pa is not None
    for warnings in (result.warnings, table.warnings):
        assert [cause.kind for cause in warnings] == [CauseKind.NON_FAULT_DISABLED] * warned
        assert all(cause.field == "NFD0" and "without an exception" in cause.text for cause in warnings)


def test_neighbours_under_different_tables_stay_apart() -> None:
    """Contiguous in both address spaces and with equal leaves, but under another APTable, or in another page size."""
    two = 0x5002_0000
    words = page_path(0x4000_0713, 0, ROOT)
    words |= {0x5003_0000 + 8 * index: 0x4000_0713 + (index << 12) for index in range(512)}
    words |= {two + 8: 0x5004_0003 | 1 << 62}
    words |= {0x5004_0000 + 8 * index: 0x4020_0713 + (index << 12) for index in range(512)}
    words |= {two + 16: 0x4040_0711, two + 24: 0x5005_0003}
    words |= {0x5005_0000: 0x4060_0713}
    result = scan(registers(TTBR0_EL2=ROOT), Words(words), Regime.EL2)
    assert [(item.va, item.page_size, item.privileged.text) for item in result.ranges] == [
        (0, 4096, "rwx"),
        (0x20_0000, 4096, "r-x"),
        (0x40_0000, 1 << 21, "rwx"),
        (0x60_0000, 4096, "rwx"),
    ]


def test_caches_off_make_normal_memory_non_cacheable() -> None:
    result = walk_page({"SCTLR_EL2": 0x30C5_1831})
    assert result.memory_type is not None
    assert result.memory_type.text == "Normal Non-cacheable"


@pytest.mark.parametrize(
    ("leaf", "kind"),
    [
        (PAGE & ~(7 << 2) | 1 << 2, CauseKind.EXECUTE_DEVICE),
        (PAGE & ~(3 << 8) | 1 << 8, CauseKind.SHAREABILITY_RESERVED),
        (PAGE & ~(7 << 2) | 6 << 2, CauseKind.MEMORY_TYPE_RESERVED),
    ],
)
def test_warnings_about_memory_attributes(leaf: int, kind: CauseKind) -> None:
    result = walk_page({"MAIR_EL2": 0x10_BBFF_440C_0400 | 0x10 << 48}, leaf)
    assert kind in [warning.kind for warning in result.warnings]
    assert result.fault_for(Access.READ) is None


def test_nt_block_is_a_warning() -> None:
    words = page_path(0, VA, ROOT)
    words[0x5002_0008] = 0x4020_0711
    words[0x5002_0000 + 8 * (VA >> 21 & 511)] = 0x4020_0711 | 1 << 16
    result = walk(registers(TTBR0_EL2=ROOT), Words(words), VA, regime=Regime.EL2)
    assert [warning.kind for warning in result.warnings] == [CauseKind.NT_SET]


def test_stage_2_warnings_are_passed_on() -> None:
    values = registers(HCR_EL2=0x8000_0001, TTBR0_EL1=ROOT, VTCR_EL2=0x8005_3558, VTTBR_EL2=0x53C0_0800)
    blocks = {0x53C0_0000 + 8 * giga: giga << 30 | 0x7FD for giga in range(4)}
    result = walk(values, Words({**page_path(PAGE, VA, ROOT), **blocks}), VA, regime=Regime.EL1_0)
    assert [(warning.kind, warning.register) for warning in result.warnings] == [
        (CauseKind.BASE_MISALIGNED, "VTTBR_EL2")
    ]
