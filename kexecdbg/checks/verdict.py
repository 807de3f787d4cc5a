"""The verdict on a situation: every rule's findings and the prediction."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass

from kexecdbg.checks.finding import Finding, Severity
from kexecdbg.checks.prediction import Outcome, Prediction, predict
from kexecdbg.checks.rules import all_rules
from kexecdbg.checks.situation import Situation

_ORDER = {Severity.FATAL: 0, Severity.HAZARD: 1, Severity.NOTE: 2}


class Judgement(enum.Enum):
    """The verdict in one word."""

    FAULTS = "faults"
    SOUND = "sound"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Verdict:
    """What is known about a write before it is made.

    Attributes:
        situation: what was judged.
        judgement: whether the CPU will fault, at the switch or later, or run something else than intended.
        findings: the worst first.
        prediction: what the CPU will do.
    """

    situation: Situation
    judgement: Judgement
    findings: tuple[Finding, ...]
    prediction: Prediction


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
