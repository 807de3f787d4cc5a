"""Judges a situation: every rule's findings and the prediction make the verdict."""

from __future__ import annotations

from collections.abc import Iterable

from kexecdbg.checks.finding import Finding, Severity
from kexecdbg.checks.predicting import predict
from kexecdbg.checks.prediction import Outcome, Prediction
from kexecdbg.checks.rules import all_rules
from kexecdbg.checks.situation import Situation
from kexecdbg.checks.verdict import Judgement, Verdict

_ORDER = {Severity.FATAL: 0, Severity.HAZARD: 1, Severity.NOTE: 2}


def judge(situation: Situation) -> Verdict:
    """Apply every rule of the catalogue to ``situation`` and predict what happens."""
    prediction = predict(situation)
    findings = by_severity(finding for rule in all_rules() for finding in rule.check(situation))
    return Verdict(situation, judgement_of(prediction, findings), findings, prediction)


def judgement_of(prediction: Prediction, findings: Iterable[Finding]) -> Judgement:
    """The verdict in one word, from what the CPU will do and what was found."""
    if prediction.outcome is Outcome.UNKNOWN and prediction.first is None:
        return Judgement.UNKNOWN
    if prediction.first is not None or any(finding.severity is Severity.FATAL for finding in findings):
        return Judgement.FAULTS
    return Judgement.SOUND


def by_severity(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """``findings`` with the worst first, and among equals those that follow from others last."""
    return tuple(sorted(findings, key=lambda finding: (_ORDER[finding.severity], finding.is_consequence, finding.id)))
