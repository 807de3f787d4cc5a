"""A recorded run as the subject of a report: the switch in it that matters, judged as if it were still ahead."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

import numpy as np

from kexecdbg.arm64.instructions import Instruction, decode_instruction
from kexecdbg.arm64.syndromes.ec import CALLS, ec_of
from kexecdbg.checks.enable_site import writes_sctlr
from kexecdbg.checks.judging import judge
from kexecdbg.checks.prediction import ExceptionRecord
from kexecdbg.checks.situation import situation_at
from kexecdbg.checks.verdict import Judgement, Verdict
from kexecdbg.errors import ArchitectureError, MemoryUnreadableError, RegisterUnknownError, UsageError
from kexecdbg.trace.reader import Trace
from kexecdbg.trace.records import ExceptionTaken
from kexecdbg.trace.search import StepFilter, find_steps
from kexecdbg.ui.report.subject import Origin, Recorded, Subject, SymbolOf, no_symbols
from kexecdbg.ui.report.time_line import TRANSLATION_REGISTERS, steps_of_trace
from kexecdbg.ui.report.words import counted
from kexecdbg.ui.trace_text import memory_text

_WRITTEN = ("SCTLR_EL", "TTBR0_EL", "TTBR1_EL", "TCR_EL")
"""What a switch writes: the MMU itself, or tables that are in use."""
_MOST_JUDGED = 16
"""How many writes are judged, at most, to find the one that matters."""
_MOST_LANDMARKS = 2000


def subject_of_trace(
    trace: Trace, step: int | None = None, symbol_of: SymbolOf = no_symbols, facts: Iterable[tuple[str, str]] = ()
) -> Subject:
    """What there is to report of ``trace``.

    Args:
        trace: the recorded run.
        step: the switch is this step; by default the last one before the first fault, or the first that would fault.
        symbol_of: names virtual addresses.
        facts: what else to say of where it comes from.

    Raises:
        TraceError: there is no such step, or a part of the file is damaged.
        UsageError: ``step`` is given and switches nothing.
    """
    switch: int | None
    verdict: Verdict | None
    if step is not None:
        switch, verdict = step, _verdict_at(trace, step)
    else:
        switch, verdict = _switch(trace)
    reason = "" if verdict else "Nothing in this recording switches an MMU on, as far as it could be judged."
    moment = switch if switch is not None else _first_fault(trace) or trace.steps
    landmarks = list(islice(_landmarks(trace), _MOST_LANDMARKS))
    lines = steps_of_trace(trace, landmarks, switch)
    return Subject(
        origin=_origin(trace, switch, facts),
        state=trace.state(moment),
        memory=trace.memory(moment),
        verdict=verdict,
        reason=reason,
        recorded=None if verdict is None or switch is None else _recorded(trace, switch, verdict),
        steps=lines,
        steps_left_out=trace.steps - 1 - (lines[-1].number or 0) if lines else 0,
        symbol_of=symbol_of,
    )


def _landmarks(trace: Trace) -> Iterable[int]:
    changed = set(islice(find_steps(trace, StepFilter(changes=TRANSLATION_REGISTERS)), _MOST_LANDMARKS))
    taken = {number for number, _ in islice(trace.exceptions(), _MOST_LANDMARKS)}
    return sorted(changed | taken)


def _is_fault(exception: ExceptionTaken) -> bool:
    return exception.esr is None or ec_of(exception.esr) not in CALLS


def _first_fault(trace: Trace) -> int | None:
    return next((number for number, exception in trace.exceptions() if _is_fault(exception)), None)


def _switch(trace: Trace) -> tuple[int | None, Verdict | None]:
    """The switch that matters and the verdict on it: the last before the first fault, or the first that is not sound.

    Where every one is sound, the first write of SCTLR that sets M, or else the first change of tables in use.
    """
    fault = _first_fault(trace)
    writes = _writes(trace)
    if fault is not None:
        before = reversed([number for number in writes if number <= fault])
        found = next(_judged(trace, before), None)
        if found is not None:
            return found
    sound: list[tuple[int, Verdict]] = []
    for number, verdict in islice(_judged(trace, writes), _MOST_JUDGED):
        if verdict.judgement is Judgement.FAULTS:
            return number, verdict
        sound.append((number, verdict))
    sound.sort(key=lambda pair: not _writes_sctlr_at(trace, pair[0]))
    return sound[0] if sound else (None, None)


def _writes_sctlr_at(trace: Trace, number: int) -> bool:
    instruction = trace.step(number).instruction
    return instruction is not None and writes_sctlr(instruction)


def _writes(trace: Trace) -> list[int]:
    """The steps that execute an MSR of a register that a switch writes, ascending."""
    numbers: list[int] = []
    for block in trace.blocks():
        words: list[int] = np.unique(block.words).tolist()
        writes = [word for word in words if _writes_translation(decode_instruction(word, 0))]
        numbers += (block.first + np.flatnonzero(np.isin(block.words, writes))).tolist()
    return numbers


def _writes_translation(instruction: Instruction) -> bool:
    move = instruction.system_move
    return move is not None and move.is_write and move.register.startswith(_WRITTEN)


def _judged(trace: Trace, numbers: Iterable[int]) -> Iterator[tuple[int, Verdict]]:
    """The switches among the steps ``numbers`` of which enough is known, with the verdict on each."""
    for number in numbers:
        try:
            situation = situation_at(trace.state(number), trace.memory(number))
            if not situation.approach:
                yield number, judge(situation)
        except (ArchitectureError, MemoryUnreadableError, RegisterUnknownError, UsageError):
            continue  # it is no switch, or it cannot be judged


def _verdict_at(trace: Trace, step: int) -> Verdict:
    situation = situation_at(trace.state(step), trace.memory(step))
    if situation.approach:
        later = f"{len(situation.approach)} instructions later"
        raise UsageError(f"step {step} is no switch; it leads to the one at {situation.site:#x}, {later}")
    return judge(situation)


def _recorded(trace: Trace, switch: int, verdict: Verdict) -> Recorded:
    following = ((number, taken) for number, taken in trace.exceptions() if number >= switch and _is_fault(taken))
    found = next(following, None)
    predicted = verdict.prediction.first
    if found is None:
        after = trace.steps - switch - 1
        if predicted is None:
            return Recorded(None, True, f"The CPU ran on for {counted(after, 'step')}, to the end of the recording.")
        if not after:
            return Recorded(None, None, "The recording ends with the switch.")
        laxer = "QEMU lets some things pass that the architecture does not; the findings say which."
        return Recorded(
            None, False, f"The recorded CPU ran on for {counted(after, 'step')} without an exception. {laxer}"
        )
    number, taken = found
    if taken.esr is None or taken.elr is None:
        return Recorded(None, None, f"Step {number:,} takes an exception whose syndrome is not known.")
    record = ExceptionRecord(taken.esr, taken.far, taken.elr)
    later = f"Recorded in step {number:,}, {counted(number - switch, 'step')} after the switch."
    if predicted is not None:
        return Recorded(record, predicted.agrees_with(record), later)
    # Nothing was predicted for the switch itself; a finding may say what it ends in.
    ends = [finding.leads_to for finding in verdict.findings if finding.leads_to is not None]
    agrees = True if any(each.agrees_with(record) for each in ends) else None
    return Recorded(record, agrees, later)


def _origin(trace: Trace, switch: int | None, facts: Iterable[tuple[str, str]]) -> Origin:
    header = trace.header
    how = {"stepping": "by stepping through the gdbstub", "log": "from QEMU's log"}.get(header.engine, header.engine)
    rows = [
        *facts,
        ("recording", f"{trace.path.name}, {counted(trace.steps, 'step')}, {how}"),
        ("recorded by", header.recorder),
        ("CPU", header.cpu_model),
        ("QEMU", header.qemu_version),
        ("QEMU's command", " ".join(header.command_line)),
        ("build id", header.build_id),
        ("memory", memory_text(trace)),
        ("judged at", "" if switch is None else f"step {switch:,}"),
    ]
    at = "" if switch is None else f" --goto {switch}"
    commands = (
        (f"kexecdbg replay {trace.path.name}{at}", "serve this run to GDB, forwards and backwards, without QEMU"),
        (f"kexecdbg trace {trace.path.name}", "list and search its steps"),
    )
    return Origin(trace.path.name, tuple((label, text) for label, text in rows if text), trace.warnings, commands)
