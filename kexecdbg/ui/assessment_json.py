"""The JSON document of ``kexecdbg check`` on a machine that is only partly known."""

from __future__ import annotations

from collections.abc import Sequence

from kexecdbg.checks.assessment import Assessment, Needed
from kexecdbg.checks.partly_known import NO_ADDRESS
from kexecdbg.checks.rule_status import Standing
from kexecdbg.ui.json_form import Json, number
from kexecdbg.ui.verdict_json import finding_json, prediction_json


def assessment_json(assessment: Assessment, remarks: Sequence[str]) -> Json:
    """kexec-check's document, and what is excluded, open and needed; ``remarks`` are on how the input was read."""
    situation = assessment.situation
    known = situation.next_pc != NO_ADDRESS
    return {
        "verdict": assessment.judgement.value,
        "site": number(situation.site) if known and not situation.is_assumed else None,
        "regime": situation.regime.value,
        "el": situation.el,
        "next_pc": number(situation.next_pc) if known else None,
        "ahead": len(situation.approach),
        "findings": [finding_json(found) for found in assessment.findings],
        "predicted": prediction_json(assessment.prediction),
        "excluded": list(assessment.ids(Standing.EXCLUDED)),
        "open": list(assessment.ids(Standing.OPEN)),
        "needed": [_needed(item) for item in assessment.needed],
        "registers": None if assessment.consistency is None else assessment.consistency.statement,
        "remarks": [*remarks, *assessment.remarks],
    }


def _needed(item: Needed) -> Json:
    return {
        "address": number(item.address),
        "size": item.size,
        "registers": list(item.registers),
        "for": item.purpose,
        "rules": list(item.rules),
    }
