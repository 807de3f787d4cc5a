"""Why a CPU is stuck, as text: the verdict first, the evidence and what is lost under it, the next command last."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from kexecdbg.arm64.bits import bits
from kexecdbg.arm64.ranges import MappedRange
from kexecdbg.arm64.registers.pstate import AARCH64_MODES
from kexecdbg.arm64.syndromes import decode_syndrome
from kexecdbg.arm64.syndromes.ec import ABORTS
from kexecdbg.checks.finding import Finding, Severity
from kexecdbg.checks.fixing import RepairPlan
from kexecdbg.checks.prediction import Outcome
from kexecdbg.checks.stuck.diagnosis import Condition, Diagnosis
from kexecdbg.checks.stuck.origin import Origin, OriginSearch
from kexecdbg.checks.stuck.syndrome import HeldSyndrome, Standing
from kexecdbg.checks.stuck.watch import Watch
from kexecdbg.ui.style import Style, hanging
from kexecdbg.ui.verdict_text import exception_text, finding_text, repair_text
from kexecdbg.ui.walk_text import walk_command

_COLUMN = 11
_MIB = 1 << 20
_SUSPECTS_SHOWN = 4


def why_text(
    diagnosis: Diagnosis, watched: Watch | None, style: Style, cpu: int | None = None, several: bool = False
) -> str:
    """What kexec-why prints about one CPU.

    Args:
        diagnosis: what is known of it.
        watched: what stepping it showed, if it was stepped.
        style: how to emphasise.
        cpu: its number, if the commands to type next have to name it.
        several: whether the machine has other CPUs.
    """
    origin = diagnosis.origin
    lines = [headline(diagnosis, style), hanging("where", _where(diagnosis), _COLUMN, style)]
    lines += _code(diagnosis, style)
    if watched is not None:
        lines.append(hanging("watched", _watched(watched), _COLUMN, style))
    if diagnosis.syndrome is not None and (diagnosis.stuck or diagnosis.syndrome.standing is not Standing.EARLIER):
        lines += _syndrome(diagnosis.syndrome, diagnosis, style)
    if diagnosis.lost:
        lines.append(hanging("lost", _lost(diagnosis), _COLUMN, style))
    if origin is not None:
        lines += _origin(origin, diagnosis, style)
    elif diagnosis.search is not None and _translation_is_why(diagnosis):
        lines.append(hanging("switch", _not_found(diagnosis.search, diagnosis), _COLUMN, style))
    if diagnosis.suspects and _translation_is_why(diagnosis) and (origin is None or not origin.explains):
        lines += _suspects(diagnosis.suspects, diagnosis, style)
    commands = _commands(diagnosis, "" if cpu is None else f" --cpu {cpu}", several, watched is not None)
    return "\n".join([*lines, *_next(commands, style)])


def headline(diagnosis: Diagnosis, style: Style) -> str:
    """The verdict in one sentence."""
    label, emphasise = _verdict(diagnosis, style)
    text = hanging(label, _condition(diagnosis), len(label) + 1)
    return emphasise(label) + text[len(label) :]


def _verdict(diagnosis: Diagnosis, style: Style) -> tuple[str, Callable[[str], str]]:
    if diagnosis.stuck is None:
        return "UNKNOWN:", style.warn
    return ("STUCK:", style.bad) if diagnosis.stuck else ("NOT STUCK:", style.good)


def _condition(diagnosis: Diagnosis) -> str:
    return f"at {diagnosis.pc:#x}, the CPU {diagnosis.condition.value}"


def summary(diagnosis: Diagnosis, style: Style) -> str:
    """The verdict and the cause on one line, or two."""
    label, emphasise = _verdict(diagnosis, style)
    origin = diagnosis.origin
    text = f"{emphasise(label)} {_condition(diagnosis)}"
    if origin is None or not origin.explains:
        return text
    causes = dict.fromkeys(finding.id for finding in _causes(origin))
    return f"{text}; {', '.join(causes)} at the switch, {origin.instruction.address:#x}"


def _where(diagnosis: Diagnosis) -> str:
    mode = AARCH64_MODES.get(bits(diagnosis.pstate, 3, 0), "AArch32").split(":")[0]
    mmu = "on" if diagnosis.mmu_on else "off"
    place = f"{mode}, MMU {mmu} in the {diagnosis.regime.value} regime"
    entry = diagnosis.entry
    if entry is not None and diagnosis.condition is not Condition.HALTED:
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


def _places(addresses: Sequence[int]) -> str:
    shown = ", ".join(f"{address:#x}" for address in addresses[:_SUSPECTS_SHOWN])
    return f"{shown}, ..." if len(addresses) > _SUSPECTS_SHOWN else shown


def _causes(origin: Origin) -> list[Finding]:
    """What is fatal; that the vectors are out of reach is said already."""
    return [item for item in origin.verdict.findings if item.severity is Severity.FATAL and not item.is_consequence]


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
        lines.append(hanging("", f"less likely, but possible as well: {_places(origin.also)}", _COLUMN))
    if origin.or_later:
        later = "where the code after it could go on, so that the first exception came later"
        lines.append(hanging("", f"or {_places(origin.or_later)}, {later}", _COLUMN))
    lines += [finding_text(finding, style) for finding in _causes(origin)]
    hazards = dict.fromkeys(item.id for item in verdict.findings if item.severity is Severity.HAZARD)
    if hazards:
        lines.append(hanging("hazards", f"{', '.join(hazards)}; --json has them", _COLUMN))
    return [*lines, *_first_exception(origin, diagnosis, style)]


def _first_exception(origin: Origin, diagnosis: Diagnosis, style: Style) -> list[str]:
    first, held = origin.first, diagnosis.syndrome
    if first is None:
        runs_on = origin.verdict.prediction.outcome is Outcome.RUNS_ON
        what = "not by this write: the code after it could be executed" if runs_on else "cannot be told"
        return [hanging("1st", what, _COLUMN, style)]
    if origin.explains and held is not None and held.standing is Standing.FIRST:
        return [hanging("1st", "what the write leads to is just the syndrome above", _COLUMN, style)]
    text = exception_text(first, diagnosis.regime.facts)
    ends = "it ends in just" if origin.explains else "but it would not end in"
    return [
        hanging("1st", f"reconstructed: {text}", _COLUMN, style),
        hanging("", f"{ends} what the registers hold now", _COLUMN),
    ]


def _not_found(search: OriginSearch, diagnosis: Diagnosis) -> str:
    sctlr, searched = diagnosis.regime.facts.sctlr, search.searched
    if search.undecided:
        places = _places(search.undecided)
        return f"any of the writes of {sctlr} at {places}; none of them leads to what the registers hold now"
    size = f"{searched.size / _MIB:.1f} MiB" if searched.size >= _MIB else f"{searched.size // 1024} KiB"
    where = "all memory that was written" if searched.everything else "near registers and in mapped pages"
    hint = "" if searched.everything else "; give --search START-END where the code may be"
    return f"no msr to {sctlr} was found that wrote its present value (searched {size}, {where}{hint})"


def _translation_is_why(diagnosis: Diagnosis) -> bool:
    """Whether what happened has to do with translation at all, as far as that is known."""
    held = diagnosis.syndrome
    if held is None or held.standing is Standing.EARLIER:
        return diagnosis.mmu_on
    return held.exception_class in ABORTS


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


def _next(commands: Sequence[str], style: Style) -> list[str]:
    return [
        hanging("next" if not index else "", command, _COLUMN, None if index else style)
        for index, command in enumerate(commands)
    ]


def _commands(diagnosis: Diagnosis, on: str, several: bool, was_watched: bool) -> list[str]:
    origin, condition = diagnosis.origin, diagnosis.condition
    if condition is Condition.AT_SWITCH:
        return [f"kexec-check{on}  what will happen"]
    if condition is Condition.UNKNOWN:
        return [walk_command(diagnosis.regime, diagnosis.pc, on)]
    if not diagnosis.stuck:
        others = ["kexec-why --all-cpus  whether another CPU is stuck"] if several else []
        watch = condition is Condition.RUNS and not was_watched
        return [*others, f"kexec-why{on} --watch 64  whether it gets anywhere" if watch else "continue"]
    if origin is not None and origin.explains:
        if isinstance(origin.repair, RepairPlan):
            return ["kexec-fix   " + _repair_summary(origin.repair), "continue"]
        address = origin.first.elr if origin.first is not None else origin.verdict.situation.next_pc
        return [f"not repaired from here: {origin.repair}", walk_command(diagnosis.regime, address, on)]
    held = diagnosis.syndrome
    if not diagnosis.mmu_on or not _translation_is_why(diagnosis):
        return [f"kexec-regs{on}"]
    address = diagnosis.pc if held is None or held.far is None or held.standing is Standing.EARLIER else held.far
    return [f"{walk_command(diagnosis.regime, address, on)}  the walk behind it", f"kexec-regs{on}"]


def _repair_summary(plan: RepairPlan) -> str:
    writes = "; ".join(repair_text(repair) for repair in plan.repairs)
    return f"{writes}; then PC = {plan.resume_at:#x}" if plan.resume_at is not None else writes
