"""The recording from QEMU's log that is open in this debug session, if there is one."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import gdb

from kexecdbg.errors import KexecdbgError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from kexecdbg.trace.recording.background import BackgroundRecording
    from kexecdbg.trace.recording.options import RecordingOptions
    from kexecdbg.trace.recording.result import RecordingResult

_open: BackgroundRecording | None = None


def present() -> BackgroundRecording:
    """The open recording.

    Raises:
        UsageError: there is none.
    """
    if _open is None:
        raise UsageError("nothing is being recorded; begin with kexec-record start FILE")
    return _open


def start(path: Path, options: RecordingOptions) -> BackgroundRecording:
    """Begin to record the selected CPU from QEMU's log.

    Raises:
        KexecdbgError: something is being recorded, or this machine cannot be.
    """
    global _open
    from kexecdbg.trace.recording.background import BackgroundRecording

    from .adapter import given_away

    _check_none_open()
    with given_away() as (target, cpu):
        _open = BackgroundRecording(target, cpu, path, options)
    return _open


def step(path: Path, options: RecordingOptions) -> RecordingResult:
    """Record the selected CPU by stepping it, until a limit is reached, it gets stuck, or Ctrl-C.

    Raises:
        KexecdbgError: something is being recorded, or this machine cannot be.
    """
    from kexecdbg.trace.recording.background import BackgroundRecording

    from .adapter import given_away

    _check_none_open()
    with given_away() as (target, cpu):
        recording = BackgroundRecording(target, cpu, path, options)
        try:
            return recording.wait()
        except KeyboardInterrupt:
            recording.ask_to_stop()
            return recording.wait()


def _check_none_open() -> None:
    if _open is not None:
        raise UsageError(f"{_open.path} is being recorded; end it with kexec-record stop")


def stop() -> RecordingResult:
    """End the open recording, also when GDB has left the machine; it is what was recorded until then.

    Raises:
        KexecdbgError: nothing is being recorded, or it could not be ended as it should.
    """
    global _open
    from kexecdbg.qemu.cpu_log_window import CpuLogWindow
    from kexecdbg.trace.recording.background import RecorderGoneError

    from .adapter import given_away
    from .gdb_stub import monitor

    recording = present()
    if gdb.selected_thread() is None:
        _open = None
        return recording.stop(resume=True)
    try:
        with given_away():
            _open = None
            return recording.stop()
    except RecorderGoneError:
        CpuLogWindow().close(monitor)
        raise


def _running(event: gdb.ContinueEvent) -> None:
    if _open is not None:
        _open.machine_is("running")


def _stopped(event: gdb.StopEvent) -> None:
    if _open is not None:
        _open.machine_is("stopped")


def _left(event: gdb.Event) -> None:
    """GDB has left the machine, which runs on unless it has ended."""
    if _open is not None and gdb.selected_thread() is None:
        _open.machine_is("running")


def _end_with_gdb(event: gdb.Event) -> None:
    """GDB ends; what it does with its target then, it does as always."""
    if _open is not None:
        # A machine that runs, or that GDB has left, is stopped for a moment by the recording's own process, after GDB.
        with contextlib.suppress(KexecdbgError, gdb.error):
            stop()


gdb.events.cont.connect(_running)
gdb.events.stop.connect(_stopped)
# Without these events (before GDB 12) the recording is finished after GDB, by its own process.
if hasattr(gdb.events, "connection_removed"):
    gdb.events.connection_removed.connect(_left)
if hasattr(gdb.events, "gdb_exiting"):
    gdb.events.gdb_exiting.connect(_end_with_gdb)
