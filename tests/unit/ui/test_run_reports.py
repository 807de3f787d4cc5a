"""KTAP, JUnit, JSON and text of given results, line by line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from junitparser import Error, Failure, JUnitXml, Skipped

from kexecdbg.errors import EnvironmentProblem
from kexecdbg.session.check_results import CheckOutcome, CheckResult, Plan, ScriptResult
from kexecdbg.ui.run_json import JsonReport
from kexecdbg.ui.run_junit import write_junit
from kexecdbg.ui.run_ktap import KtapReport
from kexecdbg.ui.run_report import RunReport
from kexecdbg.ui.run_text import TextReport
from kexecdbg.ui.style import Style

GOOD = ScriptResult(
    "good.py",
    (
        CheckResult("check_a", CheckOutcome.PASSED, output=("TTBR0 = 0x1000", ""), seconds=0.25),
        CheckResult("check_b", CheckOutcome.SKIPPED, "a recording cannot be repaired"),
    ),
)
BAD = ScriptResult(
    "bad#1.py",
    (
        CheckResult("check_c", CheckOutcome.FAILED, "expected 1; it is 2", ("  evidence \x1b[31m", "bad.py:3"), ("x",)),
        CheckResult("check_d", CheckOutcome.TIMED_OUT, "30 s"),
        CheckResult("check_e", CheckOutcome.ERROR, "qemu: not found"),
    ),
)
UNREADABLE = ScriptResult("no.py", (CheckResult("", CheckOutcome.ERROR, "SyntaxError: invalid", ("no.py:1: (",)),))
SKIPPED = ScriptResult("later.py", (CheckResult("check_f", CheckOutcome.SKIPPED, "later"),))


def lines_of(report: RunReport, *results: ScriptResult) -> list[str]:
    """All that ``report`` has to say, as `kexecdbg run` asks for it."""
    lines = [*report.begin(len(results))]
    for number, result in enumerate(results, 1):
        if named := tuple(check.name for check in result.checks if check.name):
            lines += report.plan(Plan(named))
        for place, check in enumerate(result.checks, 1):
            lines += report.check(result.name, place, check)
        lines += report.script(number, result)
    return [*lines, *report.end(results, 3.25)]


def test_ktap() -> None:
    assert (
        "\n".join(lines_of(KtapReport(), GOOD, BAD, UNREADABLE, SKIPPED))
        == """\
KTAP version 1
1..4
  KTAP version 1
  1..2
  # TTBR0 = 0x1000
  #
  ok 1 check_a
  ok 2 check_b # SKIP a recording cannot be repaired
ok 1 good.py
  KTAP version 1
  1..3
  # x
  # expected 1; it is 2
  #   evidence ?[31m
  # bad.py:3
  not ok 1 check_c
  not ok 2 check_d # TIMEOUT 30 s
  not ok 3 check_e # ERROR qemu: not found
not ok 2 bad_1.py
# no.py:1: (
not ok 3 no.py # ERROR SyntaxError: invalid
  KTAP version 1
  1..1
  ok 1 check_f # SKIP later
ok 4 later.py # SKIP"""
    )


def test_junit(tmp_path: Path) -> None:
    path = tmp_path / "results.xml"
    write_junit(path, [GOOD, BAD, UNREADABLE])
    suites = {suite.name: suite for suite in JUnitXml.fromfile(str(path))}
    assert [(s.tests, s.failures, s.errors, s.skipped) for s in suites.values()] == [
        (2, 0, 0, 1),
        (3, 2, 1, 0),
        (1, 0, 1, 0),
    ]
    first, second = suites["good.py"]
    assert (first.name, first.time, first.system_out, first.result) == ("check_a", 0.25, "TTBR0 = 0x1000\n", [])
    assert isinstance(second.result[0], Skipped)
    failed, late, error = (case.result[0] for case in suites["bad#1.py"])
    assert (type(failed), failed.message, failed.text) == (Failure, "expected 1; it is 2", "  evidence ?[31m\nbad.py:3")
    assert (type(late), late.message) == (Failure, "timed out: 30 s")
    assert (type(error), error.message) == (Error, "qemu: not found")
    assert [case.name for case in suites["no.py"]] == ["no.py"]


def test_junit_where_nothing_can_be_written(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblem, match="No such file"):
        write_junit(tmp_path / "missing" / "results.xml", [GOOD])


def test_text_has_one_line_a_check_and_the_evidence_under_it() -> None:
    assert lines_of(TextReport(Style()), BAD) == [
        "FAILED     bad#1.py check_c  0.0 s",
        "  expected 1; it is 2",
        "    evidence ?[31m",
        "  bad.py:3",
        "  x",
        "TIMED OUT  bad#1.py check_d  0.0 s",
        "  30 s",
        "ERROR      bad#1.py check_e  0.0 s",
        "  qemu: not found",
        "1 failed, 1 timed out, 1 error; 3.2 s",
    ]
    assert lines_of(TextReport(Style()), GOOD)[-1] == "1 passed, 1 skipped; 3.2 s"


def test_json() -> None:
    (line,) = lines_of(JsonReport(), GOOD, BAD, UNREADABLE)
    document = json.loads(line)
    good, bad, unreadable = document["scripts"]
    assert document["counts"] == {"passed": 1, "failed": 1, "skipped": 1, "timed out": 1, "error": 2}
    assert (document["seconds"], good["script"], good["outcome"], bad["outcome"]) == (
        3.25,
        "good.py",
        "passed",
        "error",
    )
    assert good["checks"][0] == {
        "name": "check_a", "outcome": "passed", "reason": None, "details": [], "output": ["TTBR0 = 0x1000", ""],
        "seconds": 0.25,
    }  # fmt: skip
    assert bad["checks"][0]["details"] == ["  evidence \x1b[31m", "bad.py:3"]
    assert unreadable == {
        "script": "no.py", "outcome": "error", "reason": "SyntaxError: invalid", "details": ["no.py:1: ("],
        "checks": [],
    }  # fmt: skip
