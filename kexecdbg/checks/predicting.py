"""Predicts what the CPU does after the write: the first exception, the second, or that it runs on."""

from __future__ import annotations

from dataclasses import replace

from kexecdbg.arm64.evaluation import Step, SystemWrite
from kexecdbg.arm64.evaluation.address_space import PAGE_SIZE
from kexecdbg.arm64.faults import Access, Cause, CauseKind, Fault, FaultKind
from kexecdbg.arm64.features import effective_e2h
from kexecdbg.arm64.instructions import INSTRUCTION_SIZE, Flow, decode_instruction
from kexecdbg.arm64.regimes import regime_of
from kexecdbg.arm64.vectors import VectorSource, own_source, vectors_base
from kexecdbg.arm64.walk import Walk, walk
from kexecdbg.checks.enable_site import is_undefined
from kexecdbg.checks.exceptions import data_abort, fetch_abort, stop_exception, undefined_instruction
from kexecdbg.checks.fetching import instruction_at
from kexecdbg.checks.prediction import ExceptionRecord, Outcome, Place, Prediction
from kexecdbg.checks.situation import Situation
from kexecdbg.checks.touches import Touch, touches_of
from kexecdbg.errors import MemoryUnreadableError


def predict(situation: Situation) -> Prediction:
    """What the CPU does when it executes the write."""
    if _write_is_undefined(situation):
        write = instruction_at(situation.before, situation.memory, situation.site)
        place = Place(situation.site, write.text, None, None, 0)
        return _taken(replace(situation, after=situation.before), undefined_instruction(situation.site), place, ())
    fault, next_pc = fault_of(situation, situation.fetch, Access.FETCH), situation.next_pc
    if fault is None and situation.finds_intended_code(situation.fetch):
        return _follow(situation)
    text = _text_at(situation)
    place = Place(next_pc, text, Access.FETCH if fault is not None else None, next_pc if fault is not None else None, 0)
    if fault is not None:
        if fault.kind is FaultKind.UNKNOWN:
            return Prediction(None, None, Outcome.UNKNOWN, place)
        return _taken(situation, fetch_abort(fault, next_pc, situation.el), place, ())
    if _is_undefined(situation):
        return _taken(situation, undefined_instruction(next_pc), place, ())
    return Prediction(None, None, Outcome.UNKNOWN, place)


def _follow(situation: Situation) -> Prediction:
    """The next fetch finds the intended code: the first access after it that faults."""
    steps, stop = situation.aftermath.steps, situation.aftermath.stop
    for touch in touches_of(situation.aftermath):
        found = _fault(situation, touch)
        if found is None:
            continue
        fault, target = found
        instruction = touch.instruction
        address, text = (target, None) if instruction is None else (instruction.address, instruction.text)
        place = Place(address, text, touch.access, target, touch.executed)
        if fault.kind is FaultKind.UNKNOWN:
            return Prediction(None, None, Outcome.UNKNOWN, place)
        if instruction is None or touch.access is Access.FETCH:
            first = fetch_abort(fault, target, situation.el)
        else:
            first = data_abort(fault, instruction, target, touch.access, situation.el)
        return _taken(situation, first, place, steps[: touch.executed])
    text = stop.instruction.text if stop.instruction is not None else None
    final = stop_exception(stop)
    place = Place(stop.address, text, stop.access if final is not None else None, stop.target, len(steps))
    if final is None:
        return Prediction(None, None, Outcome.RUNS_ON, place)
    return _taken(situation, final, place, steps)


def _fault(situation: Situation, touch: Touch) -> tuple[Fault, int] | None:
    """The fault of a touch and its address; one that crosses into another page may fault there."""
    last = touch.address + touch.size - 1
    for address in dict.fromkeys((touch.address, max(touch.address, last & ~(PAGE_SIZE - 1)))):
        fault = fault_of(situation, situation.walk(address), touch.access)
        if fault is not None:
            return fault, address
    return None


def fault_of(situation: Situation, result: Walk, access: Access) -> Fault | None:
    """The fault that ``access`` takes; an External abort where the memory map says that nothing answers."""
    fault, memory_map = result.fault_for(access), situation.memory_map
    if memory_map is None:
        return fault
    if fault is not None:
        nothing = fault.cause.address is not None and memory_map.find(fault.cause.address) is None
        return replace(fault, kind=FaultKind.EXTERNAL_ON_WALK) if fault.kind is FaultKind.UNKNOWN and nothing else fault
    if result.pa is not None and memory_map.find(result.pa) is None:
        text = f"nothing answers at {result.pa:#x} ({memory_map.describe_ram()})"
        return Fault(FaultKind.EXTERNAL, 0, Cause(CauseKind.NOTHING_THERE, text))
    return None


def _write_is_undefined(situation: Situation) -> bool:
    """Whether the CPU does not execute the write at the site; never when it is only assumed."""
    if situation.site == situation.next_pc:
        return False
    try:
        move = instruction_at(situation.before, situation.memory, situation.site).system_move
    except MemoryUnreadableError:
        return False
    return move is not None and is_undefined(move.register, situation.el, effective_e2h(situation.before))


def _taken(situation: Situation, first: ExceptionRecord, place: Place, steps: tuple[Step, ...]) -> Prediction:
    """``first`` is taken after ``steps``: whether its vector can be fetched."""
    el = situation.el if first.el is None else first.el
    vector = vector_after(situation, steps, el)
    result = walk(situation.after, situation.memory, vector, regime=regime_of(el, situation.after))
    fault = fault_of(situation, result, Access.FETCH)
    if fault is None:
        return Prediction(first, None, Outcome.IN_VECTOR, place, vector)
    if fault.kind is FaultKind.UNKNOWN:
        return Prediction(first, None, Outcome.UNKNOWN, place, vector)
    return Prediction(first, fetch_abort(fault, vector, el), Outcome.SPINS, place, vector)


def vector_after(situation: Situation, steps: tuple[Step, ...], el: int | None = None) -> int:
    """Address of the vector that a synchronous exception to ``el``, by default the code's, takes after ``steps``."""
    el = situation.el if el is None else el
    name = regime_of(el, situation.after).facts.vbar
    written = [
        effect.value
        for step in steps
        for effect in step.effects
        if isinstance(effect, SystemWrite) and effect.register == name and effect.value is not None
    ]
    base = written[-1] if written else situation.after.require(name, "where an exception goes")
    if el != situation.el:
        return vectors_base(base) + VectorSource.LOWER_EL
    return vectors_base(base) + own_source(situation.after.require("PSTATE", "which vector an exception takes"))


def _text_at(situation: Situation) -> str | None:
    word = _word_at(situation)
    return None if word is None else decode_instruction(word, situation.next_pc).text


def _is_undefined(situation: Situation) -> bool:
    word = _word_at(situation)
    return word is not None and decode_instruction(word, situation.next_pc).flow is Flow.UNDEFINED


def _word_at(situation: Situation) -> int | None:
    """The instruction that the next fetch gets, by the tables."""
    if situation.fetch.pa is None:
        return None
    try:
        return int.from_bytes(situation.memory.read(situation.fetch.pa, INSTRUCTION_SIZE), "little")
    except MemoryUnreadableError:
        return None
