"""The JSON document of kexec-fix; the keys are kept for ever."""

from __future__ import annotations

from collections.abc import Sequence

from kexecdbg.checks.code_corrections import CodeCorrection
from kexecdbg.checks.fixing import RepairPlan
from kexecdbg.checks.repair_changes import ChangedField, RepairChange
from kexecdbg.checks.verdict import Verdict
from kexecdbg.ui.json_form import Json, number
from kexecdbg.ui.verdict_json import repair_json, verdict_json


def fix_json(
    plan: RepairPlan,
    changes: Sequence[RepairChange],
    corrections: Sequence[RepairChange],
    held_back: Sequence[str],
    applied: bool,
    recheck: Verdict | None,
) -> Json:
    """What was, or would be, written; what only the code can make; and the verdict afterwards."""
    return {
        "applied": applied,
        "repairs": [
            {**(repair_json(change.repair) or {}), "findings": list(change.findings), **_what_changes(change)}
            for change in changes
        ],
        "resume_at": number(plan.resume_at),
        "corrections": [
            {**(repair_json(change.repair) or {}), "findings": list(change.findings), **_what_changes(change)}
            | _where_in_code(correction)
            for change, correction in zip(corrections, plan.corrections, strict=True)
        ],
        "held_back": list(held_back),
        "recheck": None if recheck is None else verdict_json(recheck),
    }


def _what_changes(change: RepairChange) -> Json:
    return {"level": change.level, "fields": [_field(field) for field in change.fields]}


def _field(field: ChangedField) -> Json:
    return {
        "name": field.name,
        "msb": field.msb,
        "lsb": field.lsb,
        "old": number(field.old),
        "new": number(field.new),
    }


def _where_in_code(correction: CodeCorrection) -> Json:
    write = correction.write
    return {
        "write": None if write is None else {"pc": number(write.address), "text": write.text},
        "operand": correction.operand,
        "made_by": [{"pc": number(made.address), "text": made.text} for made in correction.made_by],
        "literal": None if correction.literal is None else number(correction.literal.address),
        "position": correction.position.name.lower(),
    }
