"""``kexecdbg checks``: the catalogue."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from kexecdbg.checks.qemu_laxity import LAXITY
from kexecdbg.checks.rule import Rule
from kexecdbg.checks.rules import all_rules
from kexecdbg.errors import UsageError
from kexecdbg.lab.scenario import Scenario
from kexecdbg.lab.scenarios import all_scenarios
from kexecdbg.ui.checks_text import catalogue_text, entry_text
from kexecdbg.ui.style import style_for

SUMMARY = "List everything that kexec-check knows can go wrong when an MMU is switched on, or explain entries of it."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which entries."""
    parser.add_argument("ids", nargs="*", metavar="ID", help="entries to explain, for instance M06; default: list all")
    parser.add_argument("--json", action="store_true", help="print one JSON document and nothing else")


def run(arguments: argparse.Namespace) -> int:
    """Exit status 0."""
    style = style_for(sys.stdout)
    rules = _chosen(arguments.ids)
    if arguments.json:
        print(json.dumps({"checks": [_document(rule) for rule in rules]}, indent=1))
    elif arguments.ids:
        print("\n\n".join(entry_text(rule, _scenarios(rule), style) for rule in rules))
    else:
        print(catalogue_text(rules, style))
    return 0


def _chosen(ids: list[str]) -> tuple[Rule, ...]:
    known = {rule.id: rule for rule in all_rules()}
    wanted = [name.upper() for name in ids] or list(known)
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise UsageError(f"no entry is called {', '.join(unknown)}; `kexecdbg checks` lists them")
    return tuple(known[name] for name in wanted)


def _scenarios(rule: Rule) -> list[Scenario]:
    return [scenario for scenario in all_scenarios().values() if scenario.entry == rule.id]


def _document(rule: Rule) -> dict[str, Any]:
    laxity = LAXITY.get(rule.id)
    return {
        "id": rule.id,
        "severity": rule.severity.value,
        "title": rule.title,
        "symptom": rule.symptom,
        "explanation": rule.explanation,
        "sources": list(rule.sources),
        "qemu": {
            "shows": laxity.extent.value if laxity else "yes",
            "text": laxity.text if laxity else None,
            "sources": list(laxity.sources) if laxity else [],
        },
        "scenarios": [scenario.id for scenario in _scenarios(rule)],
    }
