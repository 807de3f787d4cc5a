"""``kexecdbg report``: the picture to send to somebody else."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kexecdbg.errors import UsageError
from kexecdbg.ui.attach import add_target_arguments, run_attached
from kexecdbg.ui.sources import attached_options
from kexecdbg.ui.style import style_for

SUMMARY = (
    "Write a report to send to somebody else: one HTML file with the verdict, the findings and their repair, drawings "
    "of the walk that decides, of the address space and of the relocation, the registers, and the steps around the "
    "switch. It is about the switch in a recorded run (no GDB and no QEMU are needed), about a machine at a gdbstub, "
    "or about a built-in scenario, which is run for it."
)
_STATUS = {"sound": 0, "faults": 1, "unknown": 1}
_SECONDS = 60.0
"""A scenario ends in a second or two."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to report of, and where to."""
    parser.add_argument("trace", nargs="?", type=Path, metavar="TRACE", help="a recorded run (.kxt)")
    parser.add_argument("--lab", metavar="ID", help="a built-in scenario, see `kexecdbg lab list`")
    add_target_arguments(parser, required=False)
    parser.add_argument("--cpu", type=int, metavar="N", help="of a machine: of CPU N (default: the first)")
    parser.add_argument("-o", "--output", required=True, type=Path, metavar="FILE", help="the HTML file to write")
    parser.add_argument(
        "--step",
        type=int,
        metavar="N",
        help="of a recorded run: judge step N (default: the last switch before the first fault, or the first that "
        "would fault)",
    )
    parser.add_argument("--symbols", type=Path, metavar="ELF", help="of a recorded run: name addresses by this file")
    parser.add_argument(
        "--assume",
        action="append",
        default=[],
        metavar="REG=VALUE",
        help="of a machine: take this value instead of the target's",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document and nothing else")


def run(arguments: argparse.Namespace) -> int:
    """Exit status 0 when the switch is sound, 1 when it faults or cannot be told."""
    sources = [arguments.trace, arguments.lab, arguments.attach]
    if sum(source is not None for source in sources) != 1:
        raise UsageError("report of what? Give one of TRACE, --attach TARGET and --lab ID")
    _check_options(arguments)
    if arguments.attach is not None:
        output = str(arguments.output.absolute())
        document = run_attached(arguments, ["kexec-report", "-o", output, *attached_options(arguments)])
    elif arguments.lab is not None:
        document = _of_scenario(arguments)
    else:
        document = _of_trace(arguments, arguments.trace, arguments.symbols, ())
    return _STATUS[document["verdict"]]


def _check_options(arguments: argparse.Namespace) -> None:
    if arguments.attach is None and (arguments.assume or arguments.resume or arguments.cpu is not None):
        raise UsageError("--assume, --cpu and --resume go with --attach")
    if arguments.trace is None and (arguments.step is not None or arguments.symbols is not None):
        raise UsageError("--step and --symbols go with a TRACE")


def _of_scenario(arguments: argparse.Namespace) -> Any:
    from kexecdbg.lab.boot import boot
    from kexecdbg.lab.scenarios import find_scenarios
    from kexecdbg.machine.gdb_remote import GdbRemote
    from kexecdbg.trace.recording.describe import command_line_of
    from kexecdbg.trace.recording.options import RecordingOptions
    from kexecdbg.trace.recording.record import Recording
    from kexecdbg.trace.recording.result import Limits

    (scenario,) = find_scenarios([arguments.lab])
    with boot(scenario.guest.build()) as machine, tempfile.TemporaryDirectory() as directory:
        path = Path(directory, f"{scenario.id}.kxt")
        options = RecordingOptions(
            limits=Limits(seconds=_SECONDS),
            command_line=command_line_of(machine.qemu.pid),
            symbol_file=machine.symbol_file,
        )
        with GdbRemote(str(machine.qemu.gdb_socket)) as remote:
            Recording(remote, path, options).run()
        facts = [("scenario", f"{scenario.id} of the lab: {scenario.summary}")]
        return _of_trace(arguments, path, machine.symbol_file, facts)


def _of_trace(arguments: argparse.Namespace, path: Path, symbols: Path | None, facts: Sequence[tuple[str, str]]) -> Any:
    from kexecdbg.trace.reader import Trace
    from kexecdbg.ui.report.of_trace import subject_of_trace
    from kexecdbg.ui.report.subject import no_symbols
    from kexecdbg.ui.report.symbols import elf_symbols
    from kexecdbg.ui.report.write import write_report

    symbol_of = no_symbols if symbols is None else elf_symbols(symbols)
    with Trace.open(path) as trace:
        subject = subject_of_trace(trace, arguments.step, symbol_of, facts)
        document, text = write_report(subject, arguments.output, style_for(sys.stdout))
    print(json.dumps(document, indent=1) if arguments.json else text)
    return document
