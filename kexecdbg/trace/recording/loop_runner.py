"""Runs simple loops of a stepped CPU to their end, and records each as one step."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable

from kexecdbg.arm64.faults import Access
from kexecdbg.arm64.interfaces import PhysicalMemory
from kexecdbg.arm64.pstate import el_of
from kexecdbg.arm64.vectors import VectorSource, own_source
from kexecdbg.errors import TargetError
from kexecdbg.machine.gdb_remote import MachineEndedError
from kexecdbg.trace.recording.copies import Piece, events_of
from kexecdbg.trace.recording.core_registers import GENERAL
from kexecdbg.trace.recording.exceptions import exception_between
from kexecdbg.trace.recording.loops import Loop, Touched, can_measure, find_loop, measure
from kexecdbg.trace.recording.observer import EL_BITS, PC, PSTATE, Core, StepObserver
from kexecdbg.trace.recording.plan import Plan
from kexecdbg.trace.recording.stepped_cpu import SteppedCpu
from kexecdbg.trace.records import Event, EventKind
from kexecdbg.trace.step_block import PAGE_SIZE
from kexecdbg.trace.writer import TraceWriter

_SECONDS = 60.0
_ROUNDS_BEFORE = 2
"""Rounds that are stepped before a loop is known for one."""
_MOST_TOUCHED = 1 << 30
"""Bytes that a loop may touch, at most; it is taken as not understood otherwise."""


class LoopRunner:
    """Finds loops while the CPU is stepped, and runs them.

    Attributes:
        stepped_through: addresses that a loop must not run over: somebody waits for them.
    """

    def __init__(self, cpu: SteppedCpu, memory: PhysicalMemory, writer: TraceWriter, observer: StepObserver) -> None:
        self._cpu = cpu
        self._memory = memory
        self._writer = writer
        self._observer = observer
        self._loops: dict[tuple[int, int], Loop] = {}
        self._unfoldable: set[int] = set()
        self.stepped_through: Collection[int] = ()
        self._code = observer.changes_of_code
        self._end: tuple[int, int] | None = None
        self._rounds = 0

    def stepped(self, plan: Plan, core: Core) -> None:
        """The CPU has executed ``plan`` and come to ``core``; loops are found by their branches back."""
        if self._code != self._observer.changes_of_code:
            self._code = self._observer.changes_of_code
            self._loops.clear()
            self._unfoldable.clear()
        if not plan.is_loop_end:
            return
        end = (plan.instruction.address, core[PC])
        self._rounds = self._rounds + 1 if end == self._end and end[1] <= end[0] else 0
        self._end = end
        if self._rounds >= _ROUNDS_BEFORE:
            self._rounds = 0
            self._remember(plan, core)

    def _remember(self, end: Plan, core: Core) -> None:
        """Keep the loop that starts at the PC, if it is one to fold: from now on it is, from its first round."""
        if end.instruction.address in self._unfoldable:
            return
        observer = self._observer
        loop = find_loop(lambda pc: observer.known_plan(pc, core[PSTATE]), end, observer.block_size)
        if loop is None or any(loop.head <= address < loop.exit for address in self.stepped_through):
            self._unfoldable.add(end.instruction.address)
        else:
            self._loops[core[PC], core[PSTATE] & EL_BITS] = loop

    def is_head(self, pc: int, pstate: int) -> bool:
        """Whether a loop that may be run starts at ``pc``."""
        return (pc, pstate & EL_BITS) in self._loops

    def loop_at(self, core: Core) -> Loop | None:
        """The loop to run that starts at the PC, if there is one."""
        loop = self._loops.get((core[PC], core[PSTATE] & EL_BITS)) if self._loops else None
        if loop is None or not can_measure(loop, self._observer.core_registers(core)):
            return None
        return loop

    def run(self, loop: Loop, before: Core, deadline: float | None) -> Core:
        """Run ``loop`` to its end and record it; where the CPU is then.

        Raises:
            MachineEndedError: the machine ended in it.
        """
        observer = self._observer
        remaining = _SECONDS if deadline is None else max(0.1, deadline - time.monotonic())
        try:
            self._cpu.run_to({loop.exit, *self._vectors(before[PSTATE])}, remaining)
        except MachineEndedError:
            raise
        except TargetError:
            pass  # the time was up, or something else stopped it: wherever it is now, the record says so
        registers = observer.core_registers(before)
        after = self._cpu.read_core()
        rounds = measure(loop, registers, after[:GENERAL]) if after[PC] == loop.exit else None
        if rounds is None or sum(each.end - each.start for each in rounds.touched) > _MOST_TOUCHED:
            self._take_unfollowed(loop, before, after)
            return after
        pstate = before[PSTATE]
        reads, writes = (self._touched(rounds.touched, access, pstate) for access in (Access.READ, Access.WRITE))
        events = events_of(rounds, len(loop.plans), reads, writes, self._memory)
        self._writer.step(after[PC], loop.plans[0].word, observer.update(before, after), events=events)
        for _, pa, _ in writes:
            observer.seen.see_written(pa)
            observer.memory_written(pa)
        for _, pa, _ in reads:
            observer.seen.see(pa)
        return after

    def _vectors(self, pstate: int) -> list[int]:
        """Where an exception of the loop would go: from this level to itself, and to EL2."""
        el = el_of(pstate)
        sources = {el: own_source(pstate), **dict.fromkeys(range(el + 1, 3), VectorSource.LOWER_EL)}
        bases = {level: self._observer.values.get(f"VBAR_EL{level}") for level in sources}
        return [base + sources[level] for level, base in bases.items() if base is not None]

    def _touched(self, touched: Iterable[Touched], access: Access, pstate: int) -> list[Piece]:
        """The pages that a loop touched."""
        pages = {
            page
            for each in touched
            if each.access is access
            for page in range(each.start & -PAGE_SIZE, each.end, PAGE_SIZE)
        }
        observer = self._observer
        return [
            piece
            for page in sorted(pages)
            for piece in observer.spaces.pieces(observer.values, pstate, page, PAGE_SIZE, access)
        ]

    def _take_unfollowed(self, loop: Loop, before: Core, after: Core) -> None:
        """The loop was left, and what it did cannot be told: the state now is all that is recorded."""
        observer = self._observer
        changes = {**observer.update(before, after), **observer.changed()}
        from_el, to_el = el_of(before[PSTATE]), el_of(after[PSTATE])
        addresses = [plan.instruction.address for plan in loop.plans]
        exception = exception_between(from_el, addresses, observer.values, after[PC], to_el)
        self._writer.step(after[PC], loop.plans[0].word, changes, exception=exception, events=(Event(EventKind.RAN),))
        observer.lose_track()
