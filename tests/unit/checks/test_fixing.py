"""What a repair writes, where, and when it is refused; on a debugger that is nothing but memory and registers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kexecdbg.checks.code_corrections import Literal, Position
from kexecdbg.checks.finding import DescriptorRepair, RegisterRepair
from kexecdbg.checks.fixing import apply_repairs, judge_again, plan_repairs, repairable_ids
from kexecdbg.checks.repair_changes import ChangedField, descriptor_fields, repair_change
from kexecdbg.checks.verdict import Judgement
from kexecdbg.errors import TargetError, UsageError
from tests.unit.checks.moments import CODE, EE, EXEC, NEXT, SCTLR, SITE, UXN, VECTORS, XN_TABLE, ZEROS, Moment
from tests.unit.checks.paper_debugger import PaperDebugger

FROZEN = {"PC": VECTORS + 0x200, "SCTLR_EL2": SCTLR, "PSTATE": 0x3C9}
REPAIRABLE = Moment(code=EXEC | UXN, registers={"PSTATE": 0x8000_03C9})


def test_before_the_switch_only_the_descriptor_is_written() -> None:
    debugger = PaperDebugger(REPAIRABLE)
    before = dict(debugger.registers)
    plan = plan_repairs(REPAIRABLE.verdict(), debugger.state())
    assert (plan.resume_at, plan.resume_pstate, len(plan.repairs)) == (None, None, 1)
    apply_repairs(debugger, plan)
    assert debugger.word(REPAIRABLE.tables().descriptor_address(CODE)) == CODE | EXEC
    assert debugger.registers == before


@pytest.mark.parametrize("pc", [VECTORS + 0x200, NEXT])
def test_after_the_freeze_the_pc_goes_back_with_the_pstate_of_the_switch(pc: int) -> None:
    debugger = PaperDebugger(REPAIRABLE, **{**FROZEN, "PC": pc})
    apply_repairs(debugger, plan_repairs(REPAIRABLE.verdict(), debugger.state()))
    assert (debugger.registers["PC"], debugger.registers["PSTATE"]) == (NEXT, 0x8000_03C9)


def test_every_descriptor_that_denies_is_written_once() -> None:
    moment = Moment(code=EXEC | UXN, table_bits=XN_TABLE, registers={"X14": SCTLR | 1 << 19})
    debugger = PaperDebugger(moment)
    plan = plan_repairs(moment.verdict(), debugger.state())
    addresses = [getattr(repair, "address", None) for repair in plan.repairs]
    tables = moment.tables()
    assert sorted(map(str, addresses)) == sorted(str(tables.descriptor_address(CODE, level)) for level in range(4))
    apply_repairs(debugger, plan)
    assert judge_again(debugger, plan).judgement is Judgement.SOUND


def test_big_endian_tables_are_written_big_endian() -> None:
    moment = Moment(code=EXEC | UXN, registers={"X14": SCTLR | EE}, big_endian=True)
    debugger = PaperDebugger(moment)
    apply_repairs(debugger, plan_repairs(moment.verdict(), debugger.state()))
    assert debugger.word(moment.tables().descriptor_address(CODE), "big") == CODE | EXEC


def test_the_pending_value_is_repaired_in_its_general_register() -> None:
    moment = Moment(registers={"X14": SCTLR | EE})
    debugger = PaperDebugger(moment)
    plan = plan_repairs(moment.verdict(), debugger.state())
    assert plan.operand == "X14"
    apply_repairs(debugger, plan)
    assert debugger.registers["X14"] == SCTLR


WRONG_T0SZ = 0x8084_3519
MOV_X14, MOVK_X14, MSR_TCR_X14 = 0xD286_A32E, 0xF2B0_108E, 0xD51C_204E
"""``mov x14, #0x3519``, ``movk x14, #0x8084, lsl #16`` and ``msr tcr_el2, x14``."""
LDR_X14_LITERAL = 0x5800_000E | 0x80 << 5
"""``ldr x14, .+0x200``"""
MADE_WRONG = {SITE - 16: MOV_X14, SITE - 12: MOVK_X14, SITE - 8: MSR_TCR_X14, SITE - 4: LDR_X14_LITERAL}
"""The code writes a TCR_EL2 with T0SZ 25 right before the switch, and makes x14 anew from a literal."""


def test_ids_limit_the_repair_to_their_findings() -> None:
    moment = Moment(code=EXEC | UXN, table_bits=XN_TABLE)
    verdict = moment.verdict()
    assert repairable_ids(verdict) == ("M01", "M02")
    state, tables = PaperDebugger(moment).state(), moment.tables()
    (only,) = plan_repairs(verdict, state, ["M01"]).repairs
    assert isinstance(only, DescriptorRepair) and only.address == tables.descriptor_address(CODE)
    assert len(plan_repairs(verdict, state, ["M01", "M02"]).repairs) == 4
    assert plan_repairs(verdict, state).repairs == plan_repairs(verdict, state, ["M01", "M02"]).repairs


def test_a_repair_of_part_of_the_findings_still_faults_afterwards() -> None:
    moment = Moment(code=EXEC | UXN, table_bits=XN_TABLE)
    debugger = PaperDebugger(moment)
    plan = plan_repairs(moment.verdict(), debugger.state(), ["M01"])
    apply_repairs(debugger, plan)
    after = judge_again(debugger, plan)
    assert after.judgement is Judgement.FAULTS
    assert {"M02"} <= {finding.id for finding in after.findings}.difference({"M01"})


def test_after_the_freeze_what_is_judged_again_is_the_translation_that_is_on() -> None:
    debugger = PaperDebugger(REPAIRABLE, **FROZEN)
    plan = plan_repairs(REPAIRABLE.verdict(), debugger.state())
    apply_repairs(debugger, plan)
    after = judge_again(debugger, plan)
    assert (after.judgement, after.situation.site, after.situation.next_pc) == (Judgement.SOUND, NEXT, NEXT)


@pytest.mark.parametrize(
    ("wanted", "why"),
    [
        ("M05", "no single write cures M05; there are repairs for M01"),
        ("M33", "M33 is not among the findings; there are repairs for M01"),
    ],
)
def test_an_id_without_a_repair_says_which_there_are(wanted: str, why: str) -> None:
    moment = Moment(code=EXEC | UXN, vectors=None)
    with pytest.raises(UsageError, match=f"^{why}$"):
        plan_repairs(moment.verdict(), PaperDebugger(moment).state(), [wanted])


def test_the_fields_that_change_are_named() -> None:
    verdict = REPAIRABLE.verdict()
    (repair,) = plan_repairs(verdict, PaperDebugger(REPAIRABLE).state()).repairs
    change = repair_change(verdict, repair)
    assert (change.findings, change.level) == (("M01",), 3)
    assert change.fields == (ChangedField("XN", 54, 54, 1, 0),)
    regime = verdict.situation.regime
    unmapped = descriptor_fields(DescriptorRepair(0, CODE | EXEC, 0, ""), None, regime)
    assert [(field.name, field.msb, field.lsb, field.new) for field in unmapped] == [
        (None, 55, 55, 0), ("DBM", 51, 51, 0), ("address", 47, 12, 0), ("AF", 10, 10, 0), ("SH", 9, 8, 0),
        ("AttrIndx", 4, 2, 0), ("type", 1, 1, 0), ("valid", 0, 0, 0),
    ]  # fmt: skip


def test_a_written_system_register_is_left_to_the_code_and_its_instructions_are_named() -> None:
    moment = Moment(registers={"TCR_EL2": WRONG_T0SZ}, instructions=MADE_WRONG)
    verdict = moment.verdict()
    plan = plan_repairs(verdict, PaperDebugger(moment).state())
    (correction,) = plan.corrections
    assert (plan.repairs, plan.resume_at, correction.position) == ((), None, Position.AT_SWITCH)
    assert isinstance(correction.repair, RegisterRepair)
    assert (correction.repair.register, correction.repair.new) == ("TCR_EL2", 0x8084_3510)
    assert correction.write is not None
    assert (correction.write.address, correction.operand, correction.operand_at_switch) == (SITE - 8, "X14", SCTLR)
    assert [made.address for made in correction.made_by] == [SITE - 16, SITE - 12]
    assert correction.literal is None
    fields = repair_change(verdict, correction.repair).fields
    assert fields == (ChangedField("T0SZ", 5, 0, 25, 16),)


def test_a_value_that_is_loaded_is_named_with_its_literal() -> None:
    instructions = {SITE - 12: LDR_X14_LITERAL, SITE - 8: MSR_TCR_X14, SITE - 4: LDR_X14_LITERAL}
    moment = Moment(registers={"TCR_EL2": WRONG_T0SZ}, instructions=instructions)
    (correction,) = plan_repairs(moment.verdict(), PaperDebugger(moment).state()).corrections
    assert [made.address for made in correction.made_by] == [SITE - 12]
    assert correction.literal == Literal(SITE - 12 + 0x200, 8)


def test_a_register_that_no_code_writes_is_to_be_written_before_the_switch() -> None:
    moment = Moment(registers={"TCR_EL2": WRONG_T0SZ})
    (correction,) = plan_repairs(moment.verdict(), PaperDebugger(moment).state()).corrections
    assert (correction.write, correction.made_by, correction.site) == (None, (), SITE)


def test_beside_a_register_descriptors_are_written_only_when_asked_for() -> None:
    """Half a repair is not made unasked: the machine would fault as before."""
    moment = Moment(registers={"TCR_EL2": WRONG_T0SZ})
    wrong_register = moment.verdict()
    verdict = replace(wrong_register, findings=(*wrong_register.findings, *REPAIRABLE.findings("M01")))
    state = PaperDebugger(moment).state()
    unasked, asked = plan_repairs(verdict, state), plan_repairs(verdict, state, repairable_ids(verdict))
    assert (len(unasked.repairs), len(unasked.corrections), unasked.held_back) == (0, 1, asked.repairs)
    assert (len(asked.repairs), len(asked.corrections), asked.held_back) == (1, 1, ())


def test_a_pending_value_after_the_freeze_is_left_to_the_code() -> None:
    moment = Moment(registers={"X14": SCTLR | EE})
    plan = plan_repairs(moment.verdict(), PaperDebugger(moment, **FROZEN).state())
    assert [(each.repair.register, each.position) for each in plan.corrections] == [("SCTLR_EL2", Position.BEYOND)]
    assert (plan.repairs, plan.resume_at) == ((), None)


REFUSED = {
    "nothing fatal": (Moment(), {}, "there is nothing to repair"),
    "no repair known": (Moment(code=None), {}, "no single write cures M11"),
    "the CPU is elsewhere": (REPAIRABLE, {"PC": CODE}, "not at the switch or stuck after it"),
    "the TLB keeps the translation": (Moment(to=ZEROS), FROZEN, "may keep it in its TLB"),
}


@pytest.mark.parametrize(("moment", "registers", "why"), REFUSED.values(), ids=list(REFUSED))
def test_refused(moment: Moment, registers: dict[str, int], why: str) -> None:
    with pytest.raises(UsageError, match=why):
        plan_repairs(moment.verdict(), PaperDebugger(moment, **registers).state())


def test_a_descriptor_that_has_changed_is_not_overwritten() -> None:
    debugger = PaperDebugger(REPAIRABLE)
    plan = plan_repairs(REPAIRABLE.verdict(), debugger.state())
    address = REPAIRABLE.tables().descriptor_address(CODE)
    debugger.memory.write(address, bytes(8))
    with pytest.raises(TargetError, match=f"the descriptor at {address:#x} is 0x0, not .* any more"):
        apply_repairs(debugger, plan)
    assert debugger.word(address) == 0
