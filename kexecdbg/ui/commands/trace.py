"""``kexecdbg trace``: look into a recorded run without GDB."""

from __future__ import annotations

import argparse
import json
import sys
from itertools import islice
from pathlib import Path

from kexecdbg.arm64.pstate import PSTATE_VIEWS
from kexecdbg.arm64.register_names import known_name
from kexecdbg.errors import UsageError
from kexecdbg.trace.compare import compare
from kexecdbg.trace.reader import Trace
from kexecdbg.trace.search import StepFilter, find_steps
from kexecdbg.ui import trace_json, trace_text
from kexecdbg.ui.argument_types import count
from kexecdbg.ui.style import Style, style_for

SUMMARY = (
    "Look into a recorded run: what happened, the steps that matter, those that are asked for, one step in full, or "
    "where two runs part."
)

_LIMIT = 100
_LANDMARKS = tuple(
    f"{name}_EL{el}"
    for el in (1, 2, 3)
    for name in ("SCTLR", "TTBR0", "TTBR1", "TCR", "MAIR", "VBAR", "HCR", "VTTBR", "VTCR")
)
"""Registers whose change is worth a line when nothing else is asked for."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The file, what to show of it, and which steps."""
    parser.add_argument("file", type=Path, metavar="FILE", help="the trace (.kxt)")
    show = parser.add_mutually_exclusive_group()
    show.add_argument("--step", type=int, metavar="N", help="show step N in full")
    show.add_argument("--diff", type=Path, metavar="OTHER", help="say where this run and another one part")
    steps = parser.add_argument_group(
        "steps to list",
        "all that is given has to hold; without any: writes of translation registers, and exceptions",
    )
    steps.add_argument("--all", action="store_true", help="every step")
    steps.add_argument("--el", type=int, choices=range(4), help="executed at this exception level")
    steps.add_argument("--writes", action="append", default=[], metavar="REGISTER", help="that change this register")
    steps.add_argument("--exceptions", action="store_true", help="that take an exception")
    steps.add_argument("--pc", action="append", default=[], metavar="ADDRESS", help="at this virtual address")
    steps.add_argument("--memory", action="append", default=[], metavar="START-END", help="that write there (physical)")
    steps.add_argument("--folded", action="store_true", help="that stand for many instructions")
    steps.add_argument("--from", dest="first", type=count, default=0, metavar="N", help="from step N on")
    steps.add_argument("--to", dest="last", type=count, metavar="N", help="up to step N, exclusive")
    steps.add_argument(
        "--limit", type=count, default=_LIMIT, metavar="N", help="list at most N, 0 for all (default: %(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document and nothing else")


def run(arguments: argparse.Namespace) -> int:
    """Exit status 0; with --diff 1 when the runs differ."""
    style = style_for(sys.stdout)
    with Trace.open(arguments.file) as trace:
        if arguments.diff is not None:
            return _diff(trace, arguments, style)
        if arguments.step is not None:
            step = trace.step(arguments.step)
            document = {**trace_json.overview(trace), "listed": [trace_json.step(trace, step)]}
            text = trace_text.step_detail(trace, step, style)
            print(json.dumps(document, indent=1) if arguments.json else text)
            return 0
        return _list(trace, arguments, style)


def _diff(trace: Trace, arguments: argparse.Namespace, style: Style) -> int:
    with Trace.open(arguments.diff) as other:
        found = compare(trace, other)
        if arguments.json:
            document = {"warnings": [*trace.warnings, *other.warnings], **trace_json.difference(found)}
            print(json.dumps(document, indent=1))
        else:
            print(trace_text.difference_text(trace, other, found, style))
    return 0 if found.same else 1


def _list(trace: Trace, arguments: argparse.Namespace, style: Style) -> int:
    wanted = _filter(trace, arguments)
    if wanted is None:
        numbers = [
            number
            for number in trace_text.landmarks(trace, _LANDMARKS)
            if arguments.first <= number and (arguments.last is None or number < arguments.last)
        ]
        found = iter(numbers)
    else:
        found = find_steps(trace, wanted, arguments.first, arguments.last)
    limit = arguments.limit or None
    shown = list(islice(found, limit))
    more = next(found, None)
    if arguments.json:
        document = {
            **trace_json.overview(trace),
            "listed": [trace_json.step(trace, trace.step(number)) for number in shown],
            "more": more is not None,
        }
        print(json.dumps(document, indent=1))
        return 0
    print(trace_text.overview_text(trace, style))
    if shown:
        print()
    elif wanted is not None or arguments.first or arguments.last is not None:
        print("no such step")
    for line in trace_text.step_lines(trace, shown, style):
        print(line)
    if more is not None:
        print(f"more: --from {more}, or --limit 0 for all")
    return 0


def _filter(trace: Trace, arguments: argparse.Namespace) -> StepFilter | None:
    """What the options ask for; ``None`` when they ask for nothing."""
    wanted = StepFilter(
        pcs=frozenset(_number("--pc", text) for text in arguments.pc) or None,
        el=arguments.el,
        changes=tuple(_register(trace, name) for name in arguments.writes) or None,
        writes=tuple(_range(text) for text in arguments.memory) or None,
        exceptions=arguments.exceptions,
        folded=arguments.folded,
    )
    return None if wanted == StepFilter() and not arguments.all else wanted


def _register(trace: Trace, text: str) -> str:
    name = known_name(text)
    if name == "PC":
        raise UsageError("--writes PC: every step does; --all lists them, --pc ADDRESS those at an address")
    if trace.register_number(name) is None:
        remedy = "; give PSTATE, which it is a part of" if name in PSTATE_VIEWS else ""
        raise UsageError(f"--writes {text}: {name} was not recorded{remedy}")
    return name


def _number(option: str, text: str) -> int:
    try:
        return int(text, 0)
    except ValueError:
        raise UsageError(f"{option} {text}: give a number, for instance 0x1b3080000") from None


def _range(text: str) -> tuple[int, int]:
    start, dash, end = text.partition("-")
    first = _number("--memory", start)
    last = _number("--memory", end) if dash else first + 8
    if not first < last:
        raise UsageError(f"--memory {text}: give START-END, END after the last byte")
    return first, last
