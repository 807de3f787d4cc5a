"""The time line: which steps are worth showing, of a recording or of what kexec-step executed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from kexecdbg.arm64.pstate import differ_in_flags_alone, el_of, flags_of
from kexecdbg.arm64.syndromes import decode_syndrome
from kexecdbg.checks.stepping import Stepped, StepRecord
from kexecdbg.trace.reader import Trace
from kexecdbg.trace.records import EventKind, RegisterChange, TraceStep
from kexecdbg.ui.report.subject import StepKind, TimeLineStep

TRANSLATION_REGISTERS = tuple(
    f"{name}_EL{el}"
    for el in (1, 2, 3)
    for name in ("SCTLR", "TTBR0", "TTBR1", "TCR", "MAIR", "VBAR", "HCR", "VTTBR", "VTCR")
)
"""Registers whose change is worth a line however far from the switch."""

_BEFORE, _AFTER = 14, 8
_MOST_LANDMARKS = 40
_SMALL_GAP = 2
_MOST_NOTES = 6


def steps_of_trace(trace: Trace, landmarks: Sequence[int], switch: int | None) -> tuple[TimeLineStep, ...]:
    """The steps around ``switch``, and of the ``landmarks`` those closest to it."""
    centre = switch if switch is not None else (landmarks[0] if landmarks else 0)
    closest = sorted(sorted(landmarks, key=lambda number: abs(number - centre))[:_MOST_LANDMARKS])
    around = range(max(0, centre - _BEFORE), min(trace.steps, centre + _AFTER + 1))
    lines: list[TimeLineStep] = []
    previous = -1
    for number in _without_small_gaps(sorted({*closest, *around})):
        lines.append(_line(trace, trace.step(number), number == switch, number - previous - 1))
        previous = number
    return tuple(_in_short(*pair) for pair in zip([None, *lines], lines, strict=False))


def _without_small_gaps(numbers: Sequence[int]) -> Iterator[int]:
    """``numbers`` and what is left out between them, where that is so little that a line would say no less."""
    previous = -1
    for number in numbers:
        if number - previous - 1 <= _SMALL_GAP:
            yield from range(previous + 1, number)
        yield number
        previous = number


def _in_short(before: TimeLineStep | None, line: TimeLineStep) -> TimeLineStep:
    """``line``; where it takes the same exception as the one ``before`` it, no more than that."""
    again = before is not None and (before.kind, before.pc, before.notes) == (StepKind.EXCEPTION, line.pc, line.notes)
    return replace(line, notes=("the same exception again",)) if again and not line.left_out else line


def _line(trace: Trace, step: TraceStep, is_switch: bool, left_out: int) -> TimeLineStep:
    pstate = trace.state(step.number).get("PSTATE")
    names = {change.name for change in step.changes}
    if step.exception is not None:
        kind = StepKind.EXCEPTION
        notes = [_exception_note(step.exception.to_el, step.exception.esr, step.exception.far)]
    else:
        kind = StepKind.REGISTER_WRITE if names & set(TRANSLATION_REGISTERS) else StepKind.ORDINARY
        notes = [_change(change) for change in step.changes]
        notes += [f"writes {write.size} bytes at {write.va:#x}" for write in step.writes]
    return TimeLineStep(
        StepKind.SWITCH if is_switch else kind,
        step.pc,
        _what(step),
        _few(notes),
        step.number,
        None if pstate is None else el_of(pstate),
        left_out,
    )


def _exception_note(to_el: int, esr: int | None, far: int | None) -> str:
    if esr is None:
        return f"exception to EL{to_el}, ESR not known"
    at = "" if far is None else f", FAR {far:#x}"
    return f"exception to EL{to_el}: ESR {esr:#x}{at}: {decode_syndrome(esr).summary}"


def _what(step: TraceStep) -> str:
    copies = [event for event in step.events if event.kind is EventKind.PAGE_COPIED]
    if copies:
        first, size = copies[0], sum(event.size for event in copies)
        return f"copied {size:,} bytes, the first {first.source:#x} to {first.destination:#x}"
    if step.is_folded:
        counts = [event.instructions for event in step.events]
        return "ran on" if None in counts else f"{sum(count or 0 for count in counts):,} instructions of a loop"
    return step.text


def _change(change: RegisterChange) -> str:
    if change.new is None:
        return f"{change.name} not known any more"
    if change.name == "PSTATE" and change.old is not None and differ_in_flags_alone(change.old, change.new):
        return "NZCV = " + format(flags_of(change.new), "04b")
    return f"{change.name} = {change.new:#x}"


def _few(notes: Sequence[str]) -> tuple[str, ...]:
    more = len(notes) - _MOST_NOTES
    return tuple(notes) if more <= 0 else (*notes[:_MOST_NOTES], f"{more} more")


def steps_of_stepping(stepped: Stepped) -> tuple[TimeLineStep, ...]:
    """What kexec-step executed: the set-up of the switch, then the switch and what came of it."""
    observed = stepped.observed
    lines = [_stepped(record, StepKind.ORDINARY) for record in stepped.set_up]
    if observed is None:
        return tuple(lines)
    exceptions = [record for record in (observed.first, observed.then) if record is not None]
    for number, record in enumerate(observed.steps):
        taken = next((each for each in exceptions if number and each.elr == record.instruction.address), None)
        if taken is None:
            lines.append(_stepped(record, StepKind.ORDINARY if number else StepKind.SWITCH))
        else:
            note = f"ESR {taken.esr:#x}: {decode_syndrome(taken.esr).summary}"
            lines.append(TimeLineStep(StepKind.EXCEPTION, record.instruction.address, record.instruction.text, (note,)))
            exceptions.remove(taken)
    return tuple(lines)


def _stepped(record: StepRecord, kind: StepKind) -> TimeLineStep:
    names = {change.name for change in record.changes}
    if kind is StepKind.ORDINARY and names & set(TRANSLATION_REGISTERS):
        kind = StepKind.REGISTER_WRITE
    notes = [
        "NZCV = " + format(flags_of(change.new), "04b")
        if change.name == "PSTATE" and change.old is not None and differ_in_flags_alone(change.old, change.new)
        else f"{change.name} = {change.new:#x}"
        for change in record.changes
    ]
    return TimeLineStep(kind, record.instruction.address, record.instruction.text, _few(notes))
