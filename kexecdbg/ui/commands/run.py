"""``kexecdbg run``: scripts of checks, for CI."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path

from kexecdbg.errors import UsageError
from kexecdbg.session.check_results import CheckOutcome, CheckResult, Plan, ScriptResult
from kexecdbg.session.runner import CHECK_SECONDS, RunOptions, run_scripts
from kexecdbg.ui.argument_types import positive_count, positive_seconds
from kexecdbg.ui.run_json import JsonReport
from kexecdbg.ui.run_junit import write_junit
from kexecdbg.ui.run_ktap import KtapReport
from kexecdbg.ui.run_report import RunReport
from kexecdbg.ui.run_text import TextReport
from kexecdbg.ui.style import style_for

SUMMARY = (
    "Run scripts: Python files with functions check_...(session), each on a machine of its own. Exit status 0 when all "
    "passed or were skipped, 1 when one failed, 2 when one could not be run."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The scripts, what to run them on, and how to report."""
    parser.add_argument("scripts", nargs="+", metavar="SCRIPT.py", help="see docs/sessions.md for how to write one")
    target = parser.add_argument_group("target (default: the script's own TARGET)")
    instead = target.add_mutually_exclusive_group()
    instead.add_argument("--trace", metavar="FILE", help="this recorded run")
    instead.add_argument("--attach", metavar="TARGET", help="this gdbstub: HOST:PORT, or the path of a unix socket")
    target.add_argument("--symbols", metavar="ELF", help="the symbols of what was recorded, or runs there")
    report = parser.add_argument_group("report")
    printed = report.add_mutually_exclusive_group()
    printed.add_argument("--ktap", action="store_true", help="print KTAP, which kernel test systems read")
    printed.add_argument("--json", action="store_true", help="print one JSON document and nothing else")
    report.add_argument("--junit", type=Path, metavar="FILE", help="also write JUnit XML")
    report.add_argument(
        "--logs", metavar="DIR", help="where checks that fail leave their logs (default: the temporary directory)"
    )
    parser.add_argument(
        "--jobs", type=positive_count, default=1, metavar="N", help="run N scripts at a time (default: 1)"
    )
    parser.add_argument(
        "--timeout",
        type=positive_seconds,
        default=CHECK_SECONDS,
        metavar="SECONDS",
        help="how long a check may take (default: %(default)g)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Exit status 0 when every check passed or was skipped, 1 when one failed, 2 when one could not be run."""
    if arguments.attach and arguments.jobs > 1:
        raise UsageError("--attach is one machine, which one script at a time can use; leave --jobs out")
    for script in arguments.scripts:
        if not Path(script).is_file():
            raise UsageError(f"{script}: no such script")
    if arguments.junit is not None and (arguments.junit.is_dir() or not arguments.junit.parent.is_dir()):
        raise UsageError(f"--junit {arguments.junit}: name a file in a directory that exists")
    options = RunOptions(
        arguments.jobs,
        arguments.trace,
        arguments.attach,
        arguments.symbols,
        timeout=arguments.timeout,
        logs=arguments.logs,
    )
    report = _report(arguments)
    started = time.monotonic()
    results = _run(arguments.scripts, options, report)
    _print(report.end(results, time.monotonic() - started))
    if arguments.junit is not None:
        write_junit(arguments.junit, results)
    outcomes = {result.outcome for result in results}
    return 2 if CheckOutcome.ERROR in outcomes else int(not all(outcome.is_good for outcome in outcomes))


def _report(arguments: argparse.Namespace) -> RunReport:
    if arguments.ktap:
        return KtapReport()
    return JsonReport() if arguments.json else TextReport(style_for(sys.stdout))


def _run(scripts: Sequence[str], options: RunOptions, report: RunReport) -> list[ScriptResult]:
    """Run the scripts and report each result when it is there."""
    results: list[ScriptResult] = []
    checks: list[CheckResult] = []
    _print(report.begin(len(scripts)))
    with closing(run_scripts(scripts, options, _tell_of_wait)) as messages:
        for script, message in messages:
            if isinstance(message, Plan):
                _print(report.plan(message))
            elif isinstance(message, CheckResult):
                checks.append(message)
                _print(report.check(script, len(checks), message))
            else:
                results.append(ScriptResult(script, tuple(checks)))
                _print(report.script(len(results), results[-1]))
                checks = []
    return results


def _tell_of_wait(script: str, seconds: float) -> None:
    print(f"kexecdbg: {script} has {seconds:g} s to end what it runs; Ctrl-C ends it at once", file=sys.stderr)


def _print(lines: Iterable[str]) -> None:
    for line in lines:
        print(line, flush=True)
