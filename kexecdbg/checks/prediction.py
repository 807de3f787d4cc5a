"""Predicts what the CPU does after the write: the first exception, the second, or that it runs on."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from kexecdbg.arm64.faults import Fault, FaultKind
from kexecdbg.arm64.instructions import INSTRUCTION_SIZE, Flow, decode_instruction
from kexecdbg.arm64.syndromes import instruction_abort_esr
from kexecdbg.arm64.walk import Walk
from kexecdbg.checks.situation import Situation
from kexecdbg.errors import MemoryUnreadableError

_ESR_UNKNOWN_REASON = 0x0200_0000
"""ESR_ELx of an undefined instruction: EC 0, IL 1 (Arm ARM D24.2.40)."""


@dataclass(frozen=True)
class ExceptionRecord:
    """An exception as the syndrome registers of its target level show it.

    Attributes:
        esr, elr: register values.
        far: register value, or ``None`` when this exception leaves FAR alone.
    """

    esr: int
    far: int | None
    elr: int


class Outcome(enum.Enum):
    """Where the CPU ends up."""

    RUNS_ON = "runs on"
    SPINS = "spins: every exception faults on its own vector"
    IN_VECTOR = "goes on in its exception vector"
    UNKNOWN = "cannot be told"


@dataclass(frozen=True)
class Prediction:
    """The first exception after the write, what follows it, and where that ends.

    ``first`` is ``None`` when the next instruction executes, ``then`` when no second exception follows.
    """

    first: ExceptionRecord | None
    then: ExceptionRecord | None
    outcome: Outcome


def predict(situation: Situation) -> Prediction:
    """What the CPU does when it executes the write."""
    fetch = situation.fetch
    if situation.fetch_fault is not None:
        if situation.fetch_fault.kind is FaultKind.UNKNOWN:
            return Prediction(None, None, Outcome.UNKNOWN)
        first = _abort(situation.fetch_fault, situation.next_pc)
    elif situation.finds_intended_code(fetch):
        return Prediction(None, None, Outcome.RUNS_ON)
    elif _is_undefined(situation, fetch):
        first = ExceptionRecord(_ESR_UNKNOWN_REASON, None, situation.next_pc)
    else:
        return Prediction(None, None, Outcome.UNKNOWN)
    vector_fault = situation.vector_fault
    if vector_fault is None:
        return Prediction(first, None, Outcome.IN_VECTOR)
    if vector_fault.kind is FaultKind.UNKNOWN:
        return Prediction(first, None, Outcome.UNKNOWN)
    return Prediction(first, _abort(vector_fault, situation.vector), Outcome.SPINS)


def _abort(fault: Fault, address: int) -> ExceptionRecord:
    return ExceptionRecord(instruction_abort_esr(fault.fsc, same_el=True), address, address)


def _is_undefined(situation: Situation, fetch: Walk) -> bool:
    if fetch.pa is None:
        return False
    try:
        word = int.from_bytes(situation.memory.read(fetch.pa, INSTRUCTION_SIZE), "little")
    except MemoryUnreadableError:
        return False
    return decode_instruction(word, situation.next_pc).flow is Flow.UNDEFINED
