"""The results of scripts as KTAP, version 1 (Linux Documentation/dev-tools/ktap.rst).

A script is a test, its checks are its subtests. What a check printed, and why it failed, are diagnostic lines before
its result line.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kexecdbg.session.check_results import CheckOutcome, CheckResult, ScriptResult
from kexecdbg.ui.run_text import printable

_VERSION = "KTAP version 1"
_INDENT = "  "
_DIRECTIVES = {CheckOutcome.SKIPPED: "SKIP", CheckOutcome.TIMED_OUT: "TIMEOUT", CheckOutcome.ERROR: "ERROR"}


def head(scripts: int) -> Iterator[str]:
    """What comes before the first script."""
    yield _VERSION
    yield f"1..{scripts}"


def script_head(checks: Sequence[str]) -> Iterator[str]:
    """What comes before a script's first check."""
    for line in head(len(checks)):
        yield _INDENT + line


def check_lines(number: int, check: CheckResult) -> Iterator[str]:
    """A check's diagnostics and its result; ``number`` is its place in the script, from 1."""
    reason = () if check.outcome in _DIRECTIVES else (check.reason,)
    for line in (*check.output, *filter(None, reason), *check.details):
        yield _INDENT + _diagnostic(line)
    yield _INDENT + _result(number, check.name, check.outcome, check.reason)


def script_lines(number: int, result: ScriptResult) -> Iterator[str]:
    """A script's result, after its checks; ``number`` is its place, from 1."""
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
