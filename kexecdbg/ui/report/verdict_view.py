"""What the report says first: the verdict, the findings with their repairs, prediction against observation."""

from __future__ import annotations

from dataclasses import dataclass

from kexecdbg.arm64.syndromes import decode_syndrome
from kexecdbg.checks.finding import DescriptorRepair, Finding, Repair
from kexecdbg.checks.prediction import ExceptionRecord, Outcome
from kexecdbg.checks.rules import all_rules
from kexecdbg.checks.verdict import Verdict
from kexecdbg.ui.report.subject import Subject
from kexecdbg.ui.verdict_text import how_far, what_is_judged, where_text, why_unknown


@dataclass(frozen=True)
class RepairView:
    """A repair: what to write where, and what it changes."""

    where: str
    old: str
    new: str
    bits: str
    text: str


@dataclass(frozen=True)
class FindingView:
    """A finding, for the page."""

    id: str
    severity: str
    title: str
    text: str
    consequence: bool
    evidence: str
    leads_to: str
    repair: RepairView | None


@dataclass(frozen=True)
class ExceptionView:
    """An exception, for a table; ``None`` stands for a register that does not tell anything."""

    which: str
    esr: str
    far: str
    elr: str
    text: str


@dataclass(frozen=True)
class VerdictView:
    """The verdict, for the page.

    Attributes:
        word: ``faults``, ``sound`` or ``unknown``.
        headline: what was judged, or why nothing was, as a sentence.
        reason: what led to this switch, in sentences; or empty.
        cause: the worst finding in a sentence; empty without one.
        outcome: what the CPU will do.
        exceptions: predicted and recorded ones.
        recorded: the comparison with what happened; empty when nobody watched.
        agrees: whether that is what was predicted.
        findings: the worst first.
    """

    word: str
    headline: str
    reason: str
    cause: str
    outcome: str
    exceptions: tuple[ExceptionView, ...]
    recorded: str
    agrees: bool | None
    findings: tuple[FindingView, ...]


def verdict_view(subject: Subject) -> VerdictView:
    """The verdict of ``subject``, or what there is to say without one."""
    verdict = subject.verdict
    if verdict is None:
        return VerdictView(subject.judgement.value, subject.reason, "", "", "", (), "", None, ())
    recorded = subject.recorded
    site = verdict.situation.site
    symbol = subject.symbol_of(site)
    sentence = what_is_judged(verdict.situation)
    if symbol:
        sentence = sentence.replace(f"{site:#x}", f"{site:#x} ({symbol})", 1)
    findings = tuple(_finding(finding) for finding in verdict.findings)
    return VerdictView(
        word=verdict.judgement.value,
        headline=f"{sentence[0].upper()}{sentence[1:]}.",
        reason=subject.reason,
        cause=findings[0].text if findings and findings[0].severity == "fatal" else "",
        outcome=_outcome(verdict),
        exceptions=_exceptions(verdict, None if recorded is None else recorded.first),
        recorded="" if recorded is None else recorded.text,
        agrees=None if recorded is None else recorded.agrees,
        findings=findings,
    )


def _outcome(verdict: Verdict) -> str:
    prediction = verdict.prediction
    if prediction.first is None:
        said = {
            Outcome.RUNS_ON: how_far(prediction, verdict.situation.next_pc),
            Outcome.UNKNOWN: f"does what cannot be told: {why_unknown(verdict)}",
        }[prediction.outcome]
        return f"The CPU {said}."
    at = prediction.at
    where = f"The first exception comes {where_text(at)}. " if at is not None and at.executed else ""
    vector = "" if prediction.vector is None or prediction.then is not None else f" at {prediction.vector:#x}"
    return f"{where}After the first exception the CPU {prediction.outcome.value}{vector}."


def _exceptions(verdict: Verdict, recorded: ExceptionRecord | None) -> tuple[ExceptionView, ...]:
    named = (
        ("predicted", verdict.prediction.first),
        ("then, for ever", verdict.prediction.then),
        ("recorded", recorded),
    )
    return tuple(_exception(which, record) for which, record in named if record is not None)


def _exception(which: str, record: ExceptionRecord) -> ExceptionView:
    far = "-" if record.far is None else f"{record.far:#x}"
    return ExceptionView(which, f"{record.esr:#010x}", far, f"{record.elr:#x}", decode_syndrome(record.esr).summary)


def _finding(finding: Finding) -> FindingView:
    titles = {rule.id: rule.title for rule in all_rules()}
    leads_to = ""
    if finding.leads_to is not None:
        record = finding.leads_to
        far = "" if record.far is None else f", FAR {record.far:#x}"
        leads_to = f"ESR {record.esr:#010x} at {record.elr:#x}{far}: {decode_syndrome(record.esr).summary}"
    return FindingView(
        finding.id,
        finding.severity.value,
        titles.get(finding.id, ""),
        finding.text,
        finding.is_consequence,
        _evidence(finding),
        leads_to,
        None if finding.repair is None else _repair(finding.repair),
    )


def _evidence(finding: Finding) -> str:
    descriptor, address = finding.evidence.get("descriptor"), finding.evidence.get("address")
    if not isinstance(descriptor, int) or not isinstance(address, int):
        return ""
    return f"level {finding.evidence.get('level')} descriptor {descriptor:#018x} at {address:#x}"


def _repair(repair: Repair) -> RepairView:
    different = repair.old ^ repair.new
    positions = [position for position in range(63, -1, -1) if different >> position & 1]
    shown = ", ".join(
        f"{position}: {repair.old >> position & 1} → {repair.new >> position & 1}" for position in positions
    )
    bits = f"bit {shown}" if len(positions) <= 6 else f"{len(positions)} bits"
    if isinstance(repair, DescriptorRepair):
        where, form = f"memory at {repair.address:#x}", "#018x"
    else:
        where, form = repair.register, "#x"
    return RepairView(where, format(repair.old, form), format(repair.new, form), bits, repair.text)
