"""Records the machine behind a gdbstub, with either engine."""

from __future__ import annotations

import enum
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from kexecdbg.errors import KexecdbgError, TargetError
from kexecdbg.machine.gdb_remote import GdbRemote, MachineEndedError
from kexecdbg.machine.memory import WritablePhysicalMemory
from kexecdbg.machine.memory_map import MemoryMap, memory_map_of
from kexecdbg.qemu.guest_memory import guest_memory
from kexecdbg.trace.recording.describe import describe
from kexecdbg.trace.recording.log_engine import LogRecorder
from kexecdbg.trace.recording.result import EndReason, Limits, RecordingResult
from kexecdbg.trace.recording.seen_memory import populated_size
from kexecdbg.trace.recording.stepping import SteppingRecorder
from kexecdbg.trace.writer import TraceWriter

SMALL_MEMORY = 64 << 20
"""Bytes of RAM ever written up to which all of it is recorded when nothing else is asked for."""
_LOOK = 0.02
"""Seconds between looks at whether a running machine has to be stopped."""


class Engine(enum.Enum):
    """How a machine is recorded."""

    STEPPING = "stepping"
    """Each instruction is stepped through the gdbstub: thousands a second, on any machine."""
    LOG = "log"
    """QEMU logs each instruction: a hundred thousand a second, on one CPU, with guest RAM in a shared file."""


@dataclass(frozen=True)
class RecordingOptions:
    """How to record.

    Attributes:
        engine: by stepping or from the log.
        limits: when to end.
        fold: run simple loops to their end and record each as one step.
        whole_memory: record all RAM that was ever written; ``None`` for when that is not more than
            :data:`SMALL_MEMORY`.
        command_line: QEMU's, for the header.
        symbol_file: the guest's ELF file, for its build id.
    """

    engine: Engine = Engine.LOG
    limits: Limits = field(default_factory=Limits)
    fold: bool = True
    whole_memory: bool | None = None
    command_line: tuple[str, ...] = ()
    symbol_file: Path | None = None


class Recording:
    """One recording of the CPU behind ``remote``, which is stopped, into a new file.

    >>> with GdbRemote("localhost:1234") as remote:                                     # doctest: +SKIP
    ...     result = Recording(remote, Path("freeze.kxt"), RecordingOptions()).run()

    Raises:
        TargetError: the machine does not answer, or is not QEMU's.
        EnvironmentProblem: the engine cannot record this machine; the message says what can.
    """

    def __init__(self, remote: GdbRemote, path: Path, options: RecordingOptions) -> None:
        self._remote = remote
        self._path = path
        self._options = options
        self._registers = remote.read_registers(remote.register_names)
        self._memory: WritablePhysicalMemory = guest_memory(remote, self._registers)
        self._whole = options.whole_memory
        if self._whole is None:
            size = populated_size(self._memory)
            self._whole = size is not None and size <= SMALL_MEMORY
        self._stop_asked = threading.Event()
        self._stepping: SteppingRecorder | None = None

    def stop(self) -> None:
        """Ask the recording to end soon; for signal handlers and other threads."""
        self._stop_asked.set()
        if self._stepping is not None:
            self._stepping.stop()

    def run(self) -> RecordingResult:
        """Record until a limit is reached, the machine ends or the CPU gets stuck.

        Raises:
            KexecdbgError: the machine stopped answering, or the trace cannot be written; what was recorded until then
                is in the file.
        """
        header = describe(
            self._remote,
            self._remote.description,
            memory_map_of(self._memory) or MemoryMap(()),
            engine=self._options.engine.value,
            whole_memory=bool(self._whole),
            command_line=self._options.command_line,
            symbol_file=self._options.symbol_file,
        )
        state = {name: value for name, value in self._registers.items() if name in header.registers}
        with TraceWriter(self._path, header, state) as writer:
            if self._options.engine is Engine.LOG:
                return self._from_log(writer)
            self._stepping = SteppingRecorder(
                self._remote, self._memory, writer, self._options.fold, whole_memory=bool(self._whole)
            )
            if self._stop_asked.is_set():
                self._stepping.stop()
            return self._stepping.record(self._options.limits)

    # The log

    def _from_log(self, writer: TraceWriter) -> RecordingResult:
        self._check_alone()
        limits = self._options.limits
        for address in limits.until:
            self._remote.set_breakpoint(address)
        recorder = LogRecorder(
            self._remote, self._memory, writer, limits, self._options.fold, whole_memory=bool(self._whole)
        )
        recorder.start()
        try:
            reason = self._let_run(recorder, limits)
            for address in limits.until:
                self._remote.remove_breakpoint(address)
            remarks = recorder.finish(
                self._remote.read_core(), self._remote.read_registers(self._remote.register_names)
            )
        except MachineEndedError:
            recorder.abandon()
            return RecordingResult(writer.steps, EndReason.MACHINE_ENDED)
        except KexecdbgError:
            recorder.abandon()
            raise
        return RecordingResult(writer.steps, recorder.reason or reason, remarks)

    def _check_alone(self) -> None:
        running = [
            thread
            for thread in self._remote.threads
            if thread != self._remote.thread and not self._remote.is_halted(thread)
        ]
        if running:
            raise TargetError(
                f"{len(running) + 1} CPUs are running, and QEMU's log does not say which one did what; record with "
                "--engine stepping, which holds the others"
            )

    def _let_run(self, recorder: LogRecorder, limits: Limits) -> EndReason:
        """Run the machine until a limit is reached or it stops; why it stopped."""
        deadline = None if limits.seconds is None else time.monotonic() + limits.seconds
        self._remote.start()
        while (reply := self._remote.poll_stop(_LOOK)) is None:
            if recorder.reason is None and not self._stop_asked.is_set():
                if deadline is None or time.monotonic() < deadline:
                    continue
                reason = EndReason.SECONDS
            else:
                reason = EndReason.STOPPED
            if self._remote.interrupt().ended:
                raise MachineEndedError("vCont;c", None, "the machine has ended")
            return reason
        if reply.ended:
            raise MachineEndedError("vCont;c", None, "the machine has ended")
        return EndReason.REACHED if limits.until else EndReason.STOPPED
