"""The verdict before the switch as a JSON document, and its parts; the keys are kept for ever."""

from __future__ import annotations

from kexecdbg.checks.finding import DescriptorRepair, Finding, Repair
from kexecdbg.checks.prediction import ExceptionRecord, Place, Prediction
from kexecdbg.checks.verdict import Verdict
from kexecdbg.ui.json_form import Json, number


def verdict_json(judged: Verdict) -> Json:
    """The verdict of kexec-check."""
    return {
        "verdict": judged.judgement.value,
        "site": number(judged.situation.site),
        "regime": judged.situation.regime.value,
        "el": judged.situation.el,
        "next_pc": number(judged.situation.next_pc),
        "ahead": len(judged.situation.approach),
        "findings": [finding_json(found) for found in judged.findings],
        "predicted": prediction_json(judged.prediction),
    }


def prediction_json(predicted: Prediction) -> Json:
    """What the CPU will do."""
    return {
        "first": exception_json(predicted.first),
        "then": exception_json(predicted.then),
        "outcome": predicted.outcome.name.lower(),
        "at": _place(predicted.at),
    }


def _place(at: Place | None) -> Json | None:
    """Where the predicted exception happens; of a CPU that runs on, how far its code was followed."""
    if at is None:
        return None
    return {
        "pc": number(at.address),
        "text": at.text,
        "access": at.access.value if at.access is not None else None,
        "address": number(at.target),
        "executed": at.executed,
    }


def exception_json(record: ExceptionRecord | None) -> Json | None:
    """An exception's syndrome registers."""
    if record is None:
        return None
    return {"esr": number(record.esr), "far": number(record.far), "elr": number(record.elr)}


def finding_json(found: Finding) -> Json:
    """One finding of the catalogue."""
    small = {"level", "bit", "value", "start_level"}
    evidence = {
        key: number(value) if isinstance(value, int) and key not in small else value
        for key, value in found.evidence.items()
    }
    return {
        "id": found.id,
        "severity": found.severity.value,
        "text": found.text,
        "evidence": evidence,
        "repair": repair_json(found.repair),
        "consequence": found.is_consequence,
        "leads_to": exception_json(found.leads_to),
    }


def repair_json(proposed: Repair | None) -> Json | None:
    """A repair, ready to be applied."""
    if proposed is None:
        return None
    common = {"old": number(proposed.old), "new": number(proposed.new), "text": proposed.text}
    if isinstance(proposed, DescriptorRepair):
        return {"kind": "write_descriptor", "address": number(proposed.address), **common}
    return {"kind": "write_register", "register": proposed.register, **common}
