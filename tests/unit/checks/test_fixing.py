"""What a repair writes, where, and when it is refused; on a debugger that is nothing but memory and registers."""

from __future__ import annotations

from collections.abc import Collection

import pytest

from kexecdbg.checks.fixing import apply_repairs, plan_repairs
from kexecdbg.checks.situation import situation_at
from kexecdbg.checks.verdict import Judgement, Verdict, judge
from kexecdbg.errors import TargetError, UsageError
from kexecdbg.machine.memory import BytesMemory
from kexecdbg.machine.state import CpuState
from tests.unit.checks.moments import CODE, EE, EXEC, NEXT, SCTLR, UXN, VECTORS, XN_TABLE, ZEROS, Moment

FROZEN = {"PC": VECTORS + 0x200, "SCTLR_EL2": SCTLR, "PSTATE": 0x3C9}
REPAIRABLE = Moment(code=EXEC | UXN, registers={"PSTATE": 0x8000_03C9})


class PaperDebugger:
    """Registers and memory without a machine: it can be read and written, not run."""

    def __init__(self, moment: Moment, **registers: int) -> None:
        self.memory: BytesMemory = moment.memory()
        self.registers = {**moment.values(), **registers}

    def state(self) -> CpuState:
        return CpuState(dict(self.registers))

    def write_register(self, name: str, value: int) -> None:
        self.registers[name] = value

    def step(self) -> None:
        raise AssertionError("nothing is to be executed")

    def run_to(self, addresses: Collection[int], seconds: float | None = None) -> int:
        raise AssertionError("nothing is to be executed")

    def word(self, address: int, order: str = "little") -> int:
        return int.from_bytes(self.memory.read(address, 8), "big" if order == "big" else "little")


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
    assert judge_again(debugger).judgement is Judgement.SOUND


def judge_again(debugger: PaperDebugger) -> Verdict:
    return judge(situation_at(debugger.state(), debugger.memory))


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


REFUSED = {
    "nothing fatal": (Moment(), {}, "there is nothing to repair"),
    "no repair known": (Moment(code=None), {}, "no single write cures M11"),
    "a register already written": (
        Moment(registers={"TCR_EL2": 0x8084_3519}),
        {},
        "TCR_EL2 cannot be written from the debugger; correct the code: TCR_EL2 = 0x80843510",
    ),
    "a pending value after the freeze": (
        Moment(registers={"X14": SCTLR | EE}),
        FROZEN,
        "SCTLR_EL2 cannot be written from the debugger",
    ),
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
