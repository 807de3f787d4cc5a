"""What every way of reporting the results of scripts has in common: lines, as the results come."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from kexecdbg.session.check_results import CheckResult, Plan, ScriptResult


class RunReport:
    """Reports nothing; each format overrides what it has lines for. Numbers are places in the order, from 1."""

    def begin(self, scripts: int) -> Iterable[str]:
        """Before the first of so many scripts."""
        return ()

    def plan(self, plan: Plan) -> Iterable[str]:
        """Before a script's first check."""
        return ()

    def check(self, script: str, number: int, check: CheckResult) -> Iterable[str]:
        """After a check; one without a name stands for a script that could not be run."""
        return ()

    def script(self, number: int, result: ScriptResult) -> Iterable[str]:
        """After a script's checks."""
        return ()

    def end(self, results: Sequence[ScriptResult], seconds: float) -> Iterable[str]:
        """After all scripts, which took ``seconds``."""
        return ()
