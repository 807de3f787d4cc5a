"""Records the machine behind a gdbstub to the end that was asked for, with either engine."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

from kexecdbg.machine.gdb_remote import GdbRemote, MachineEndedError
from kexecdbg.trace.recording.open_recording import OpenRecording
from kexecdbg.trace.recording.options import Engine, RecordingOptions
from kexecdbg.trace.recording.result import EndReason, Limits, RecordingResult
from kexecdbg.trace.recording.start import start_file
from kexecdbg.trace.recording.stepping import SteppingRecorder

_LOOK = 0.02
"""Seconds between looks at whether a running machine has to be stopped."""


class Recording:
    """One recording of the CPU behind ``remote``, which is stopped, into a new file.

    >>> with GdbRemote("localhost:1234") as remote:                                     # doctest: +SKIP
    ...     result = Recording(remote, Path("freeze.kxt"), RecordingOptions()).run()
    """

    def __init__(self, remote: GdbRemote, path: Path, options: RecordingOptions) -> None:
        self._remote = remote
        self._path = path
        self._options = options
        self._stop_asked = threading.Event()

    def stop(self) -> None:
        """Ask the recording to end soon; for signal handlers and other threads."""
        self._stop_asked.set()

    def run(self) -> RecordingResult:
        """Record until a limit is reached, the machine ends or the CPU gets stuck.

        Raises:
            TargetError: the machine does not answer, or is not QEMU's.
            EnvironmentProblem: the engine cannot record this machine; the message says what can.
            KexecdbgError: the machine stopped answering, or the trace cannot be written; what was recorded until then
                is in the file.
        """
        return self._from_log() if self._options.engine is Engine.LOG else self._stepping()

    def _stepping(self) -> RecordingResult:
        start = start_file(self._remote, self._path, self._options)
        with start.writer as writer:
            recorder = SteppingRecorder(
                self._remote,
                start.memory,
                writer,
                self._options.fold,
                whole_memory=start.whole_memory,
                stop=self._stop_asked,
            )
            return recorder.record(self._options.limits)

    def _from_log(self) -> RecordingResult:
        recording = OpenRecording(self._remote, self._path, self._options)
        try:
            reason = let_run(self._remote, self._options.limits, self._stop_asked, lambda: recording.reason)
        except MachineEndedError:
            return recording.abandon()
        except BaseException:
            recording.abandon()
            raise
        return recording.finish(self._remote, reason)


def let_run(
    remote: GdbRemote, limits: Limits, stop_asked: threading.Event, reason: Callable[[], EndReason | None]
) -> EndReason:
    """Run a machine that is recorded from its log until a limit is reached; why it stopped.

    Args:
        stop_asked: set by whoever wants the end.
        reason: why nothing more is recorded, if that is so.

    Raises:
        MachineEndedError: the machine has ended.
    """
    for address in limits.until:
        remote.set_breakpoint(address)
    why = _run_to_limit(remote, limits, stop_asked, reason)
    for address in limits.until:
        remote.remove_breakpoint(address)
    return why


def _run_to_limit(
    remote: GdbRemote, limits: Limits, stop_asked: threading.Event, reason: Callable[[], EndReason | None]
) -> EndReason:
    deadline = None if limits.seconds is None else time.monotonic() + limits.seconds
    remote.start()
    while (reply := remote.poll_stop(_LOOK)) is None:
        if reason() is None and not stop_asked.is_set():
            if deadline is None or time.monotonic() < deadline:
                continue
            why = EndReason.SECONDS
        else:
            why = EndReason.STOPPED
        if remote.interrupt().ended:
            raise MachineEndedError("vCont;c", None, "the machine has ended")
        return why
    if reply.ended:
        raise MachineEndedError("vCont;c", None, "the machine has ended")
    return EndReason.REACHED if limits.until else EndReason.STOPPED
