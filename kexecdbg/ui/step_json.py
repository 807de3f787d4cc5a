"""Executed instructions, and what was observed of a switch, as JSON documents; the keys are kept for ever."""

from __future__ import annotations

from kexecdbg.checks.stepping import Observation, StepRecord
from kexecdbg.checks.verdict import Verdict
from kexecdbg.ui.json_form import Json, number
from kexecdbg.ui.verdict_json import exception_json


def step_json(record: StepRecord) -> Json:
    """One executed instruction."""
    return {
        "pc": number(record.instruction.address),
        "text": record.instruction.text,
        "changes": {change.name: {"old": number(change.old), "new": number(change.new)} for change in record.changes},
    }


def observation_json(observed: Observation, judged: Verdict) -> Json:
    """What the CPU did, and whether it is what was predicted."""
    return {
        "first": exception_json(observed.first),
        "then": exception_json(observed.then),
        "followed": observed.followed,
        "steps": [step_json(record) for record in observed.steps],
        "agrees": observed.agrees_with(judged),
        "unread": observed.unread or None,
    }
