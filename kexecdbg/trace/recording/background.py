"""Recording in a process of its own, for a program (GDB, the shell command) that uses the same gdbstub in between.

A gdbstub has one client at a time: the program leaves it while the recording begins and ends (a stopped machine stays
stopped), and has it in between. The process outlives the program: when that ends without a word, or is killed, the
process finishes the trace and switches QEMU's log off. The two talk in JSON, one object a line.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kexecdbg.errors import EnvironmentProblem, KexecdbgError
from kexecdbg.trace.recording.options import Engine, RecordingOptions
from kexecdbg.trace.recording.result import EndReason, Limits, RecordingResult

_MODULE = "kexecdbg.trace.recording.background_process"
_SECONDS_TO_END = 20.0
_LOOK = 0.2
"""Seconds between looks at whether there was a Ctrl-C."""


class RecorderGoneError(KexecdbgError):
    """The recording's process was killed, and could not clean up."""


class BackgroundRecording:
    """A recording of CPU ``cpu`` of the machine at the gdbstub ``target``, which nobody is connected to.

    From the log it is open when this returns, and the program may connect and run the machine. By stepping it has
    begun, and :meth:`wait` waits for its end.

    Raises:
        KexecdbgError: it could not begin; the message says why.
    """

    def __init__(self, target: str, cpu: int, path: Path, options: RecordingOptions) -> None:
        self.path = path.absolute()
        self.engine = options.engine
        request = {"target": target, "cpu": cpu, "file": str(self.path), **options_json(options)}
        self._process = subprocess.Popen(
            [_python(), "-m", _MODULE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            start_new_session=True,  # a Ctrl-C at the terminal is for the debugger
        )
        try:
            self._send(request)
            if self.engine is Engine.LOG:
                self._receive()
        except BaseException:
            self._end()
            raise

    def steps(self) -> tuple[int, EndReason | None]:
        """How many steps have been recorded so far, and why no more are if that is so."""
        self._send({"do": "status"})
        answer = self._receive()
        return int(answer["steps"]), None if answer["ended"] is None else EndReason[answer["ended"]]

    def machine_is(self, state: str) -> None:
        """Note what the machine does, for the case that this program is killed: ``running`` or ``stopped``."""
        with contextlib.suppress(KexecdbgError):  # whoever asks for something next hears of it
            self._send({"machine": state})

    def ask_to_stop(self) -> None:
        """Let a recording by stepping end after the present step."""
        self._send({"do": "stop"})

    def wait(self) -> RecordingResult:
        """The result of a recording by stepping, when it has ended."""
        return self._result(self._receive())

    def stop(self, resume: bool = False) -> RecordingResult:
        """End a recording from the log; nobody is connected to the gdbstub.

        Args:
            resume: let the machine run on afterwards.

        Raises:
            KexecdbgError: it cannot be ended as it should; what was recorded is in the file.
        """
        self._send({"do": "stop", "resume": resume})
        return self._result(self._receive())

    def abandon(self) -> RecordingResult:
        """End a recording from the log without the machine, which is gone."""
        self._send({"do": "abandon"})
        return self._result(self._receive())

    def _result(self, answer: Mapping[str, Any]) -> RecordingResult:
        self._end()
        return RecordingResult(int(answer["steps"]), EndReason[answer["reason"]], tuple(answer["remarks"]))

    def _send(self, message: Mapping[str, Any]) -> None:
        assert self._process.stdin is not None
        if self._process.stdin.closed:
            raise self._gone()
        try:
            self._process.stdin.write(f"{json.dumps(message)}\n")
            self._process.stdin.flush()
        except OSError as error:
            raise self._gone() from error

    def _receive(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        # A debugger restarts reads that Ctrl-C interrupts; select() returns, and Python raises KeyboardInterrupt.
        while not select.select([self._process.stdout], [], [], _LOOK)[0]:
            pass
        line = self._process.stdout.readline()
        if not line:
            raise self._gone()
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            self._end()
            raise KexecdbgError(answer["error"])
        return answer

    def _gone(self) -> RecorderGoneError:
        self._end()
        return RecorderGoneError(
            f"{self.path}: the process that recorded it is gone; what it had written is in the file"
        )

    def _end(self) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(_SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()


def _python() -> str:
    """The interpreter that this program is, or embeds.

    Raises:
        EnvironmentProblem: it is not there.
    """
    if "gdb" not in sys.modules:
        return sys.executable
    # GDB, which embeds Python, reports an interpreter that need not exist, or be of another version.
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    found = shutil.which(name)
    if found is None:
        raise EnvironmentProblem(f"{name}: not found; the recording runs in a process of its own, install it")
    return found


def options_json(options: RecordingOptions) -> dict[str, Any]:
    """``options`` as JSON has them; see :func:`options_of`."""
    limits = options.limits
    return {
        "engine": options.engine.value,
        "steps": limits.steps,
        "until": sorted(limits.until),
        "seconds": limits.seconds,
        "fold": options.fold,
        "whole_memory": options.whole_memory,
        "command_line": options.command_line,
        "symbol_file": None if options.symbol_file is None else str(options.symbol_file.absolute()),
    }


def options_of(document: Mapping[str, Any]) -> RecordingOptions:
    """The options that :func:`options_json` made ``document`` of."""
    symbol_file = document["symbol_file"]
    return RecordingOptions(
        engine=Engine(document["engine"]),
        limits=Limits(document["steps"], frozenset(document["until"]), document["seconds"]),
        fold=document["fold"],
        whole_memory=document["whole_memory"],
        command_line=tuple(document["command_line"]),
        symbol_file=None if symbol_file is None else Path(symbol_file),
    )
