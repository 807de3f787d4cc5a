"""``kexecdbg walk``: walk-ttbr0 and walk-ttbr1 from the shell, also on registers and memory from files."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any

from kexecdbg.errors import UsageError
from kexecdbg.ui.attach import run_attached
from kexecdbg.ui.sources import add_source_arguments, attached_options, given_machine, is_attached
from kexecdbg.ui.style import hanging, is_ascii, style_for

if TYPE_CHECKING:
    from kexecdbg.ui.sources import GivenMachine

SUMMARY = (
    "Translate addresses of the machine at a gdbstub, or of registers and memory from files, level by level, with the "
    "bit that decides each right."
)

_NOTE_COLUMN = 11


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Addresses, table and regime."""
    parser.add_argument(
        "addresses", nargs="*", metavar="ADDRESS", help="a number, '$pc+4', or at a gdbstub any GDB expression"
    )
    parser.add_argument("--map", action="store_true", help="draw the address space of the whole table instead")
    parser.add_argument("--ttbr", choices=("0", "1"), default="0", help="which table: TTBR0 (default) or TTBR1")
    parser.add_argument(
        "--regime",
        type=str.upper,
        choices=("EL1&0", "EL2", "EL2&0", "EL3"),
        help="default: that of the current EL",
    )
    add_source_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Exit status 0 when every address translates, or with ``--map`` when nothing is wrong with the table; else 1.

    Raises:
        UsageError: neither addresses nor ``--map`` were given, or both.
    """
    if bool(arguments.addresses) == arguments.map:
        raise UsageError("give an ADDRESS to translate ('$pc+4'), or --map for a picture of the whole table")
    if arguments.map:
        return 1 if _draw(arguments)["problems"] else 0
    if is_attached(arguments):
        regime = ["--regime", arguments.regime] if arguments.regime else []
        command = [f"walk-ttbr{arguments.ttbr}", *attached_options(arguments), *regime, *arguments.addresses]
        document = run_attached(arguments, command)
        walks = document if isinstance(document, list) else [document]
    else:
        with given_machine(arguments) as machine:
            walks = _walks(arguments, machine)
    return 0 if all(walk["result"]["pa"] is not None for walk in walks) else 1


def _draw(arguments: argparse.Namespace) -> Any:
    """Draw the table; its JSON document, which is that of the GDB command."""
    if is_attached(arguments):
        regime = ["--regime", arguments.regime] if arguments.regime else []
        command = [f"walk-ttbr{arguments.ttbr}", "--map", *attached_options(arguments), *regime]
        return run_attached(arguments, command)
    from kexecdbg.arm64.regimes import Regime
    from kexecdbg.arm64.scan import scan
    from kexecdbg.checks.address_map import destinations_of, points_of
    from kexecdbg.checks.given_switch import complete_state
    from kexecdbg.checks.table_view import tables_as_if_on
    from kexecdbg.ui.address_map_text import table_map_text
    from kexecdbg.ui.table_json import table_json

    with given_machine(arguments) as machine:
        given = complete_state(machine.values, Regime(arguments.regime) if arguments.regime else None)
        view = tables_as_if_on(given.state, machine.memory, given.regime)
        if arguments.ttbr == "1" and not given.regime.facts.two_ranges:
            raise UsageError(f"the {given.regime.value} regime has no TTBR1; leave --ttbr out")
        table = scan(view.state, machine.memory, given.regime, ttbr=int(arguments.ttbr))
        points = (*points_of(given.state, table), *destinations_of(given.state, machine.memory))
    notes = (*machine.remarks, *given.remarks, *([view.remark] if view.remark else []))
    document = table_json(table, table.ranges) | {"remark": view.remark or None, "remarks": list(notes)}
    if arguments.json:
        print(json.dumps(document, indent=1))
        return document
    style = style_for(sys.stdout)
    print(table_map_text(table, table.ranges, points, style, ascii_only=is_ascii(sys.stdout)))
    for note in notes:
        print(style.dim(hanging("  note", note, _NOTE_COLUMN)))
    return document


def _walks(arguments: argparse.Namespace, machine: GivenMachine) -> list[dict[str, Any]]:
    """Walk and print; the JSON documents, which are those of the GDB commands."""
    from kexecdbg.arm64.regimes import Regime
    from kexecdbg.checks.given_switch import complete_state
    from kexecdbg.checks.table_view import tables_as_if_on, walk_in_range
    from kexecdbg.ui.walk_json import walk_json
    from kexecdbg.ui.walk_text import walk_text

    given = complete_state(machine.values, Regime(arguments.regime) if arguments.regime else None)
    view = tables_as_if_on(given.state, machine.memory, given.regime)
    walks = [
        walk_in_range(view, machine.memory, machine.address(text), int(arguments.ttbr)) for text in arguments.addresses
    ]
    notes = (*machine.remarks, *given.remarks)
    documents = [{**walk_json(walk), "as_if_on": view.as_if_on, "remarks": list(notes)} for walk in walks]
    if arguments.json:
        print(json.dumps(documents[0] if len(documents) == 1 else documents, indent=1))
    else:
        style = style_for(sys.stdout)
        print("\n\n".join(walk_text(walk, style) for walk in walks))
        for note in (*notes, *([view.remark] if view.as_if_on else [])):
            print(style.dim(hanging("  note", note, _NOTE_COLUMN)))
    return documents
