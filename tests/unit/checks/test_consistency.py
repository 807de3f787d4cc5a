"""Control registers held against each other."""

from __future__ import annotations

import pytest

from kexecdbg.arm64.regimes import Regime
from kexecdbg.checks.consistency import Consistency, consistency_of
from kexecdbg.checks.finding import Severity

MAIL = {
    "MAIR_EL2": 0xBBFF440C0400,
    "TCR_EL2": 0x80843510,
    "SCTLR_EL2": 0x30E5183F,
    "TTBR0_EL2": 0x1B3069000,
}
VHE = 0x4_8800_0000


def only(values: dict[str, int]) -> Consistency:
    (judged,) = consistency_of(values)
    return judged


def findings(judged: Consistency) -> list[tuple[str, Severity]]:
    return [(finding.id, finding.severity) for finding in judged.findings]


def test_the_mail_is_consistent_and_points_to_the_tables() -> None:
    judged = only(MAIL)
    assert judged.regime is Regime.EL2 and not judged.faults
    assert judged.findings == () and judged.missing == () and judged.odd == ()
    assert judged.statement == (
        "These registers are consistent with each other for the EL2 regime. "
        "If the machine freezes with them, the cause must be looked for in the tables."
    )
    assert judged.reading == (
        "HCR_EL2 is not given: read as E2H=0. TCR_EL2: RES1 bits 31 and 23 are set; "
        "as E2H=1, IPS would be 32 bits and the table at 0x1b3069000 beyond it."
    )
    assert judged.agreed == (
        "T0SZ 16 and the 4K granule: 48-bit addresses, the walk starts at level 0",
        "TTBR0_EL2: the table at 0x1b3069000 is within PS (44 bits), aligned to its 0x1000 bytes",
        "SCTLR_EL2: I=1 C=1 M=1 WXN=0 EE=0",
        "MAIR_EL2: Normal cacheable at AttrIndx 4 (Normal Write-Back RA WA), 5 (Normal Write-Through RA WA)",
    )


def test_hcr_given_decides_the_layout() -> None:
    judged = only({**MAIL, "HCR_EL2": 0x80000000})
    assert judged.regime is Regime.EL2 and judged.reading == "" and not judged.faults


def test_the_same_registers_fault_with_vhe() -> None:
    judged = only({**MAIL, "HCR_EL2": VHE})
    assert judged.regime is Regime.EL2_0 and judged.faults
    assert findings(judged) == [("M06", Severity.FATAL), ("M08", Severity.FATAL)]
    assert "beyond the output size, IPS = 0 (32 bits)" in judged.findings[1].text


def test_a_vhe_value_is_read_as_vhe() -> None:
    judged = only({"TCR_EL2": 0x500803510, "TTBR0_EL2": 0x1B3069000})
    assert judged.regime is Regime.EL2_0 and not judged.faults
    assert judged.reading.startswith("HCR_EL2 is not given: read as E2H=1. TCR_EL2: bit 31 is clear")


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        ({"TCR_EL2": 0x80843500 | 10}, ("M10", Severity.FATAL)),  # T0SZ below 16
        ({"TCR_EL2": 0x80843510 | 3 << 14}, ("M12", Severity.FATAL)),  # TG0 reserved
        ({"TCR_EL2": 0x80803510}, ("M08", Severity.FATAL)),  # PS 0, table above 4 GB
        ({"TTBR0_EL2": 0x1B3069800}, ("M17", Severity.HAZARD)),  # not aligned
        ({"TCR_EL2": 0x80863510}, ("M09", Severity.HAZARD)),  # PS 6
        ({"ID_AA64MMFR0_EL1": 0x101122}, ("M09", Severity.HAZARD)),  # PARange 2: 40 bits
        ({"SCTLR_EL2": 0x30E5183F | 1 << 25}, ("M34", Severity.HAZARD)),  # EE
        ({"SCTLR_EL2": 0x30E5183F | 1 << 19}, ("M04", Severity.HAZARD)),  # WXN
        ({"SCTLR_EL2": 0x30E5183E}, ("M27", Severity.NOTE)),  # M
        ({"MAIR_EL2": 0x440C0400}, ("M32", Severity.HAZARD)),  # nothing cacheable
        ({"PC": 1 << 48, "PSTATE": 0x3C9}, ("M11", Severity.FATAL)),
    ],
)
def test_one_wrong_field_is_the_only_finding(change: dict[str, int], finding: tuple[str, Severity]) -> None:
    judged = only({**MAIL, "HCR_EL2": 0x80000000, **change})
    assert finding in findings(judged)
    assert [found for found in findings(judged) if found[1] is Severity.FATAL and found != finding] == []
    assert judged.faults is (finding[1] is Severity.FATAL)


def test_a_value_of_the_other_layout_is_the_first_finding() -> None:
    # DS=1 (bit 32 of IPS) and PS=0 (bits of T1SZ): the table is beyond 32 bits.
    judged = only({**MAIL, "HCR_EL2": 0x80000000, "TCR_EL2": 0x500803510})
    assert findings(judged) == [("M06", Severity.FATAL), ("M08", Severity.FATAL)]
    assert "looks written in the E2H=1 layout" in judged.findings[0].text


def test_parange_that_holds_the_output_size_is_named() -> None:
    judged = only({**MAIL, "HCR_EL2": 0x80000000, "ID_AA64MMFR0_EL1": 0x1124})
    assert "PS 4 (44 bits) is within PARange 4 (44 bits)" in judged.agreed


def test_el1_of_linux() -> None:
    values = {"TCR_EL1": 0x4F5B5503510, "TTBR0_EL1": 0x41000000, "TTBR1_EL1": 0x1000041A80000, "SCTLR_EL1": 0x34F4D91D}
    judged = only(values)
    assert judged.regime is Regime.EL1_0 and not judged.faults
    assert judged.missing == ("MAIR_EL1",)
    assert judged.statement.endswith("MAIR_EL1 is not given.")


def test_epd_matters_where_the_code_runs() -> None:
    values = {"TCR_EL1": 0x5B5103510 | 1 << 7, "TTBR0_EL1": 0x41000000}
    assert findings(only(values)) == [("M35", Severity.NOTE)]
    judged = only({**values, "PC": 0x40080000, "PSTATE": 0x3C5})
    assert findings(judged) == [("M35", Severity.FATAL)]


def test_reserved_bits_are_named_by_register() -> None:
    judged = only({**MAIL, "HCR_EL2": 0x80000000, "SCTLR_EL2": 0xF})
    assert judged.odd == ("SCTLR_EL2",) and not judged.faults


def test_nothing_to_judge() -> None:
    assert consistency_of({"ESR_EL2": 0x8600000F}) == ()
    assert consistency_of({"TTBR1_EL2": 0x140100124}) == (), "E2H=0 has no TTBR1_EL2"


def test_what_cannot_be_judged_is_not_called_consistent() -> None:
    """FEAT_D128: other descriptors than this tool decodes."""
    judged = only({**MAIL, "HCR_EL2": 0x8000_0000, "TCR2_EL2": 1 << 5, "ID_AA64MMFR3_EL1": 1 | 1 << 32})
    assert not judged.faults
    assert (judged.unjudged, findings(judged)) == (("TTBR0_EL2",), [("M10", Severity.NOTE)])
    assert "TCR2_EL2.D128 is set" in judged.findings[0].text
    assert judged.statement == (
        "Whether the EL2 registers are consistent is unknown: what TTBR0_EL2 translates could not be judged."
    )
