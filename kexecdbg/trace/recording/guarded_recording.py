"""A recording from QEMU's log that ends as it should even when this program is killed."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

from kexecdbg.machine.gdb_remote import GdbRemote, MachineEndedError
from kexecdbg.qemu.cpu_log_window import CpuLogWindow
from kexecdbg.trace.recording.background import BackgroundRecording, RecorderGoneError
from kexecdbg.trace.recording.options import RecordingOptions
from kexecdbg.trace.recording.record import let_run
from kexecdbg.trace.recording.result import EndReason, RecordingResult


class GuardedRecording:
    """One recording of CPU ``cpu`` at the gdbstub ``target``, which nobody is connected to, into a new file.

    A process of its own keeps the recording; when this one is killed, that one finishes the trace, switches QEMU's log
    off and lets the machine run on. When that one is killed, this one switches the log off.
    """

    def __init__(self, target: str, cpu: int, path: Path, options: RecordingOptions) -> None:
        self._target = target
        self._cpu = cpu
        self._path = path
        self._options = options
        self._stop_asked = threading.Event()

    def stop(self) -> None:
        """Ask the recording to end soon; for signal handlers and other threads."""
        self._stop_asked.set()

    def run(self, resume: bool = False) -> RecordingResult:
        """Record until a limit is reached, the machine ends or the CPU gets stuck.

        Args:
            resume: let the machine run on afterwards.

        Raises:
            KexecdbgError: as :meth:`kexecdbg.trace.recording.record.Recording.run`.
        """
        recording = BackgroundRecording(self._target, self._cpu, self._path, self._options)
        try:
            return self._run(recording, resume)
        except RecorderGoneError:
            with GdbRemote(self._target, self._cpu) as remote:
                CpuLogWindow().close(remote.monitor)
            raise

    def _run(self, recording: BackgroundRecording, resume: bool) -> RecordingResult:
        try:
            with GdbRemote(self._target, self._cpu) as remote:
                recording.machine_is("running")
                reason = let_run(remote, self._options.limits, self._stop_asked, lambda: recording.steps()[1])
                recording.machine_is("stopped")
        except MachineEndedError:
            return recording.abandon()
        except RecorderGoneError:
            raise
        except BaseException:
            recording.stop()
            raise
        result = recording.stop(resume)
        return replace(result, reason=reason) if result.reason is EndReason.STOPPED else result
