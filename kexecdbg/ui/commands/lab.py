"""``kexecdbg lab``: the built-in scenarios."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
import time
from collections.abc import Sequence
from typing import Any

from kexecdbg.errors import UsageError
from kexecdbg.lab.boot import boot
from kexecdbg.lab.scenario import Scenario
from kexecdbg.lab.scenarios import all_scenarios, find_scenarios
from kexecdbg.session.scenario import ScenarioResult, precision_and_recall, run_scenarios
from kexecdbg.ui import oracle_text
from kexecdbg.ui.style import Style, hanging, style_for

SUMMARY = (
    "List and run the built-in scenarios: machines built right or wrong, predicted against observed in QEMU. `start` "
    "boots one for GDB, stopped before its first instruction, and keeps it until it ends or Ctrl-C."
)
_FOREVER = 7 * 86400.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """``list``, ``run`` with ids, or ``start`` with one."""
    parser.add_argument("action", choices=("list", "run", "start", "oracle"), help="what to do; oracle: see below")
    parser.add_argument("ids", nargs="*", metavar="ID", help="scenarios, or patterns: M01*; see `kexecdbg lab list`")
    parser.add_argument("--all", action="store_true", help="run every scenario")
    parser.add_argument("--jobs", type=int, metavar="N", help="run N at a time (default: as many as there are CPUs)")
    parser.add_argument("--json", action="store_true", help="print one JSON document and nothing else")
    oracle_text.add_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Exit status 0 when every scenario agrees and every finding is one that was expected, else 1."""
    if arguments.action == "oracle":
        return oracle_text.run(arguments)
    style = style_for(sys.stdout)
    if arguments.action == "list":
        return _list(arguments, style)
    if arguments.action == "start":
        return _start(arguments)
    if not (arguments.ids or arguments.all):
        raise UsageError("name scenarios, or give --all; `kexecdbg lab list` lists them")
    if arguments.jobs is not None and arguments.jobs < 1:
        raise UsageError(f"--jobs {arguments.jobs}: at least 1 is needed")
    scenarios = list(all_scenarios().values()) if arguments.all else find_scenarios(arguments.ids)
    column = _column(scenarios)
    started = time.monotonic()
    results = []
    for result in run_scenarios(scenarios, arguments.jobs or len(os.sched_getaffinity(0))):
        results.append(result)
        if not arguments.json:
            print(_line(result, column, style), flush=True)
    agreed = sum(result.agrees for result in results)
    precision, recall = precision_and_recall(results)
    seconds = round(time.monotonic() - started, 1)
    if arguments.json:
        document = {
            "scenarios": [_document(result) for result in results],
            "precision": precision,
            "recall": recall,
            "seconds": seconds,
        }
        print(json.dumps(document, indent=1))
    else:
        print(f"{agreed} of {len(results)} agree; precision {precision:g}, recall {recall:g}; {seconds:g} s")
    return 0 if agreed == len(results) and precision == recall == 1 else 1


def _list(arguments: argparse.Namespace, style: Style) -> int:
    scenarios = list(all_scenarios().values())
    if arguments.json:
        print(json.dumps({"scenarios": [_description(scenario) for scenario in scenarios]}, indent=1))
    else:
        column = _column(scenarios)
        print("\n".join(hanging(scenario.id, scenario.summary, column, style) for scenario in scenarios))
    return 0


def _start(arguments: argparse.Namespace) -> int:
    """Keep one scenario's machine for a GDB; what the guest prints goes to standard output."""
    if len(arguments.ids) != 1 or arguments.all or arguments.json:
        raise UsageError("start keeps one machine for GDB: kexecdbg lab start M01")
    (scenario, *others) = find_scenarios(arguments.ids)
    if others:
        raise UsageError(f"{arguments.ids[0]}: {1 + len(others)} scenarios, and start keeps one")
    with boot(scenario.guest.build()) as machine:
        print(f"{scenario.id}: {scenario.summary}")
        print("stopped before its first instruction; Ctrl-C here ends it. Attach with:")
        print(f'  gdb-multiarch -x "$(kexecdbg gdbinit)" {shlex.quote(str(machine.symbol_file))}')
        print(f"  (gdb) target remote {machine.qemu.gdb_socket}", flush=True)
        machine.qemu.wait_exit(_FOREVER)
        print(machine.qemu.console.text, end="")
    return 0


def _column(scenarios: Sequence[Scenario]) -> int:
    return max(len(scenario.id) for scenario in scenarios) + 2


def _description(scenario: Scenario) -> dict[str, Any]:
    return {
        "id": scenario.id,
        "entry": scenario.entry,
        "summary": scenario.summary,
        "cpu": scenario.guest.cpu,
        "expected": sorted(scenario.expected),
        "qemu_shows": scenario.qemu_shows,
        "qemu_lets_it_pass": scenario.qemu_lets_it_pass or None,
    }


def _document(result: ScenarioResult) -> dict[str, Any]:
    return {
        **_description(result.scenario),
        "verdict": result.check.get("verdict"),
        "predicted": result.check.get("predicted"),
        "observed": {**result.observed, "ran_on": result.ran_on},
        "logged": result.logged,
        "findings": [finding["id"] for finding in result.check.get("findings", ())],
        "missing": sorted(result.missing),
        "unexpected": sorted(result.unexpected),
        "problem": result.problem or None,
        "agrees": result.agrees,
    }


def _line(result: ScenarioResult, column: int, style: Style) -> str:
    verdict = style.good("agrees ") if result.agrees else style.bad("DIFFERS")
    remarks = [
        " ".join(finding["id"] for finding in result.check.get("findings", ())) or "no finding",
        f"observed: {_observed(result)}",
    ]
    if result.missing:
        remarks.append(f"missing: {' '.join(sorted(result.missing))}")
    if result.unexpected:
        remarks.append(f"unexpected: {' '.join(sorted(result.unexpected))}")
    if result.ran_on and result.scenario.qemu_lets_it_pass:
        remarks.append(f"QEMU lets it pass: {result.scenario.qemu_lets_it_pass}")
    text = hanging(result.scenario.id, result.scenario.summary, column, style)
    indent = " " * column
    return f"{text}\n{indent}{verdict}" + hanging("", "; ".join(remarks), column + 9)[column + 8 :]


def _observed(result: ScenarioResult) -> str:
    first, then = result.observed["first"], result.observed["then"]
    if result.problem:
        return result.problem
    if first is None:
        return "ran on" if result.ran_on else "nothing"
    return f"ESR {first['esr']}" + (f" then {then['esr']}" if then else "")
