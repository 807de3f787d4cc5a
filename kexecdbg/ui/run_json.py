"""The results of scripts as one JSON document."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from kexecdbg.session.check_results import CheckOutcome, CheckResult, ScriptResult
from kexecdbg.ui.run_report import RunReport


class JsonReport(RunReport):
    """One document at the end, and nothing before it."""

    def end(self, results: Sequence[ScriptResult], seconds: float) -> Iterable[str]:
        """See :class:`RunReport`."""
        yield json.dumps(run_json(results, seconds), indent=1)


def run_json(results: Sequence[ScriptResult], seconds: float) -> dict[str, Any]:
    """The document; times are in seconds."""
    counts = Counter(check.outcome for result in results for check in result.checks)
    return {
        "scripts": [_script(result) for result in results],
        "counts": {outcome.value: counts[outcome] for outcome in CheckOutcome},
        "seconds": round(seconds, 3),
    }


def _script(result: ScriptResult) -> dict[str, Any]:
    document: dict[str, Any] = {"script": result.name, "outcome": result.outcome.value, "reason": None, "details": []}
    for check in result.checks:
        if not check.name:  # there are no checks, the script could not be run
            document |= {"reason": check.reason, "details": list(check.details)}
    return document | {"checks": [_check(check) for check in result.checks if check.name]}


def _check(check: CheckResult) -> dict[str, Any]:
    return {
        "name": check.name,
        "outcome": check.outcome.value,
        "reason": check.reason or None,
        "details": list(check.details),
        "output": list(check.output),
        "seconds": round(check.seconds, 3),
    }
