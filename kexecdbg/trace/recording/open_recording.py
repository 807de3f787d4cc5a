"""A recording from QEMU's log that is open: somebody else, a person at GDB for instance, runs the machine."""

from __future__ import annotations

from pathlib import Path

from kexecdbg.errors import TargetError
from kexecdbg.machine.gdb_remote import GdbRemote
from kexecdbg.qemu.guest_memory import guest_memory
from kexecdbg.trace.recording.log_engine import LogRecorder
from kexecdbg.trace.recording.options import RecordingOptions
from kexecdbg.trace.recording.result import EndReason, RecordingResult
from kexecdbg.trace.recording.start import CPU_IS_HALTED, start_file


class OpenRecording:
    """A recording of the machine behind ``remote``, which is stopped and may run from now on.

    ``remote`` is used while the recording is opened only; :meth:`finish` may be given another connection.

    Raises:
        TargetError: the machine does not answer, is not QEMU's, or has several CPUs running.
        EnvironmentProblem: it cannot be recorded from its log; the message says how it can.
        TraceError: the file exists or cannot be written.
    """

    def __init__(self, remote: GdbRemote, path: Path, options: RecordingOptions) -> None:
        _check_alone(remote)
        start = start_file(remote, path, options)
        self._writer = start.writer
        try:
            self._recorder = LogRecorder(
                start.memory, self._writer, options.limits, options.fold, whole_memory=start.whole_memory
            )
            self._recorder.start(remote.monitor)
        except BaseException:
            self._writer.abandon()
            path.unlink()
            raise

    @property
    def steps(self) -> int:
        """How many steps have been recorded; the log may be ahead of it."""
        return self._writer.steps

    @property
    def reason(self) -> EndReason | None:
        """Why nothing more is recorded, when a limit was reached or the CPU got stuck."""
        return self._recorder.reason

    def finish(self, remote: GdbRemote, reason: EndReason) -> RecordingResult:
        """Switch the log off; the machine is stopped. What is recorded ends where it is now.

        Raises:
            KexecdbgError: the machine does not answer, the log could not be understood, or the trace cannot be written;
                what was recorded until then is in the file.
        """
        try:
            registers = remote.read_registers(remote.register_names)
            memory = guest_memory(remote, registers)
            remarks = self._recorder.finish(remote.monitor, memory, remote.read_core(), registers)
        except BaseException:
            self._writer.abandon()
            raise
        self._writer.close()
        return RecordingResult(self._writer.steps, self.reason or reason, remarks)

    def abandon(self) -> RecordingResult:
        """End without the machine, which is gone: the last instruction's outcome is not known.

        Raises:
            KexecdbgError: the log could not be understood; what was recorded until then is in the file.
        """
        try:
            self._recorder.abandon()
        except BaseException:
            self._writer.abandon()
            raise
        self._writer.close()
        return RecordingResult(self._writer.steps, EndReason.MACHINE_ENDED)


def _check_alone(remote: GdbRemote) -> None:
    running = [thread for thread in remote.threads if thread != remote.thread and not remote.is_halted(thread)]
    if running and remote.is_halted(remote.thread):
        raise TargetError(f"{CPU_IS_HALTED}, and other CPUs run; record one of those")
    if running:
        raise TargetError(
            f"{len(running) + 1} CPUs are running, and QEMU's log does not say which one did what; record with "
            "--engine stepping, which holds the others"
        )
