"""The results of scripts as KTAP, version 1 (Linux Documentation/dev-tools/ktap.rst).

A script is a test, its checks are its subtests. What a check printed, and why it failed, are diagnostic lines before
its result line.
"""

from __future__ import annotations

from collections.abc import Iterable

from kexecdbg.session.check_results import CheckOutcome, CheckResult, Plan, ScriptResult
from kexecdbg.ui.run_report import RunReport
from kexecdbg.ui.run_text import printable

_VERSION = "KTAP version 1"
_INDENT = "  "
_DIRECTIVES = {CheckOutcome.SKIPPED: "SKIP", CheckOutcome.TIMED_OUT: "TIMEOUT", CheckOutcome.ERROR: "ERROR"}


class KtapReport(RunReport):
    """KTAP lines."""

    def begin(self, scripts: int) -> Iterable[str]:
        """See :class:`RunReport`."""
        return (_VERSION, f"1..{scripts}")

    def plan(self, plan: Plan) -> Iterable[str]:
        """See :class:`RunReport`."""
        return (_INDENT + line for line in self.begin(len(plan.checks)))

    def check(self, script: str, number: int, check: CheckResult) -> Iterable[str]:
        """See :class:`RunReport`: diagnostics, then the result."""
        if not check.name:
            return
        reason = () if check.outcome in _DIRECTIVES else (check.reason,)
        for line in (*check.output, *filter(None, reason), *check.details):
            yield _INDENT + _diagnostic(line)
        yield _INDENT + _result(number, check.name, check.outcome, check.reason)

    def script(self, number: int, result: ScriptResult) -> Iterable[str]:
        """See :class:`RunReport`."""
        reason = ""
        for check in result.checks:
            if not check.name:  # there are no checks, the script could not be run
                reason = check.reason
                yield from map(_diagnostic, check.details)
        outcome = result.outcome
        # Of a script with checks, the checks say why.
        if not reason and not outcome.is_good:
            outcome = CheckOutcome.FAILED
        yield _result(number, result.name, outcome, reason)


def _result(number: int, name: str, outcome: CheckOutcome, reason: str) -> str:
    line = f"{'ok' if outcome.is_good else 'not ok'} {number} {printable(name).replace('#', '_')}"
    directive = _DIRECTIVES.get(outcome)
    return line if directive is None else f"{line} # {directive} {printable(reason)}".rstrip()


def _diagnostic(text: str) -> str:
    return f"# {printable(text)}".rstrip()
