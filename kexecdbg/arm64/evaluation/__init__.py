"""Evaluates straight-line A64 code on known register values: what it writes, accesses, orders, and where it faults."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from kexecdbg.arm64.evaluation.address_space import AddressSpace, Location, TranslatedMemory
from kexecdbg.arm64.evaluation.effects import (
    Barrier,
    BarrierKind,
    Domain,
    Effect,
    ExceptionReturn,
    Maintenance,
    MemoryAccess,
    Step,
    Stop,
    StopReason,
    SystemRead,
    SystemWrite,
)
from kexecdbg.arm64.evaluation.evaluator import Evaluator
from kexecdbg.arm64.evaluation.loops import pass_over_loop
from kexecdbg.arm64.evaluation.registers import EvaluatedRegisters
from kexecdbg.arm64.instructions import Instruction

__all__ = [
    "AddressSpace",
    "Barrier",
    "BarrierKind",
    "Domain",
    "Effect",
    "EvaluatedRegisters",
    "Evaluation",
    "Evaluator",
    "ExceptionReturn",
    "Location",
    "Maintenance",
    "MemoryAccess",
    "Step",
    "Stop",
    "StopReason",
    "SystemRead",
    "SystemWrite",
    "TranslatedMemory",
    "evaluate",
]


@dataclass(frozen=True)
class Evaluation:
    """What evaluated code does.

    Attributes:
        steps: the instructions that were carried out, in order.
        stop: why there are no more.
    """

    steps: tuple[Step, ...]
    stop: Stop


def evaluate(
    evaluator: Evaluator, limit: int, until: Callable[[Instruction, EvaluatedRegisters], bool] | None = None
) -> Evaluation:
    """Carry out at most ``limit`` instructions; stop before the first one that ``until`` holds for.

    The evaluator is left at the instruction where it stopped.
    """
    steps: list[Step] = []
    while True:
        found = evaluator.peek()
        if isinstance(found, Stop):
            return Evaluation(tuple(steps), found)
        if until is not None and until(found, evaluator.registers):
            return Evaluation(tuple(steps), Stop(StopReason.ASKED, found.address, found))
        if len(steps) >= limit:
            return Evaluation(tuple(steps), Stop(StopReason.LIMIT, found.address, found))
        step = evaluator.execute(found)
        if isinstance(step, Step):
            steps.append(step)
            continue
        passed = pass_over_loop(evaluator, step)
        if passed is None:
            return Evaluation(tuple(steps), step)
        steps += passed
