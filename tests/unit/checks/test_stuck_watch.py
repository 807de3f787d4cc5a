"""What a few steps tell about a CPU; the steps are those of a machine on paper."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import pytest

from kexecdbg.checks.prediction import ExceptionRecord
from kexecdbg.checks.stuck.diagnosis import Condition, diagnose
from kexecdbg.checks.stuck.watch import Watch, watch
from kexecdbg.errors import UsageError
from kexecdbg.machine.memory import BytesMemory
from kexecdbg.machine.state import CpuState
from tests.unit.checks.moments import CODE, EXEC, NEXT, UXN, Moment
from tests.unit.checks.stuck_moments import ADD_X0_1, B_BACK_4, ERET, VECTOR, frozen, spinning, vector_page

FREEZE = Moment(code=EXEC | UXN, vectors=None)
LOOP = CODE + 0x800


class Recording:
    """A debugger whose machine goes through states that are given."""

    def __init__(self, moment: Moment, states: Sequence[dict[str, int]]) -> None:
        self.memory: BytesMemory = moment.memory()
        self._following: Iterator[dict[str, int]] = iter(states[1:])
        self._now = states[0]

    def state(self) -> CpuState:
        return CpuState(self._now)

    def step(self) -> None:
        self._now = next(self._following)

    def run_to(self, addresses: Collection[int], seconds: float | None = None) -> int:
        raise AssertionError("a watched CPU is stepped, not run")

    def write_register(self, name: str, value: int) -> None:
        raise AssertionError("a watched CPU is not changed")


def watched(moment: Moment, states: Sequence[dict[str, int]]) -> tuple[Condition, Watch]:
    debugger = Recording(moment, states)
    found, seen = watch(debugger, diagnose(debugger.state(), debugger.memory), len(states) - 1)
    return found.condition, seen


def test_the_vector_loop_takes_the_same_exception_each_step() -> None:
    condition, seen = watched(FREEZE, [spinning(FREEZE)] * 4)
    assert condition is Condition.VECTOR_LOOP
    assert (seen.steps, len(seen.exceptions), seen.period) == (3, 3, 1)
    assert seen.repeated_exception is not None and seen.repeated_exception.esr == 0x8600_0006


def test_a_handler_that_returns_to_the_fault_is_a_fault_loop() -> None:
    """Data abort, ``eret``, the same data abort: each instruction of it can be executed."""
    moment = Moment(extra=vector_page(ADD_X0_1, ERET))
    fault = ExceptionRecord(0x9600_0007, 0x7000_0000, NEXT)
    at_vector = frozen(moment, fault)
    lap = [at_vector, {**at_vector, "PC": VECTOR + 4}, {**at_vector, "PC": NEXT}]
    condition, seen = watched(moment, [*lap, *lap, at_vector])
    assert condition is Condition.FAULT_LOOP
    assert (len(seen.exceptions), seen.period) == (2, 3)


def test_different_exceptions_are_no_loop() -> None:
    moment = Moment(extra=vector_page(ADD_X0_1, ERET))
    states = []
    for page in range(2):
        fault = ExceptionRecord(0x9600_0007, 0x7000_0000 + 0x1000 * page, NEXT)
        states += [{**frozen(moment, fault), "PC": NEXT}, frozen(moment, fault)]
    condition, seen = watched(moment, states)
    assert condition is Condition.RUNS
    assert (len(seen.exceptions), seen.repeated_exception, seen.period) == (2, None, None)


def test_a_loop_of_code_comes_back_without_an_exception() -> None:
    moment = Moment(instructions={LOOP: ADD_X0_1, LOOP + 4: B_BACK_4})
    here = {**moment.values(), "X14": 0, "PC": LOOP}
    condition, seen = watched(moment, [here, {**here, "PC": LOOP + 4}, here])
    assert condition is Condition.RUNS
    assert (seen.exceptions, seen.period) == ((), 2)


def test_the_only_syndrome_is_not_stepped_away() -> None:
    first = FREEZE.verdict().prediction.first
    assert first is not None
    with pytest.raises(UsageError, match="one step would overwrite it"):
        watched(FREEZE, [frozen(FREEZE, first)] * 2)
