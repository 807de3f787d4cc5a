"""Why a CPU is stuck, as text: the verdict first, the evidence and what is lost under it, the next command last."""

from __future__ import annotations

from collections.abc import Sequence

from kexecdbg.arm64.bits import bit, bits
from kexecdbg.arm64.ranges import MappedRange
from kexecdbg.arm64.regimes import RANGE_SELECT_BIT
from kexecdbg.arm64.registers.pstate import AARCH64_MODES
from kexecdbg.arm64.syndromes import decode_syndrome
from kexecdbg.checks.finding import Severity
from kexecdbg.checks.fixing import RepairPlan
from kexecdbg.checks.prediction import Outcome
from kexecdbg.checks.stuck.diagnosis import Condition, Diagnosis
from kexecdbg.checks.stuck.origin import Origin
from kexecdbg.checks.stuck.syndrome import HeldSyndrome, Standing
from kexecdbg.checks.stuck.watch import Watch
from kexecdbg.ui.style import Style, hanging
from kexecdbg.ui.verdict_text import exception_text, finding_text, repair_text

_COLUMN = 11
_MIB = 1 << 20
_SUSPECTS_SHOWN = 4
_TRANSLATION = frozenset(
    {Condition.VECTOR_LOOP, Condition.VECTOR_OUT_OF_REACH, Condition.CANNOT_EXECUTE, Condition.RESTS_IN_VECTOR}
)
"""Conditions that a switch of the MMU can be the origin of."""


def why_text(diagnosis: Diagnosis, watched: Watch | None, style: Style) -> str:
    """What kexec-why prints about one CPU."""
    origin = diagnosis.origin
    lines = [hanging("", headline(diagnosis, style), 0)]
    lines += [hanging("where", _where(diagnosis), _COLUMN, style), *_code(diagnosis, style)]
    if watched is not None:
        lines.append(hanging("watched", _watched(watched), _COLUMN, style))
    if diagnosis.syndrome is not None:
        lines += _syndrome(diagnosis.syndrome, diagnosis, style)
    if diagnosis.lost:
        lines.append(hanging("lost", _lost(diagnosis), _COLUMN, style))
    if origin is not None:
        lines += _origin(origin, diagnosis, style)
    elif diagnosis.searched is not None:
        lines.append(hanging("switch", _not_found(diagnosis), _COLUMN, style))
    if diagnosis.suspects and (origin is None or not origin.explains):
        lines += _suspects(diagnosis.suspects, diagnosis, style)
    return "\n".join([*lines, *_next(diagnosis, style)])


def headline(diagnosis: Diagnosis, style: Style) -> str:
    """The verdict in one sentence."""
    word, emphasise = {True: ("STUCK", style.bad), False: ("NOT STUCK", style.good), None: ("UNKNOWN", style.warn)}[
        diagnosis.stuck
    ]
    return f"{emphasise(word)}: the CPU {diagnosis.condition.value}, {diagnosis.pc:#x}"


def summary(diagnosis: Diagnosis, style: Style) -> str:
    """The verdict and the cause on one line, or two."""
    origin = diagnosis.origin
    if origin is None or not origin.explains:
        return headline(diagnosis, style)
    causes = dict.fromkeys(finding.id for finding in origin.verdict.findings if finding.severity is Severity.FATAL)
    return f"{headline(diagnosis, style)}; {', '.join(causes)} at the switch, {origin.instruction.address:#x}"


def _where(diagnosis: Diagnosis) -> str:
    mode = AARCH64_MODES.get(bits(diagnosis.pstate, 3, 0), "AArch32").split(":")[0]
    mmu = "on" if diagnosis.mmu_on else "off"
    place = f"{mode}, MMU {mmu} in the {diagnosis.regime.value} regime"
    entry = diagnosis.entry
    if entry is not None:
        inside = "" if entry.at_start else f", {entry.address - entry.start:#x} into the entry"
        place += f"; {entry.vbar} + {entry.offset:#x}: {entry.kind}, {entry.source}{inside}"
    return f"{place}. {_sentence(diagnosis.reason)}" if diagnosis.reason else place


def _sentence(clause: str) -> str:
    return f"{clause[0].upper()}{clause[1:]}."


def _code(diagnosis: Diagnosis, style: Style) -> list[str]:
    shown = diagnosis.loop.instructions if diagnosis.loop else ()
    if not shown and diagnosis.instruction is not None:
        shown = (diagnosis.instruction,)
    lines = [f"{item.address:#x}  {item.text}" for item in shown]
    if diagnosis.condition is Condition.WAITS and diagnosis.loop and not diagnosis.loop.has_exit:
        lines.append("no instruction leaves this loop: only an interrupt or a reset does")
    return [
        hanging("code" if not index else "", line, _COLUMN, None if index else style)
        for index, line in enumerate(lines)
    ]


def _syndrome(held: HeldSyndrome, diagnosis: Diagnosis, style: Style) -> list[str]:
    facts = diagnosis.regime.facts
    source = "" if held.spsr is None else f"; {facts.spsr} {held.spsr:#x}"
    if held.source_el is not None:
        source += f", taken from EL{held.source_el}"
    lines = [
        hanging("syndrome", f"that of {held.standing.value}", _COLUMN, style),
        hanging("", exception_text(held.record, facts) + source, _COLUMN),
    ]
    if held.meaning and held.meaning not in diagnosis.reason:
        lines.append(hanging("", _sentence(held.meaning), _COLUMN))
    return lines


def _lost(diagnosis: Diagnosis) -> str:
    names = f"{', '.join(diagnosis.lost[:-1])} and {diagnosis.lost[-1]}"
    kept = (
        "; the general and translation registers are still as they were then"
        if diagnosis.condition is Condition.VECTOR_LOOP
        else ""
    )
    return f"{names} of the first exception{kept}"


def _origin(origin: Origin, diagnosis: Diagnosis, style: Style) -> list[str]:
    verdict, facts = origin.verdict, diagnosis.regime.facts
    now = verdict.situation.after.get(facts.sctlr)
    value = "" if now is None else f", {now:#x}"
    lines = [
        hanging(
            "switch",
            f"{origin.instruction.address:#x}  {origin.instruction.text}: {origin.operand} still holds what "
            f"{facts.sctlr} has{value}",
            _COLUMN,
            style,
        )
    ]
    if origin.also:
        others = ", ".join(f"{address:#x}" for address in origin.also[:_SUSPECTS_SHOWN])
        lines.append(hanging("", f"less likely, but possible as well: {others}", _COLUMN))
    lines += [finding_text(finding, style) for finding in verdict.findings]
    first = origin.first
    if first is None:
        outcome = (
            "the next instruction could be executed, so the first exception came later"
            if verdict.prediction.outcome is Outcome.RUNS_ON
            else "what came first cannot be told"
        )
        return [*lines, hanging("1st", outcome, _COLUMN, style)]
    lines.append(hanging("1st", f"{_how_known(diagnosis)}: {exception_text(first, facts)}", _COLUMN, style))
    if origin.explains and diagnosis.lost:
        lines.append(hanging("", "what follows from it is what the registers hold now", _COLUMN))
    elif not origin.explains:
        lines.append(hanging("", "but that would not end in what the registers hold now", _COLUMN))
    return lines


def _how_known(diagnosis: Diagnosis) -> str:
    held = diagnosis.syndrome
    seen = held is not None and held.standing is Standing.FIRST
    return "as predicted afterwards, and seen" if seen else "reconstructed"


def _not_found(diagnosis: Diagnosis) -> str:
    searched = diagnosis.searched
    assert searched is not None
    where = "all memory that was written" if searched.everything else "near registers and in mapped pages"
    hint = "" if searched.everything else "; give --search START-END where the code may be"
    return (
        f"no msr to {diagnosis.regime.facts.sctlr} was found that wrote its present value "
        f"(searched {searched.size / _MIB:.1f} MiB, {where}{hint})"
    )


def _suspects(suspects: Sequence[MappedRange], diagnosis: Diagnosis, style: Style) -> list[str]:
    here, other = ("PXN", "one without EL0") if diagnosis.regime.facts.two_ranges else ("XN", "one with EL0")
    count = "1 range is" if len(suspects) == 1 else f"{len(suspects)} ranges are"
    lines = [
        hanging(
            "suspect",
            f"{count} execute-never ({here}) in the {diagnosis.regime.value} regime, but would not be in {other}: "
            "probably mapped for the wrong one",
            _COLUMN,
            style,
        )
    ]
    lines += [
        hanging("", f"{item.va:#x}-{item.end - 1:#x} -> {item.pa:#x}", _COLUMN) for item in suspects[:_SUSPECTS_SHOWN]
    ]
    if len(suspects) > _SUSPECTS_SHOWN:
        lines.append(" " * _COLUMN + "...")
    return lines


def _watched(watched: Watch) -> str:
    steps = f"{watched.steps} instruction{'s' if watched.steps != 1 else ''} executed"
    repeated = watched.repeated_exception
    if repeated is not None and repeated.esr is not None:
        times = watched.exceptions.count(repeated)
        return f"{steps}, {times} times the same exception: {decode_syndrome(repeated.esr).summary}"
    if watched.period is not None:
        return f"{steps}; the CPU is where it was {watched.period} before, {watched.samples[-1].pc:#x}"
    return f"{steps}; the CPU got from {watched.samples[0].pc:#x} to {watched.samples[-1].pc:#x}"


def _next(diagnosis: Diagnosis, style: Style) -> list[str]:
    commands = list(_commands(diagnosis))
    return [
        hanging("next" if not index else "", command, _COLUMN, None if index else style)
        for index, command in enumerate(commands)
    ]


def _commands(diagnosis: Diagnosis) -> list[str]:
    origin = diagnosis.origin
    if diagnosis.condition is Condition.AT_SWITCH:
        return ["kexec-check  what will happen"]
    if diagnosis.condition is Condition.UNKNOWN:
        return [_walk(diagnosis, diagnosis.pc)]
    if not diagnosis.stuck:
        return (
            ["kexec-why --watch 64  whether it gets anywhere"]
            if diagnosis.condition is Condition.RUNS
            else ["continue"]
        )
    if origin is not None and origin.explains:
        if isinstance(origin.repair, RepairPlan):
            return ["kexec-fix   " + _repair_summary(origin.repair), "continue"]
        return [f"not repaired from here: {origin.repair}", _walk(diagnosis, origin.verdict.situation.next_pc)]
    if diagnosis.condition in _TRANSLATION and diagnosis.mmu_on:
        return [f"{_walk(diagnosis, diagnosis.pc)}  the walk behind it", "kexec-regs"]
    return ["kexec-regs"]


def _walk(diagnosis: Diagnosis, va: int) -> str:
    upper = diagnosis.regime.facts.two_ranges and bit(va, RANGE_SELECT_BIT)
    return f"walk-ttbr{int(upper)} {va:#x}"


def _repair_summary(plan: RepairPlan) -> str:
    writes = "; ".join(repair_text(repair) for repair in plan.repairs)
    return f"{writes}; then PC = {plan.resume_at:#x}" if plan.resume_at is not None else writes
