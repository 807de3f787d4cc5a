"""The JSON document of ``kexecdbg decode``: one key a register, and what was concluded from them together."""

from __future__ import annotations

from kexecdbg.checks.consistency import Consistency
from kexecdbg.checks.printed_walk import WalkJudgement
from kexecdbg.ui.decode_report import Report
from kexecdbg.ui.json_form import Json, number
from kexecdbg.ui.register_json import register_json
from kexecdbg.ui.verdict_json import finding_json


def report_document(report: Report) -> Json:
    """Registers by name; ``consistency``, ``tables``, ``code`` and ``notes`` only when there are any."""
    document: Json = {decoded.name: register_json(decoded) for decoded in report.registers}
    for found in report.syndromes:
        document[found.name]["syndrome"] = {"text": found.syndrome.summary, "along": list(found.along)}
    together = {
        "consistency": [_consistency(judged) for judged in report.consistency],
        "tables": [_walk(judged) for judged in report.walks],
        "code": dict(report.code),
        "notes": list(report.remarks),
    }
    return document | {key: value for key, value in together.items() if value}


def _consistency(judged: Consistency) -> Json:
    return {
        "regime": judged.regime.value,
        "consistent": None if judged.unjudged and not judged.faults else not judged.faults,
        "text": judged.statement,
        "reading": judged.reading,
        "findings": [finding_json(found) for found in judged.findings],
        "agreed": list(judged.agreed),
        "given": list(judged.given),
        "missing": list(judged.missing),
        "unjudged": list(judged.unjudged),
        "reserved": list(judged.odd),
    }


def _walk(judged: WalkJudgement) -> Json:
    return {
        "va": number(judged.walk.va),
        "owner": judged.walk.owner,
        "pgdp": number(judged.walk.pgdp),
        "granule": judged.table.granule.name,
        "va_bits": judged.table.input_bits,
        "levels": [
            {
                "level": item.level,
                "names": list(item.names),
                "descriptor": number(item.descriptor),
                "kind": item.kind.value,
                "output": number(item.output),
                "bits": list(item.notes),
            }
            for item in judged.levels
        ],
        "invalid_level": judged.stop.level if judged.stop else None,
        "rights": None if judged.rights is None else {"kernel": judged.rights[0], "user": judged.rights[1]},
        "syndrome": judged.agreement.name.lower(),
        "text": " ".join(judged.text),
        "assumptions": list(judged.assumptions),
    }
