"""The verdict before the switch as text: the verdict first, the evidence under it, the next command to type last."""

from __future__ import annotations

from kexecdbg.arm64.regimes import RegimeFacts, regime_of
from kexecdbg.arm64.syndromes import decode_syndrome
from kexecdbg.checks.finding import DescriptorRepair, Finding, Repair, Severity
from kexecdbg.checks.prediction import ExceptionRecord, Outcome, Place, Prediction
from kexecdbg.checks.rules import all_rules
from kexecdbg.checks.situation import Situation
from kexecdbg.checks.touches import after_the_write
from kexecdbg.checks.verdict import Judgement, Verdict
from kexecdbg.ui.style import Style, hanging
from kexecdbg.ui.walk_text import walk_command

_COLUMN = 11


def verdict_text(verdict: Verdict, style: Style) -> str:
    """What kexec-check prints."""
    lines = [_headline(verdict, style)]
    fatal = any(finding.severity is Severity.FATAL for finding in verdict.findings)
    lines += [
        _heading(finding, style) if fatal and finding.severity is not Severity.FATAL else finding_text(finding, style)
        for finding in verdict.findings
    ]
    lines.append(prediction_text(verdict.prediction, verdict, style))
    lines.append(_next(verdict))
    return "\n".join(lines)


def _headline(verdict: Verdict, style: Style) -> str:
    emphasise = {Judgement.FAULTS: style.bad, Judgement.SOUND: style.good, Judgement.UNKNOWN: style.warn}
    word = verdict.judgement.name
    text = hanging(f"{word}:", what_is_judged(verdict.situation), len(word) + 2)
    return emphasise[verdict.judgement](word) + text[len(word) :]


def what_is_judged(situation: Situation) -> str:
    """Which write is judged, as a clause."""
    if situation.is_live:
        return f"the write at {situation.site:#x} changes the {situation.regime.value} translation with the MMU on"
    count = len(situation.approach)
    ahead = f", {count} instruction{'' if count == 1 else 's'} ahead," if count else ""
    return f"the write at {situation.site:#x}{ahead} switches the {situation.regime.value} MMU on"


def finding_text(finding: Finding, style: Style) -> str:
    """A finding with the descriptor that decides it and its repair."""
    label = f"{finding.id} {finding.severity.value}"
    emphasise = {Severity.FATAL: style.bad, Severity.HAZARD: style.warn, Severity.NOTE: style.dim}[finding.severity]
    text = hanging(label, finding.text, _COLUMN)
    lines = [emphasise(label) + text[len(label) :]]
    descriptor, address = finding.evidence.get("descriptor"), finding.evidence.get("address")
    if isinstance(descriptor, int) and isinstance(address, int):
        level = finding.evidence.get("level")
        lines.append(" " * _COLUMN + f"level {level} descriptor {descriptor:#018x} at {address:#x}")
    if finding.leads_to is not None:
        record = finding.leads_to
        at = f"at {record.elr:#x}" if record.far in (None, record.elr) else f"at {record.elr:#x}, FAR {record.far:#x}"
        lines.append(hanging("", f"leads to ESR {record.esr:#010x} {at}", _COLUMN))
    if finding.repair is not None:
        lines.append(hanging("", f"repair: {repair_text(finding.repair)}", _COLUMN))
    return "\n".join(lines)


def _heading(finding: Finding, style: Style) -> str:
    """A finding that does not stop the CPU, beside one that does: its rule's title; --json has all of it."""
    label = f"{finding.id} {finding.severity.value}"
    titles = {rule.id: rule.title for rule in all_rules()}
    text = hanging(label, titles.get(finding.id, finding.text), _COLUMN)
    return style.warn(label) + text[len(label) :]


def repair_text(repair: Repair) -> str:
    """A repair as one clause."""
    if isinstance(repair, DescriptorRepair):
        return f"write {repair.new:#018x} to {repair.address:#x}: {repair.text}"
    return f"{repair.register} = {repair.new:#x} instead of {repair.old:#x}: {repair.text}"


def exception_text(record: ExceptionRecord, facts: RegimeFacts) -> str:
    """An exception as its target level's syndrome registers show it, and in words."""
    if record.far is None:
        addresses = f"{facts.elr} {record.elr:#x}"
    elif record.far == record.elr:
        addresses = f"{facts.far} = {facts.elr} = {record.elr:#x}"
    else:
        addresses = f"{facts.far} {record.far:#x}, {facts.elr} {record.elr:#x}"
    return f"{facts.esr} {record.esr:#010x}, {addresses}: {decode_syndrome(record.esr).summary}"


def prediction_text(prediction: Prediction, verdict: Verdict, style: Style) -> str:
    """What the CPU will do, with the syndromes in words."""
    situation = verdict.situation
    if prediction.first is None:
        outcome = {
            Outcome.RUNS_ON: how_far(prediction, situation.next_pc),
            Outcome.UNKNOWN: "cannot be told: " + why_unknown(verdict),
        }[prediction.outcome]
        return hanging("predicted", outcome, _COLUMN, style)
    facts = situation.regime.facts if prediction.first.el is None else _facts_of(prediction.first.el, verdict)
    lines = [hanging("predicted", f"1st exception: {exception_text(prediction.first, facts)}", _COLUMN, style)]
    if prediction.at is not None and prediction.at.executed:
        lines.append(hanging("", where_text(prediction.at), _COLUMN))
    if prediction.then is not None:
        then = f"2nd exception: {exception_text(prediction.then, facts)}; the same for ever"
        lines.append(hanging("", then, _COLUMN))
    else:
        lines.append(hanging("", f"then the CPU {prediction.outcome.value}, {prediction.vector:#x}", _COLUMN))
    return "\n".join(lines)


def where_text(at: Place) -> str:
    """Where an exception happens that the write itself does not take."""
    what = f"the {at.access.value} of {at.target:#x} by " if at.access is not None and at.target != at.address else ""
    return f"at {what}{at.address:#x}: {at.text}, {after_the_write(at.executed)}"


def how_far(prediction: Prediction, next_pc: int) -> str:
    """That the CPU runs on, and how far its code was followed."""
    at = prediction.at
    if at is None or at.executed < 2:
        return f"runs on at {next_pc:#x}"
    return f"runs on at {next_pc:#x}; followed for {at.executed} instructions, to {at.address:#x}"


def _facts_of(el: int, verdict: Verdict) -> RegimeFacts:
    return regime_of(el, verdict.situation.after).facts


def why_unknown(verdict: Verdict) -> str:
    """Why it cannot be told what the CPU will do."""
    for walk in (verdict.situation.fetch, verdict.situation.vector_fetch):
        if walk.unknown and walk.fault is not None:
            return walk.fault.cause.text
    return "the code at the translated address is not the code that runs now"


def _next(verdict: Verdict) -> str:
    commands = ["kexec-step  see it happen, keeping the first syndrome"]
    if any(isinstance(finding.repair, DescriptorRepair) for finding in verdict.findings):
        commands.append("kexec-fix   write the repair into the guest's tables")
    elif any(finding.repair is not None and finding.severity is Severity.FATAL for finding in verdict.findings):
        commands.append("kexec-fix   repair it, or see which instruction makes the value")
    commands.append(f"{walk_command(verdict.situation.regime, verdict.situation.next_pc)}  the walk behind it")
    return "\n".join([hanging("next", commands[0], _COLUMN), *(" " * _COLUMN + command for command in commands[1:])])
