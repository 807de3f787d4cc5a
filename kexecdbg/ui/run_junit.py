"""The results of scripts as JUnit XML, which most CI servers read: a script is a suite, a check a test case."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from junitparser import Error, Failure, JUnitXml, Skipped, TestCase, TestSuite

from kexecdbg.errors import EnvironmentProblem
from kexecdbg.session.check_results import CheckOutcome, CheckResult, ScriptResult
from kexecdbg.ui.run_text import printable

_RESULTS = {
    CheckOutcome.FAILED: Failure,
    CheckOutcome.TIMED_OUT: Failure,
    CheckOutcome.ERROR: Error,
    CheckOutcome.SKIPPED: Skipped,
}


def write_junit(path: Path, results: Sequence[ScriptResult]) -> None:
    """Write ``results`` to the file at ``path``.

    Raises:
        EnvironmentProblem: it cannot be written.
    """
    document = JUnitXml("kexecdbg")
    for result in results:
        suite = TestSuite(result.name)
        for check in result.checks:
            suite.add_testcase(_test_case(result.name, check))
        document.add_testsuite(suite)
    try:
        document.write(str(path), pretty=True)
    except OSError as error:
        raise EnvironmentProblem(f"{path}: {error.strerror}") from error


def _test_case(script: str, check: CheckResult) -> TestCase:
    # XML has no way to write most control characters (XML 1.0, 2.2).
    case = TestCase(check.name or script, classname=script, time=round(check.seconds, 3))
    kind = _RESULTS.get(check.outcome)
    if kind is not None:
        late = "timed out: " if check.outcome is CheckOutcome.TIMED_OUT else ""
        outcome = kind(late + printable(check.reason), check.outcome.value)
        outcome.text = "\n".join(map(printable, check.details))
        case.result = [outcome]
    if check.output:
        case.system_out = "\n".join(map(printable, check.output))
    return case
