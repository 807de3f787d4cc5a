"""``kexec-record``: a trace file of what the machine executes from here on."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gdb

from kexecdbg.errors import UsageError
from kexecdbg.ui.argument_types import positive_count
from kexecdbg.ui.style import Style

from .. import recording
from ..command import Command, evaluate_address

if TYPE_CHECKING:
    from kexecdbg.trace.recording.options import RecordingOptions

_ACTIONS = ("start", "stop", "status")
_MEMORY = {"auto": None, "touched": False, "all": True}


class KexecRecord(Command):
    """See SUMMARY."""

    NAME = "kexec-record"
    SUMMARY = (
        "Record what the selected CPU executes into a file: registers at every step, exceptions, memory written, and "
        "the memory that the checks read. `kexec-record start FILE` begins; continue and step as usual; `kexec-record "
        "stop` ends. With --engine stepping, start records at once, to its end or Ctrl-C. Then `kexecdbg replay FILE`."
    )

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("action", choices=_ACTIONS, help="begin, end, or say how far it is")
        parser.add_argument("file", nargs="?", type=Path, metavar="FILE", help="the trace to write; it must not exist")
        parser.add_argument(
            "--engine",
            choices=("log", "stepping"),
            default="log",
            help="log: QEMU logs each instruction, fast, one CPU only (the default); stepping: through the gdbstub, "
            "slow, on any machine",
        )
        parser.add_argument("--steps", type=positive_count, metavar="N", help="stepping: end after N recorded steps")
        parser.add_argument(
            "--until",
            action="append",
            default=[],
            metavar="ADDRESS",
            help="stepping: end before the instruction at this address, an expression",
        )
        parser.add_argument("--no-fold", action="store_true", help="record every round of copy loops and the like")
        parser.add_argument(
            "--memory",
            choices=tuple(_MEMORY),
            default="auto",
            help="what of RAM is recorded: what the run and the checks touch, or all that was ever written (auto: all "
            "when that is at most 64 MB)",
        )

    def values(self) -> tuple[str, ...]:
        return _ACTIONS

    def run(self, arguments: argparse.Namespace, style: Style) -> tuple[Any, str]:
        if arguments.action == "start":
            return self._start(arguments, style)
        if arguments.file is not None:
            raise UsageError(f"{arguments.action} takes no file: one recording is open at a time")
        return self._status(style) if arguments.action == "status" else self._stop(style)

    def _start(self, arguments: argparse.Namespace, style: Style) -> tuple[Any, str]:
        from kexecdbg.machine.replayed_memory import IS_REPLAY
        from kexecdbg.trace.recording.options import Engine
        from kexecdbg.ui.record_text import open_json, open_text, result_json, result_text

        if arguments.file is None:
            raise UsageError("start: give the file to write, for instance: kexec-record start freeze.kxt")
        connection = gdb.selected_inferior().connection
        if isinstance(connection, gdb.RemoteTargetConnection) and connection.send_packet(IS_REPLAY) == b"OK":
            raise UsageError("this is a replay: it has been recorded, and its file can be copied")
        options = _options(arguments)
        if options.engine is Engine.STEPPING:
            result = recording.step(arguments.file, options)
            return result_json(arguments.file, result), result_text(arguments.file, result, style)
        if options.limits.steps is not None or options.limits.until:
            raise UsageError("--steps and --until are for --engine stepping; from the log, run the machine yourself")
        begun = recording.start(arguments.file, options)
        return open_json(begun.path, 0, None), open_text(begun.path, 0, None, style)

    def _status(self, style: Style) -> tuple[Any, str]:
        from kexecdbg.ui.record_text import open_json, open_text

        present = recording.present()
        steps, reason = present.steps()
        return open_json(present.path, steps, reason), open_text(present.path, steps, reason, style)

    def _stop(self, style: Style) -> tuple[Any, str]:
        from kexecdbg.ui.record_text import result_json, result_text

        path = recording.present().path
        result = recording.stop()
        return result_json(path, result), result_text(path, result, style)


def _options(arguments: argparse.Namespace) -> RecordingOptions:
    from kexecdbg.trace.recording.options import Engine, RecordingOptions
    from kexecdbg.trace.recording.result import Limits

    program = gdb.current_progspace()
    symbols = None if program is None else program.filename
    return RecordingOptions(
        engine=Engine(arguments.engine),
        limits=Limits(arguments.steps, frozenset(evaluate_address(text) for text in arguments.until)),
        fold=not arguments.no_fold,
        whole_memory=_MEMORY[arguments.memory],
        symbol_file=None if symbols is None else Path(symbols),
    )


COMMAND = KexecRecord
