"""The verdict on a machine that is only partly known: nothing is excluded that can be found once more is known."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kexecdbg.arm64.regimes import Regime
from kexecdbg.checks.assessment import Assessment, assess
from kexecdbg.checks.finding import Severity
from kexecdbg.checks.prediction import Outcome
from kexecdbg.checks.rule_status import CODE_OF_THE_SWITCH, MEMORY_MAP, Standing
from kexecdbg.checks.rules import all_rules
from kexecdbg.checks.verdict import Judgement
from kexecdbg.errors import KexecdbgError, UsageError
from kexecdbg.machine.memory import BytesMemory
from tests.unit.checks import test_register_rules, test_rules
from tests.unit.checks.moments import NEXT, ROOT, SCTLR, SITE, VHE, WXN, Moment

NOTHING = BytesMemory({})
MAIL = {
    "SCTLR_EL2": 0x30E5_183F,
    "TCR_EL2": 0x8084_3510,
    "MAIR_EL2": 0xBBFF_440C_0400,
    "TTBR0_EL2": 0x1_B306_9000,
}
"""[RFC v2 0/8] arm64: MMU enabled kexec relocation."""
EL1_MAIL = {"SCTLR_EL1": 0x30D0_1805, "TCR_EL1": 0x4_B510_3510, "TTBR0_EL1": ROOT, "MAIR_EL1": 0xFF}


def mail(
    changed: Mapping[str, int] | None = None, memory: BytesMemory = NOTHING, next_pc: int | None = None
) -> Assessment:
    return assess({**MAIL, **(changed or {})}, memory, next_pc=next_pc)


def memory_needed(assessment: Assessment) -> list[tuple[int | None, int | None, str]]:
    return [(item.address, item.size, item.purpose) for item in assessment.needed if item.address is not None]


def registers_needed(assessment: Assessment) -> set[str]:
    return {name for item in assessment.needed for name in item.registers}


# The mail of 2019.


def test_the_registers_of_the_mail_agree_and_the_first_table_is_needed() -> None:
    found = mail()
    assert found.judgement is Judgement.UNKNOWN and found.findings == ()
    assert found.consistency is not None
    assert found.consistency.statement.endswith("the cause must be looked for in the tables.")
    assert found.ids(Standing.EXCLUDED) == ("M03", "M04", "M07", "M17", "M35")
    assert {"M01", "M02", "M05", "M06", "M09", "M10", "M12", "M34"} <= set(found.ids(Standing.OPEN))
    assert memory_needed(found) == [(0x1_B306_9000, 4096, "the level 0 table, TTBR0_EL2")]
    assert found.needed[0].registers == ("PC",)
    assert found.remarks[0] == "PSTATE is not given: EL2h, as SCTLR_EL2 is given."
    assert found.remarks[1].startswith("HCR_EL2 is not given: read as E2H=0.")


def test_each_rule_has_one_standing() -> None:
    found = mail()
    ids = [rule for standing in Standing for rule in found.ids(standing)]
    assert sorted(ids) == [rule.id for rule in all_rules()]


def test_with_the_next_address_it_is_one_descriptor() -> None:
    found = mail(next_pc=0x1_B308_0128)
    assert memory_needed(found) == [(0x1_B306_9000, 8, "the level 0 descriptor of the next fetch")]
    assert {"VBAR_EL2", "HCR_EL2", "X0", "ID_AA64MMFR0_EL1"} <= registers_needed(found)


def test_the_walk_is_followed_to_the_first_table_that_is_missing() -> None:
    level_0 = BytesMemory({0x1_B306_9000: (0x1_B306_A003).to_bytes(8, "little")})
    (descriptor, *_) = memory_needed(mail(None, level_0, 0x1_B308_0128))
    assert descriptor == (0x1_B306_A000 + 8 * 6, 8, "the level 1 descriptor of the next fetch")


def test_who_waits_for_what() -> None:
    purposes = {item.purpose: item.rules for item in mail(next_pc=0x1_B308_0128).needed}
    assert purposes["which layout the registers of EL2 have"] == ("M06",)
    assert purposes["what the CPU implements"] == ("M09",)
    assert purposes[MEMORY_MAP] == ("K09", "M24")
    assert {"M19", "M20", "M21", "M30"} <= set(purposes[CODE_OF_THE_SWITCH])


def test_what_is_given_is_not_asked_for_again() -> None:
    found = mail({"HCR_EL2": 0x8000_0000, "ID_AA64MMFR0_EL1": 0x1125})
    assert {"M06", "M09"} <= set(found.ids(Standing.EXCLUDED))
    assert not registers_needed(found) & {"HCR_EL2", "ID_AA64MMFR0_EL1"}


def test_a_size_that_the_cpu_does_not_have_is_found_without_tables() -> None:
    found = mail({"ID_AA64MMFR0_EL1": 0x1122}, next_pc=0x1_B308_0128)
    assert [finding.id for finding in found.findings] == ["M09"]


# Registers that make every fetch fault.

BROKEN: dict[str, tuple[Mapping[str, int], str]] = {
    "the table is beyond 32 bits": ({"TCR_EL2": 0x8080_3510}, "M08"),
    "T0SZ 0": ({"TCR_EL2": 0x8084_3500}, "M10"),
    "T0SZ 12 wants DS": ({"TCR_EL2": 0x8084_350C, "ID_AA64MMFR0_EL1": 0x1125}, "M31"),
    "granule 3": ({"TCR_EL2": 0x8084_F510}, "M12"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_registers_that_fault_alone_fault_without_tables(name: str) -> None:
    changed, rule = BROKEN[name]
    anywhere, placed = mail(changed), mail(changed, next_pc=0x1_B308_0128)
    assert anywhere.judgement is placed.judgement is Judgement.FAULTS
    assert rule in [finding.id for finding in anywhere.findings]
    assert rule in [finding.id for finding in placed.findings]
    assert placed.prediction.first is not None and placed.prediction.first.elr == 0x1_B308_0128
    assert placed.prediction.outcome is Outcome.UNKNOWN, "nobody gave VBAR_EL2"


def test_nothing_is_claimed_about_tables_that_were_not_read() -> None:
    found = mail({"TCR_EL2": 0x8084_F510}, next_pc=0x1_B308_0128)
    (granule,) = [finding for finding in found.findings if finding.id == "M12"]
    assert "do the tables map" not in granule.text


# What is assumed.


def test_the_level_of_the_registers() -> None:
    found = assess(EL1_MAIL, NOTHING)
    assert found.situation.regime is Regime.EL1_0
    assert "HCR_EL2 is not given: 0x80000000, stage 2 off." in found.remarks
    assert memory_needed(found) == [(ROOT, 4096, "the level 0 table, TTBR0_EL1")]


@pytest.mark.parametrize(
    ("values", "regime", "message"),
    [
        ({**MAIL, **EL1_MAIL}, None, "SCTLR_EL1 and SCTLR_EL2 are given and PSTATE is not: say which level it is"),
        ({"X0": 1}, None, "nothing given says which MMU it is about"),
        ({**MAIL, "PSTATE": 0x3C9}, Regime.EL1_0, "--regime EL1&0: PSTATE 0x3c9 is EL2"),
        ({**MAIL, "PSTATE": 0x1D3}, None, "PSTATE 0x1d3 is of an AArch32 mode"),
        ({**MAIL, "HCR_EL2": 0x8000_0000}, Regime.EL2_0, "--regime EL2&0: with HCR_EL2 = 0x80000000 EL2 has EL2"),
    ],
)
def test_a_level_that_is_not_clear_is_asked_for(values: dict[str, int], regime: Regime | None, message: str) -> None:
    with pytest.raises(UsageError) as refusal:
        assess(values, NOTHING, regime)
    assert message in str(refusal.value) and "\n" not in str(refusal.value)


@pytest.mark.parametrize("next_pc", [None, 0xFFFF_0000_0000_0000])
def test_registers_that_let_no_walk_succeed_fault_wherever_the_next_fetch_is(next_pc: int | None) -> None:
    found = assess({"TCR_EL1": (1 << 64) - 1}, NOTHING, None, next_pc)
    assert found.judgement is Judgement.FAULTS
    assert ("M07", Severity.FATAL) in [(finding.id, finding.severity) for finding in found.findings]


def test_the_regime_decides_between_levels() -> None:
    assert assess({**MAIL, **EL1_MAIL}, NOTHING, Regime.EL1_0).situation.regime is Regime.EL1_0
    wide = assess({**MAIL, "TCR_EL2": VHE["TCR_EL2"]}, NOTHING, Regime.EL2_0)
    assert wide.situation.regime is Regime.EL2_0 and "M03" in wide.ids(Standing.OPEN)


def test_a_value_with_m_clear_is_not_the_one_that_is_written() -> None:
    found = mail({"SCTLR_EL2": 0x30C5_0830})
    assert {"M04", "M34"} <= set(found.ids(Standing.OPEN))
    assert {"M03", "M07", "M35"} <= set(found.ids(Standing.EXCLUDED))
    assert any("has M clear: judged as if M were set" in remark for remark in found.remarks)


def test_nothing_is_sound_before_it_is_known_what_is_written() -> None:
    moment = Moment(registers={"X14": SCTLR | WXN})
    assert moment.verdict().judgement is Judgement.FAULTS
    found = assess(moment.values(), moment.memory(), next_pc=NEXT)
    assert (found.judgement, found.findings) == (Judgement.UNKNOWN, ())
    assert {"M01", "M04", "M34"} <= set(found.ids(Standing.OPEN)) and "SCTLR_EL2" in registers_needed(found)
    told = assess({**moment.values(), "SCTLR_EL2": SCTLR | WXN}, moment.memory(), next_pc=NEXT)
    assert [finding.id for finding in told.findings] == ["M04", "M05"]


def test_without_sctlr_everything_waits_for_it() -> None:
    found = assess({name: value for name, value in MAIL.items() if name != "SCTLR_EL2"}, NOTHING, next_pc=NEXT)
    assert found.judgement is Judgement.UNKNOWN and "SCTLR_EL2" in registers_needed(found)
    assert found.ids(Standing.EXCLUDED) == ("M03", "M07", "M35")


def test_a_pc_without_its_memory_is_taken_for_the_switch() -> None:
    found = mail({"PC": SITE, "PSTATE": 0x3C9})
    assert found.situation.next_pc == NEXT
    assert f"The switch is taken to be at the PC: the next fetch is {NEXT:#x}." in found.remarks


# With memory.


def test_code_at_the_pc_that_switches_nothing_on_is_refused() -> None:
    moment = Moment(registers={"PC": NEXT})
    with pytest.raises(
        UsageError, match=r"does not switch the MMU on.*; --next ADDRESS judges the registers as they are"
    ):
        assess(moment.values(), moment.memory())


def by_rule(cases: Mapping[str, object]) -> list[str]:
    """The first case of each rule."""
    return list({name[:3]: name for name in reversed(list(cases))}.values())


ALL_KNOWN = {
    **{name: test_rules.WRONG[name].moment for name in by_rule(test_rules.WRONG)},
    **{
        name: test_register_rules.WRONG[name].moment
        for name in by_rule(test_register_rules.WRONG)
        if name.startswith(("M07", "M09", "M17", "M31"))
    },
    "M04 pending": Moment(registers={"X14": SCTLR | WXN}),
}


@pytest.mark.parametrize("name", ALL_KNOWN)
def test_what_is_excluded_early_is_not_found_later(name: str) -> None:
    moment = ALL_KNOWN[name]
    verdict = moment.verdict()
    known = assess(moment.values(), moment.memory())
    assert (known.judgement, known.findings, known.prediction) == (
        verdict.judgement,
        verdict.findings,
        verdict.prediction,
    )
    early, ids = assess(moment.values(), NOTHING, next_pc=NEXT), {finding.id for finding in verdict.findings}
    assert not ids & set(early.ids(Standing.EXCLUDED)) and not ids & set(known.ids(Standing.EXCLUDED))
    assert {finding.id for finding in early.findings} <= ids


_REGISTERS = [*Moment().values(), "SP", "X0", "TTBR1_EL2", "SCTLR_EL3", "TCR_EL3", "TTBR0_EL3", "TCR2_EL2", "CurrentEL"]
_VALUES = st.integers(0, (1 << 64) - 1) | st.sampled_from([0, 1, NEXT, ROOT, SCTLR, *Moment().values().values()])


@settings(max_examples=40, deadline=None)
@given(
    st.dictionaries(st.sampled_from(_REGISTERS), _VALUES, min_size=1, max_size=12),
    st.none() | st.sampled_from(Regime),
    st.none() | _VALUES,
)
def test_any_registers_are_judged_or_refused_in_one_line(
    values: dict[str, int], regime: Regime | None, next_pc: int | None
) -> None:
    try:
        found = assess({**Moment().values(), **values}, Moment().memory(), regime, next_pc)
    except KexecdbgError as refusal:
        assert "\n" not in str(refusal)
    else:
        assert len(found.statuses) == len(all_rules())
