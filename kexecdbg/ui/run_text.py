"""The results of scripts for a person: one line a check, what it printed and why it failed under it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from kexecdbg.session.check_results import CheckOutcome, CheckResult, ScriptResult
from kexecdbg.ui.run_report import RunReport
from kexecdbg.ui.style import Style

_WORDS = {
    CheckOutcome.PASSED: "passed",
    CheckOutcome.FAILED: "FAILED",
    CheckOutcome.SKIPPED: "skipped",
    CheckOutcome.TIMED_OUT: "TIMED OUT",
    CheckOutcome.ERROR: "ERROR",
}
_WIDTH = max(map(len, _WORDS.values())) + 1
_INDENT = "  "


def printable(text: str) -> str:
    """``text`` without control characters, which a guest may have printed."""
    return "".join(character if character.isprintable() or character == "\t" else "?" for character in text)


class TextReport(RunReport):
    """A line a check; ``style`` is how lines are emphasised."""

    def __init__(self, style: Style) -> None:
        self._style = style

    def check(self, script: str, number: int, check: CheckResult) -> Iterable[str]:
        """See :class:`RunReport`: the check's line, and the lines under it."""
        word = f"{_WORDS[check.outcome]:<{_WIDTH}}"
        if check.outcome is CheckOutcome.PASSED:
            word = self._style.good(word)
        elif check.outcome is CheckOutcome.SKIPPED:
            word = self._style.warn(word)
        else:
            word = self._style.bad(word)
        name = " ".join(filter(None, (script, check.name)))
        yield f"{word} {name}  {check.seconds:.1f} s"
        for line in (check.reason, *check.details, *check.output):
            if line:
                yield _INDENT + printable(line)

    def end(self, results: Sequence[ScriptResult], seconds: float) -> Iterable[str]:
        """See :class:`RunReport`: how many checks ended how."""
        counts = Counter(check.outcome for result in results for check in result.checks)
        parts = [f"{counts[outcome]} {_counted(outcome, counts[outcome])}" for outcome in _WORDS if counts[outcome]]
        line = f"{', '.join(parts)}; {seconds:.1f} s"
        yield self._style.good(line) if all(outcome.is_good for outcome in counts) else self._style.bad(line)


def _counted(outcome: CheckOutcome, count: int) -> str:
    return "errors" if outcome is CheckOutcome.ERROR and count > 1 else _WORDS[outcome].lower()
