"""``kexecdbg lab``: the built-in scenarios."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from kexecdbg.errors import UsageError
from kexecdbg.lab.cases import CASES
from kexecdbg.session.scenario import ScenarioResult, run_scenario
from kexecdbg.ui.style import Style, hanging, style_for

SUMMARY = "List and run the built-in scenarios: machines built right or wrong, predicted against observed in QEMU."

_COLUMN = 6


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """``list``, or ``run`` with ids."""
    parser.add_argument("action", choices=("list", "run"))
    parser.add_argument("ids", nargs="*", metavar="ID", help="scenarios to run; see `kexecdbg lab list`")
    parser.add_argument("--all", action="store_true", help="run every scenario")
    parser.add_argument("--json", action="store_true", help="print one JSON document and nothing else")


def run(arguments: argparse.Namespace) -> int:
    """Exit status 0 when prediction and observation agree in every scenario that was run, else 1."""
    style = style_for(sys.stdout)
    if arguments.action == "list":
        return _list(arguments, style)
    unknown = [name for name in arguments.ids if name not in CASES]
    if unknown or not (arguments.ids or arguments.all):
        problem = f"no scenario is called {', '.join(unknown)}" if unknown else "name scenarios, or give --all"
        raise UsageError(f"{problem}; `kexecdbg lab list` lists them")
    results = []
    for name in CASES if arguments.all else arguments.ids:
        results.append(run_scenario(CASES[name]))
        if not arguments.json:
            print(_line(results[-1], style), flush=True)
    agreed = sum(result.agrees for result in results)
    if arguments.json:
        print(json.dumps({"scenarios": [_document(result) for result in results]}, indent=1))
    else:
        print(f"{agreed} of {len(results)} agree")
    return 0 if agreed == len(results) else 1


def _list(arguments: argparse.Namespace, style: Style) -> int:
    if arguments.json:
        cases = [{"id": case.id, "summary": case.summary, "cpu": case.cpu} for case in CASES.values()]
        print(json.dumps({"scenarios": cases}, indent=1))
    else:
        print("\n".join(hanging(case.id, case.summary, _COLUMN, style) for case in CASES.values()))
    return 0


def _document(result: ScenarioResult) -> dict[str, Any]:
    observed = {"first": result.observed["first"], "then": result.observed["then"]}
    return {
        "id": result.case.id,
        "summary": result.case.summary,
        "cpu": result.case.cpu,
        "predicted": result.check["predicted"],
        "observed": observed,
        "findings": [finding["id"] for finding in result.check["findings"]],
        "agrees": result.agrees,
    }


def _line(result: ScenarioResult, style: Style) -> str:
    first, then = result.observed["first"], result.observed["then"]
    outcome = "ran on" if first is None else f"ESR {first['esr']}" + (f" then {then['esr']}" if then else "")
    findings = " ".join(finding["id"] for finding in result.check["findings"]) or "no finding"
    verdict = style.good("agrees ") if result.agrees else style.bad("DIFFERS")
    text = hanging(result.case.id, f"{result.case.summary}", _COLUMN, style)
    return f"{text}\n      {verdict}  {findings}; observed: {outcome}"
