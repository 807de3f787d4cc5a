"""The process behind :class:`kexecdbg.trace.recording.background.BackgroundRecording`."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from kexecdbg.errors import KexecdbgError, TargetError
from kexecdbg.machine.gdb_remote import GdbRemote
from kexecdbg.trace.recording.background import options_of
from kexecdbg.trace.recording.describe import command_line_of
from kexecdbg.trace.recording.open_recording import OpenRecording
from kexecdbg.trace.recording.options import Engine, RecordingOptions
from kexecdbg.trace.recording.record import Recording
from kexecdbg.trace.recording.result import EndReason, RecordingResult


def main() -> None:
    """Do what the first line of standard input asks for."""
    request = json.loads(sys.stdin.readline())
    path, options = Path(request["file"]), options_of(request)
    try:
        if options.engine is Engine.LOG:
            result = _record_log(request["target"], request["cpu"], path, options)
        else:
            result = _record_stepping(request["target"], request["cpu"], path, options)
    except KexecdbgError as error:
        _say({"error": str(error)})
    else:
        _say({"steps": result.steps, "reason": result.reason.name, "remarks": result.remarks})


def _say(message: Mapping[str, Any]) -> None:
    try:
        print(json.dumps(message), flush=True)
    except BrokenPipeError:
        # The program is gone; what was recorded is in the file. Python would complain when it flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _record_stepping(target: str, cpu: int, path: Path, options: RecordingOptions) -> RecordingResult:
    with GdbRemote(target, cpu) as remote:
        recording = Recording(remote, path, _with_command_line(options, remote))

        def stop_when_told() -> None:
            sys.stdin.readline()  # the word to stop, or the program's end
            recording.stop()

        threading.Thread(target=stop_when_told, daemon=True).start()
        return recording.run()


def _record_log(target: str, cpu: int, path: Path, options: RecordingOptions) -> RecordingResult:
    with GdbRemote(target, cpu) as remote:
        recording = OpenRecording(remote, path, _with_command_line(options, remote))
    _say({"open": True})
    resume = False
    for line in sys.stdin:
        message = json.loads(line)
        if "machine" in message:
            resume = message["machine"] == "running"
        elif message["do"] == "stop":
            resume = message["resume"]
            break
        elif message["do"] == "abandon":
            return recording.abandon()
        else:
            reason = recording.reason
            _say({"steps": recording.steps, "ended": None if reason is None else reason.name})
    return _finish(recording, target, cpu, resume)


def _finish(recording: OpenRecording, target: str, cpu: int, resume: bool) -> RecordingResult:
    try:
        remote = GdbRemote(target, cpu)
    except TargetError:
        return recording.abandon()
    with remote:
        result = recording.finish(remote, EndReason.STOPPED)
        if resume:
            remote.detach()
    return result


def _with_command_line(options: RecordingOptions, remote: GdbRemote) -> RecordingOptions:
    process = remote.process
    if options.command_line or process is None:
        return options
    return replace(options, command_line=command_line_of(process))


if __name__ == "__main__":
    main()
