"""``kexecdbg record``: record a machine at a gdbstub, or a built-in scenario, into a trace file."""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import FrameType

from kexecdbg.errors import UsageError
from kexecdbg.machine.gdb_remote import GdbRemote
from kexecdbg.trace.recording.describe import command_line_of
from kexecdbg.trace.recording.guarded_recording import GuardedRecording
from kexecdbg.trace.recording.options import Engine, RecordingOptions
from kexecdbg.trace.recording.record import Recording
from kexecdbg.trace.recording.result import Limits, RecordingResult
from kexecdbg.trace.recording.symbols import address_of_symbol
from kexecdbg.ui.argument_types import positive_count, positive_seconds
from kexecdbg.ui.record_text import result_json, result_text
from kexecdbg.ui.style import style_for

SUMMARY = (
    "Record what a CPU executes into one file: registers at every step, exceptions, memory written, and the memory "
    "that the checks read. The machine has to be stopped, at a gdbstub that GDB is not connected to."
)
_ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to record, how, and until when."""
    parser.add_argument("file", type=Path, metavar="FILE", help="the trace to write, name it .kxt; it must not exist")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--attach", metavar="TARGET", help="a gdbstub: HOST:PORT, or the path of a unix socket")
    source.add_argument("--scenario", metavar="ID", help="a built-in scenario, see `kexecdbg lab list`")
    parser.add_argument("--cpu", type=int, default=0, metavar="N", help="which CPU, counted from 0 (default: 0)")
    parser.add_argument(
        "--engine",
        choices=[engine.value for engine in Engine],
        default=Engine.LOG.value,
        help="log: QEMU logs each instruction, fast, one CPU only (the default); stepping: through the gdbstub, slow, "
        "on any machine",
    )
    end = parser.add_argument_group("end (without one: when the CPU spins, rests, or the machine ends)")
    end.add_argument(
        "--until", action="append", default=[], metavar="ADDRESS", help="before this instruction: 0x... or a symbol"
    )
    end.add_argument("--steps", type=positive_count, metavar="N", help="after N recorded steps")
    end.add_argument("--seconds", type=positive_seconds, metavar="S", help="after S seconds")
    parser.add_argument("--symbols", type=Path, metavar="ELF", help="the guest's symbols, for --until and the build id")
    parser.add_argument(
        "--no-fold", action="store_true", help="record every round of copy loops and other simple loops"
    )
    parser.add_argument(
        "--memory",
        choices=("auto", "touched", "all"),
        default="auto",
        help="what of RAM is recorded: what the run and the checks touch, or all that was ever written (auto: all "
        "when that is at most 64 MB)",
    )
    parser.add_argument("--resume", action="store_true", help="let the machine run on afterwards; it is left stopped")
    parser.add_argument("--json", action="store_true", help="print one JSON document and nothing else")


def run(arguments: argparse.Namespace) -> int:
    """Exit status 0 when something was recorded."""
    if arguments.scenario is None:
        result = _record(arguments, arguments.attach, arguments.symbols)
    else:
        result = _record_scenario(arguments)
    if arguments.json:
        print(json.dumps(result_json(arguments.file, result), indent=1))
    else:
        print(result_text(arguments.file, result, style_for(sys.stdout)))
    return 0


def _record_scenario(arguments: argparse.Namespace) -> RecordingResult:
    from kexecdbg.lab.boot import boot
    from kexecdbg.lab.scenarios import find_scenarios

    (scenario,) = find_scenarios([arguments.scenario])
    with boot(scenario.guest.build()) as machine:
        symbols = arguments.symbols or machine.symbol_file
        return _record(arguments, str(machine.qemu.gdb_socket), symbols, machine.qemu.pid)


def _record(
    arguments: argparse.Namespace, target: str, symbols: Path | None, process: int | None = None
) -> RecordingResult:
    limits = Limits(
        steps=arguments.steps,
        until=frozenset(_address(text, symbols) for text in arguments.until),
        seconds=arguments.seconds,
    )
    options = RecordingOptions(
        engine=Engine(arguments.engine),
        limits=limits,
        fold=not arguments.no_fold,
        whole_memory={"auto": None, "touched": False, "all": True}[arguments.memory],
        command_line=command_line_of(process) if process else (),
        symbol_file=symbols,
    )
    if options.engine is Engine.LOG:
        guarded = GuardedRecording(target, arguments.cpu, arguments.file, options)
        with _ended_by_interrupt(guarded):
            return guarded.run(arguments.resume)
    return _step(target, arguments, options)


def _step(target: str, arguments: argparse.Namespace, options: RecordingOptions) -> RecordingResult:
    with GdbRemote(target, arguments.cpu) as remote:
        if not options.command_line and remote.process is not None:
            options = replace(options, command_line=command_line_of(remote.process))
        recording = Recording(remote, arguments.file, options)
        with _ended_by_interrupt(recording):
            result = recording.run()
        if arguments.resume and not result.machine_ended:
            remote.detach()
    return result


def _address(text: str, symbols: Path | None) -> int:
    """An address as it was typed.

    Raises:
        UsageError: it is neither a number nor a symbol that the symbol file has.
    """
    with contextlib.suppress(ValueError):
        return int(text, 0)
    if symbols is None:
        raise UsageError(f"--until {text}: not a number; give --symbols ELF to use symbols")
    address = address_of_symbol(symbols, text)
    if address is None:
        raise UsageError(f"--until {text}: {symbols} has no such symbol")
    return address


@contextlib.contextmanager
def _ended_by_interrupt(recording: Recording | GuardedRecording) -> Iterator[None]:
    """Make Ctrl-C, a lost terminal and SIGTERM end the recording: what was recorded is kept, QEMU's log goes off."""

    def stop(number: int, frame: FrameType | None) -> None:
        recording.stop()

    before = {number: signal.signal(number, stop) for number in _ENDS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
