"""The verdict before the switch as text: the verdict first, the evidence under it, the next command to type last."""

from __future__ import annotations

from kexecdbg.arm64.syndromes import decode_syndrome
from kexecdbg.checks.finding import DescriptorRepair, Finding, Repair, Severity
from kexecdbg.checks.prediction import ExceptionRecord, Outcome, Prediction
from kexecdbg.checks.verdict import Judgement, Verdict
from kexecdbg.ui.style import Style, hanging

_COLUMN = 11


def verdict_text(verdict: Verdict, style: Style) -> str:
    """What kexec-check prints."""
    situation = verdict.situation
    lines = [
        f"{_headline(verdict, style)}: the write at {situation.site:#x} switches the {situation.regime.value} MMU on"
    ]
    lines += [_finding(finding, style) for finding in verdict.findings]
    lines.append(prediction_text(verdict.prediction, verdict, style))
    lines.append(_next(verdict))
    return "\n".join(lines)


def _headline(verdict: Verdict, style: Style) -> str:
    if verdict.judgement is Judgement.FAULTS:
        return style.bad("FAULTS")
    if verdict.judgement is Judgement.SOUND:
        return style.good("SOUND")
    return style.warn("UNKNOWN")


def _finding(finding: Finding, style: Style) -> str:
    label = f"{finding.id} {finding.severity.value}"
    emphasise = {Severity.FATAL: style.bad, Severity.HAZARD: style.warn, Severity.NOTE: style.dim}[finding.severity]
    text = hanging(label, finding.text, _COLUMN)
    lines = [emphasise(label) + text[len(label) :]]
    descriptor, address = finding.evidence.get("descriptor"), finding.evidence.get("address")
    if isinstance(descriptor, int) and isinstance(address, int):
        level = finding.evidence.get("level")
        lines.append(" " * _COLUMN + f"level {level} descriptor {descriptor:#018x} at {address:#x}")
    if finding.repair is not None:
        lines.append(hanging("", f"repair: {repair_text(finding.repair)}", _COLUMN))
    return "\n".join(lines)


def repair_text(repair: Repair) -> str:
    """A repair as one clause."""
    if isinstance(repair, DescriptorRepair):
        return f"write {repair.new:#018x} to {repair.address:#x}: {repair.text}"
    return f"{repair.register} = {repair.new:#x} instead of {repair.old:#x}: {repair.text}"


def exception_text(record: ExceptionRecord | None) -> str:
    """An exception on one line."""
    if record is None:
        return "none"
    far = "" if record.far is None else f" FAR {record.far:#x}"
    return f"ESR {record.esr:#010x}{far} ELR {record.elr:#x}"


def prediction_text(prediction: Prediction, verdict: Verdict, style: Style) -> str:
    """What the CPU will do, with the syndromes in words."""
    if prediction.first is None:
        outcome = {
            Outcome.RUNS_ON: f"runs on at {verdict.situation.next_pc:#x}",
            Outcome.UNKNOWN: "cannot be told: " + _why_unknown(verdict),
        }[prediction.outcome]
        return hanging("predicted", outcome, _COLUMN, style)
    lines = [hanging("predicted", f"1st exception: {exception_text(prediction.first)}", _COLUMN, style)]
    lines.append(" " * _COLUMN + f"  {decode_syndrome(prediction.first.esr).summary}")
    if prediction.then is not None:
        lines.append(" " * _COLUMN + f"2nd exception: {exception_text(prediction.then)}")
        lines.append(hanging("", f"  {decode_syndrome(prediction.then.esr).summary}; the same for ever", _COLUMN))
    else:
        lines.append(hanging("", f"then the CPU {prediction.outcome.value}, {verdict.situation.vector:#x}", _COLUMN))
    return "\n".join(lines)


def _why_unknown(verdict: Verdict) -> str:
    for walk in (verdict.situation.fetch, verdict.situation.vector_fetch):
        if walk.unknown and walk.fault is not None:
            return walk.fault.cause.text
    return "the code at the translated address is not the code that runs now"


def _next(verdict: Verdict) -> str:
    commands = ["kexec-step  see it happen, keeping the first syndrome"]
    if any(isinstance(finding.repair, DescriptorRepair) for finding in verdict.findings):
        commands.append("kexec-fix   write the repair into the guest's tables")
    commands.append(f"walk-ttbr0 {verdict.situation.next_pc:#x}  the walk behind it")
    return "\n".join([hanging("next", commands[0], _COLUMN), *(" " * _COLUMN + command for command in commands[1:])])
