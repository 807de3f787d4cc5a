"""Records a machine from QEMU's own log while it runs at the log's speed."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence

from kexecdbg.arm64.interfaces import PhysicalMemory
from kexecdbg.qemu.cpu_log import CpuLogParser, LoggedStates
from kexecdbg.qemu.cpu_log_window import CpuLogWindow, Monitor
from kexecdbg.trace.recording.log.reconstruction import LogReconstruction
from kexecdbg.trace.recording.log.snapshot import RamSnapshot
from kexecdbg.trace.recording.result import EndReason, Limits
from kexecdbg.trace.writer import TraceWriter

_AT_REST = 10_000
"""States without any change, after which the CPU counts as resting."""
_LOOK = 0.05
"""Seconds between looks at whether the recording has to end."""


class LogRecorder:
    """Writes what QEMU logs to ``writer``, from :meth:`start` to :meth:`finish`; somebody else runs the machine.

    Args:
        memory: the machine's physical memory; it is read now only.
        writer: a trace that starts with the CPU's present state.
        limits: of these, ``steps`` and ``repeats`` are looked at: :attr:`reason` says when one is reached.
        fold: record loops that go round many times as one step.
        whole_memory: record all RAM that was ever written.
    """

    def __init__(
        self,
        memory: PhysicalMemory,
        writer: TraceWriter,
        limits: Limits,
        fold: bool = True,
        whole_memory: bool = False,
    ) -> None:
        self.reason: EndReason | None = None
        self._writer = writer
        self._limits = limits
        self._reconstruction = LogReconstruction(
            writer, RamSnapshot(memory, writer.pc), limits.repeats, fold, limits.steps
        )
        self._reconstruction.memory.search(memory)
        if whole_memory:
            self._reconstruction.memory.see_everything()
        self._window = CpuLogWindow()
        self._thread = threading.Thread(target=self._consume, name="log", daemon=True)
        self._failure: BaseException | None = None

    def start(self, monitor: Monitor) -> None:
        """Switch the log on with QEMU's ``monitor``; the machine is stopped and may run from now on.

        Raises:
            TargetError: QEMU does not log.
        """
        self._window.open(monitor)
        self._thread.start()

    def _consume(self) -> None:
        parser = CpuLogParser()
        while data := self._window.read():
            self._take(parser, data, at_end=False)
        self._take(parser, b"", at_end=True)

    def _take(self, parser: CpuLogParser, data: bytes, at_end: bool) -> None:
        # At its end, or after a failure, the log is read on and dropped: QEMU would wait for ever for a reader.
        if self.reason is not None:
            return
        try:
            self._reconstruct(parser.feed(data, at_end), at_end)
        except BaseException as error:
            self._failure = error
            self.reason = EndReason.STOPPED

    def _reconstruct(self, states: LoggedStates, at_end: bool) -> None:
        self._reconstruction.take(states, more_comes=not at_end)
        if self._reconstruction.is_full:
            self.reason = EndReason.STEPS
        elif self._reconstruction.repeats >= self._limits.repeats:
            self.reason = EndReason.SPINS
        elif self._reconstruction.idle >= _AT_REST:
            self.reason = EndReason.RESTS

    def finish(
        self, monitor: Monitor, memory: PhysicalMemory, core: Sequence[int], system: Mapping[str, int]
    ) -> tuple[str, ...]:
        """Switch the log off; the machine is stopped, with this memory and these registers.

        Returns: what is missing, as sentences.

        Raises:
            KexecdbgError: the log could not be understood; what came before is in the trace.
        """
        self._window.close(monitor)
        self._end_reading()
        if self.reason is EndReason.STEPS:
            self._reconstruction.finish_early()
            return ()
        return self._reconstruction.finish(core, system, memory)

    def abandon(self) -> None:
        """End without the machine, which is gone: the last instruction's outcome is not known."""
        self._window.abandon()
        self._end_reading()

    def _end_reading(self) -> None:
        self._thread.join()
        self._window.release()
        if self._failure is not None:
            raise self._failure
