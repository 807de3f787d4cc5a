"""Makes a trace of the states that QEMU logged: instructions decoded, memory and system registers worked out.

The log has the general registers, SP, PC and PSTATE before each instruction, and each exception. Everything else
follows from decoding: what was stored and where, and what the system registers are, starting from the values that the
machine had when the recording began.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kexecdbg.arm64.interfaces import PhysicalMemory
from kexecdbg.machine.state import CpuState
from kexecdbg.qemu.cpu_log import LoggedStates
from kexecdbg.qemu.exception_log import LoggedException
from kexecdbg.trace.recording.analyses import look_at_end
from kexecdbg.trace.recording.log.execution import Execution
from kexecdbg.trace.recording.log.folding import LoopFolder
from kexecdbg.trace.recording.log.interruptions import Interruptions
from kexecdbg.trace.recording.log.memory import LoggedMemory
from kexecdbg.trace.recording.log.present import Present
from kexecdbg.trace.recording.log.rounds import find_loops, goes_on_from
from kexecdbg.trace.recording.log.snapshot import RamSnapshot
from kexecdbg.trace.recording.log.states import (
    COLUMN_NAMES,
    States,
    one_state,
    state_of_core,
    without_repetitions,
)
from kexecdbg.trace.writer import TraceWriter

_SHOWN = 3
_MOST_HELD = 1 << 14
"""States of a loop that are kept to wait for its end, at most: a page copied byte by byte."""


class LogReconstruction:
    """Turns logged states into steps of ``writer``.

    Attributes:
        memory: physical memory in the state that the trace has come to.
        repeats: how often the last exception was taken, one time right after the other.
        idle: how many states, to the last, were the same: the CPU rests in a branch to itself.

    Args:
        writer: a trace that starts with the machine's state when the log was switched on.
        snapshot: memory as it was then.
        most_repeats: how many identical exceptions, one after another, are recorded; a CPU that spins in its vectors
            takes a hundred thousand a second.
        fold: record loops that go round many times as one step.
        most_steps: how many steps are recorded; what comes after them is left out.
    """

    def __init__(
        self,
        writer: TraceWriter,
        snapshot: RamSnapshot,
        most_repeats: int,
        fold: bool,
        most_steps: int | None = None,
    ) -> None:
        self.memory = LoggedMemory(snapshot, writer)
        self.repeats = 0
        self.idle = 0
        self._present = Present(writer, self.memory, most_steps)
        self._execution = Execution(self._present)
        self._loops = LoopFolder(self._present, self._execution)
        self._interruptions = Interruptions(self._present, self._execution)
        self._fold = fold
        self._most_repeats = most_repeats
        self._last_exception: LoggedException | None = None
        self._waiting: list[LoggedException] = []
        self._last = one_state(self._present.values)
        self._execution.look_at_switch(self._last)

    @property
    def is_full(self) -> bool:
        """Whether as many steps have been recorded as were asked for."""
        return not self._present.room

    def take(self, logged: LoggedStates, more_comes: bool) -> None:
        """Work out the steps up to the last of these states, or to a loop that they end in the middle of.

        Args:
            logged: the states that follow those taken before.
            more_comes: whether to wait for the end of such a loop, so that it is recorded as one step.
        """
        held = self._last.steps
        states = self._last.followed_by(logged)
        gaps: dict[int, list[LoggedException]] = {held: self._waiting} if self._waiting else {}
        for place, exception in logged.exceptions:
            self.repeats = self.repeats + 1 if exception == self._last_exception else 1
            self._last_exception = exception
            if self.repeats <= self._most_repeats:
                gaps.setdefault(held + place, []).append(exception)
        # Where exceptions at the end lead to is not known before the next state comes.
        self._waiting = gaps.pop(states.steps, [])
        start = 0
        for place, exceptions in gaps.items():
            self._run(states.part(start, place))
            self._interruptions.take(states.part(place, place), exceptions, states.part(place + 1, place + 1))
            start = place + 1
        self._last = self._run(states.part(start, states.steps), more_comes and not self._waiting)

    def _run(self, states: States, more_comes: bool = False) -> States:
        """Work out what ran without exceptions; from which of the states on it was not."""
        states, repetitions = without_repetitions(states)
        self.idle = repetitions if states.steps else self.idle + repetitions
        rest = states.part(states.steps, states.steps)
        if self._fold and more_comes and not repetitions:
            end = goes_on_from(states)
            if states.steps - end <= _MOST_HELD:
                states, rest = states.part(0, end), states.part(end, states.steps)
        done = 0
        for loop in find_loops(states) if self._fold else ():
            self._execution.take(states.part(done, loop.first))
            rounds = states.part(loop.first, loop.last)
            if not self._loops.take(loop, rounds):
                self._execution.take(rounds)
            done = loop.last
        self._execution.take(states.part(done, states.steps))
        return rest

    def finish(self, core: Sequence[int], system: Mapping[str, int], memory: PhysicalMemory) -> tuple[str, ...]:
        """The machine has stopped: the last step ends there.

        Args:
            core: its X0 to X30, SP, PC and PSTATE.
            system: its other registers, which are compared with what was worked out.
            memory: its memory, which is compared too.

        Returns: what is not in the trace, as sentences.
        """
        final = state_of_core(core)
        if self._waiting:
            self._interruptions.take(self._last, self._waiting, final)
            self._waiting = []
        else:
            self._run(self._last.followed_by(final))
        self._last = final
        remarks = [*self._compare_registers(system), *self._compare_memory(memory)]
        self.memory.search(memory)
        look_at_end(self._present.state(final), self.memory)
        return tuple(remarks)

    def finish_early(self) -> None:
        """No more steps are wanted than there are; the machine may have gone on."""
        look_at_end(CpuState(self._present.writer.values()), self.memory)

    def _compare_registers(self, system: Mapping[str, int]) -> list[str]:
        believed = self._present.values
        real = {
            name: value
            for name, value in system.items()
            if self._present.records(name) and name not in (*COLUMN_NAMES, "PC", "PSTATE")
        }
        different = {name: value for name, value in real.items() if believed.get(name) != value}
        wrong = [f"{name} {value:#x}" for name, value in sorted(different.items()) if name in believed]
        believed.update(real)
        self._present.writer.amend(different)
        return [f"not what instructions wrote, since when is not known: {', '.join(wrong)}"] if wrong else []

    def _compare_memory(self, memory: PhysicalMemory) -> list[str]:
        different = self.memory.compare(memory)
        if not different:
            return []
        shown = ", ".join(f"{page:#x}" for page in different[:_SHOWN]) + (", ..." if len(different) > _SHOWN else "")
        stores = self._present.unknown_stores
        how = f"{stores} stores of which the log does not show where or what" if stores else "a device, or the debugger"
        return [f"{len(different)} pages changed by {how}, and are not known before the end: {shown}"]
