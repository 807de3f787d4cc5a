"""``kexecdbg run``: scripts of checks, for CI."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

from kexecdbg.errors import UsageError
from kexecdbg.session.check_results import CheckOutcome, CheckResult, Plan, ScriptResult
from kexecdbg.session.runner import CHECK_SECONDS, RunOptions, run_scripts
from kexecdbg.ui import run_ktap, run_text
from kexecdbg.ui.argument_types import positive_count, positive_seconds
from kexecdbg.ui.run_junit import write_junit
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
    report.add_argument("--ktap", action="store_true", help="print KTAP, which kernel test systems read")
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
    started = time.monotonic()
    results = _run_ktap(arguments.scripts, options) if arguments.ktap else _run_text(arguments.scripts, options)
    if not arguments.ktap:
        print(run_text.summary_line(results, time.monotonic() - started, style_for(sys.stdout)))
    if arguments.junit is not None:
        write_junit(arguments.junit, results)
    outcomes = {result.outcome for result in results}
    return 2 if CheckOutcome.ERROR in outcomes else int(not all(outcome.is_good for outcome in outcomes))


def _run_text(scripts: list[str], options: RunOptions) -> list[ScriptResult]:
    style, results = style_for(sys.stdout), []
    checks: list[CheckResult] = []
    with closing(run_scripts(scripts, options)) as messages:
        for script, message in messages:
            if isinstance(message, CheckResult):
                checks.append(message)
                _print(run_text.check_lines(script, message, style))
            elif message is None:
                results.append(ScriptResult(script, tuple(checks)))
                checks = []
    return results


def _run_ktap(scripts: list[str], options: RunOptions) -> list[ScriptResult]:
    results: list[ScriptResult] = []
    checks: list[CheckResult] = []
    _print(run_ktap.head(len(scripts)))
    with closing(run_scripts(scripts, options)) as messages:
        for script, message in messages:
            if isinstance(message, Plan):
                _print(run_ktap.script_head(message.checks))
            elif isinstance(message, CheckResult):
                checks.append(message)
                if message.name:
                    _print(run_ktap.check_lines(len(checks), message))
            else:
                results.append(ScriptResult(script, tuple(checks)))
                _print(run_ktap.script_lines(len(results), results[-1]))
                checks = []
    return results


def _print(lines: Iterable[str]) -> None:
    for line in lines:
        print(line, flush=True)
