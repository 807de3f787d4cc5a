"""Records a machine by stepping it through its gdbstub: the full state at each step.

What makes it fast: one packet for the general registers, system registers read only after what can change them, the
record of one step made while the machine executes the next, and the next step asked for together with the registers
where nothing has to be looked at before it.
"""

from __future__ import annotations

import threading
import time

from kexecdbg.arm64.interfaces import PhysicalMemory
from kexecdbg.machine.gdb_remote import MachineEndedError
from kexecdbg.trace.recording.analyses import look_at_end, look_at_switch
from kexecdbg.trace.recording.copies import Piece
from kexecdbg.trace.recording.loop_runner import LoopRunner
from kexecdbg.trace.recording.observer import PC, PSTATE, Core, Record, StepObserver, check_core_names
from kexecdbg.trace.recording.plan import Concern, Plan
from kexecdbg.trace.recording.result import EndReason, Limits, RecordingResult
from kexecdbg.trace.recording.stepped_cpu import SteppedCpu
from kexecdbg.trace.records import ExceptionTaken
from kexecdbg.trace.writer import STEPS_PER_BLOCK, TraceWriter

_STEP_SECONDS = 10.0


class SteppingRecorder:
    """Steps ``cpu`` and writes what happens to ``writer``.

    Args:
        cpu: the CPU, stopped.
        memory: the machine's physical memory.
        writer: a trace that starts with the CPU's present state.
        fold: run simple loops to their end, and record each as one step.
        whole_memory: record all RAM that was ever written, at once.
        stop: when set, by a signal handler or another thread, the recording ends after the present step.
    """

    def __init__(
        self,
        cpu: SteppedCpu,
        memory: PhysicalMemory,
        writer: TraceWriter,
        fold: bool = True,
        whole_memory: bool = False,
        stop: threading.Event | None = None,
    ) -> None:
        check_core_names(cpu.core_names)
        self._cpu = cpu
        self._writer = writer
        self._observer = StepObserver(memory, writer, cpu.read_registers)
        if whole_memory:
            self._observer.seen.see_everything()
        self._loops = LoopRunner(cpu, memory, writer, self._observer) if fold else None
        self._core = cpu.read_core()
        self._pending: Record | None = None
        self._last_exception: tuple[int, ExceptionTaken] | None = None
        self._repeats = 0
        self._remarks: list[str] = []
        self._stop = stop or threading.Event()
        self._limits = Limits()
        self._deadline: float | None = None
        self._is_ahead = False
        """The step from the present state has been started already."""

    def record(self, limits: Limits) -> RecordingResult:
        """Record until one of ``limits`` is reached, the machine ends or the CPU gets stuck.

        Raises:
            TargetError: the stub does not answer; what was recorded until then is in the trace.
            TraceError: the trace cannot be written.
        """
        self._limits = limits
        self._deadline = None if limits.seconds is None else time.monotonic() + limits.seconds
        if self._loops:
            self._loops.stepped_through = limits.until
        self._observer.seen.search()
        look_at_switch(self._observer.state(), self._observer.seen)
        try:
            while (reason := self._end() or self._advance()) is None:
                pass
        except MachineEndedError:
            reason = EndReason.MACHINE_ENDED
        finally:
            self._emit()
        if reason is not EndReason.MACHINE_ENDED:
            self._audit()
            self._observer.seen.search()
            look_at_end(self._observer.state(), self._observer.seen)
        return RecordingResult(self._writer.steps, reason, tuple(self._remarks))

    def _end(self) -> EndReason | None:
        """Why the recording has to end here; a step that was started is taken first."""
        if self._is_ahead:
            return None
        limits, steps = self._limits, self._steps
        if limits.steps is not None and steps >= limits.steps:
            return EndReason.STEPS
        if self._core[PC] in limits.until and steps:
            return EndReason.REACHED
        if self._repeats >= limits.repeats:
            return EndReason.SPINS
        if self._deadline is not None and time.monotonic() >= self._deadline:
            return EndReason.SECONDS
        return EndReason.STOPPED if self._stop.is_set() else None

    @property
    def _steps(self) -> int:
        """How many steps have been made and read."""
        return self._writer.steps + (self._pending is not None)

    def _advance(self) -> EndReason | None:
        """One step, or one folded loop; the reason when the recording has to end."""
        if not self._is_ahead and self._writer.pending_steps >= STEPS_PER_BLOCK - 1:
            self._audit()
        observer, before = self._observer, self._core
        plan = observer.plan(before)
        writes: list[Piece] = []
        if not self._is_ahead:
            loop = self._loops.loop_at(before) if self._loops else None
            if self._loops and loop is not None:
                self._emit()
                self._core = self._loops.run(loop, before, self._deadline)
                return None
            if plan is not None and plan.concerns:
                if plan.concerns & Concern.WAITS:
                    return EndReason.WAITS
                writes = observer.prepare(plan, before)
            self._cpu.start_step()
        self._emit()
        if self._cpu.wait_stop(_STEP_SECONDS).ended:
            return EndReason.MACHINE_ENDED
        self._is_ahead = plan is not None and self._may_go_ahead(plan, before)
        self._core = self._cpu.read_core_and_start_step() if self._is_ahead else self._cpu.read_core()
        self._pending = observer.take(plan, before, self._core, writes)
        exception = self._pending.exception
        if self._pending.loses_track:
            self._emit()  # what memory holds now has to be read before the next instruction changes it
        self._count_repeats(before[PC], exception)
        if self._loops and plan is not None:
            self._loops.stepped(plan, self._core)
        at_rest = self._core == before and plan is not None and plan.successors[:1] == (before[PC],)
        return EndReason.RESTS if at_rest else None

    def _may_go_ahead(self, plan: Plan, before: Core) -> bool:
        """Whether the step after ``plan`` can be started before the registers are read.

        It can when ``plan`` cannot have taken an exception, and nothing has to be looked at before or after any of the
        instructions that it can lead to: those have been decoded under the present translation. No interrupt comes
        between (QEMU gdbstub.c, SSTEP_NOIRQ).
        """
        following = plan.successors
        if plan.concerns or not following or plan.is_loop_end or self._stop.is_set():
            return False
        limits, pstate = self._limits, before[PSTATE]
        if limits.steps is not None and self._steps + 2 > limits.steps:
            return False
        if self._writer.pending_steps >= STEPS_PER_BLOCK - 3:
            return False
        if self._deadline is not None and time.monotonic() >= self._deadline:
            return False
        for pc in following:
            known = self._observer.known_plan(pc, pstate)
            if known is None or known.concerns or pc in limits.until or pc == before[PC]:
                return False
            if self._loops and self._loops.is_head(pc, pstate):
                return False
        return True

    def _count_repeats(self, pc: int, exception: ExceptionTaken | None) -> None:
        if exception is None:
            self._repeats, self._last_exception = 0, None
        elif self._last_exception == (pc, exception):
            self._repeats += 1
        else:
            self._repeats, self._last_exception = 1, (pc, exception)

    def _emit(self) -> None:
        """Write the step that is pending."""
        record, self._pending = self._pending, None
        if record is not None:
            self._writer.step(record.next_pc, record.word, record.changes, record.writes, record.exception)
            if record.loses_track:
                self._observer.lose_track()

    def _audit(self) -> None:
        """Compare all registers with what is believed, while what is believed has not been written yet."""
        self._emit()
        changes = {name: value for name, value in self._observer.changed().items() if value is not None}
        if changes:
            first = self._writer.steps - self._writer.pending_steps
            self._remarks.append(
                f"{', '.join(sorted(changes))} changed without an instruction that writes it; unknown in states "
                f"{first} to {self._writer.steps - 1}"
            )
        self._writer.amend(changes)
