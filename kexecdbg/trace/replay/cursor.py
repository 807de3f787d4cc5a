"""A place in a trace that is moved as a debugger moves a machine, forwards and backwards."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from kexecdbg.arm64.bits import mask
from kexecdbg.arm64.evaluation import TranslatedMemory
from kexecdbg.arm64.faults import Access
from kexecdbg.errors import MemoryUnreadableError, TraceError
from kexecdbg.machine.memory_map import RegionKind
from kexecdbg.machine.state import CpuState
from kexecdbg.machine.word_search import FoundWords, WordPattern
from kexecdbg.trace.reader import Trace
from kexecdbg.trace.replay.faults import first_fault
from kexecdbg.trace.replay.watchpoints import Span, Watchpoint, touching_steps
from kexecdbg.trace.search import StepFilter, find_steps
from kexecdbg.trace.step_block import PAGE_SIZE

STEPS_AT_ONCE = 1 << 18
"""Of a long run, between looks at whether somebody wants it to end; a part of a second."""
_MOST_DIGITS = 20
"""Of a state's number; it has 64 bits."""

Watched = Mapping[Watchpoint, int | None]
"""Watchpoints, and the physical address of their memory; ``None`` where it cannot be told."""


class StopReason(enum.Enum):
    """Why a move ended."""

    MOVED = "one step was made, or a breakpoint was reached"
    WATCHPOINT = "watched memory is touched"
    BEGIN = "the trace begins here"
    END = "the trace ends here"
    INTERRUPTED = "somebody asked for it"


@dataclass(frozen=True)
class Stop:
    """The end of a move; ``watchpoint`` is the one that ended it."""

    reason: StopReason
    watchpoint: Watchpoint | None = None


class Cursor:
    """A state of a trace, and the breakpoints and watchpoints that moves from it stop at.

    A watchpoint stops the move on the near side of the step that touches the memory: GDB takes AArch64's watchpoints
    for such that trigger before the access, and makes that step by itself (gdbarch's have_nonsteppable_watchpoint).

    Attributes:
        trace: the trace.
        number: the state, 0 to ``trace.steps``.
        state: its registers.
        breakpoints: virtual addresses of instructions.
        watchpoints: watched memory.
        is_interrupted: asked during a long run; it ends when the answer is true.
    """

    def __init__(self, trace: Trace, number: int = 0, is_interrupted: Callable[[], bool] = lambda: False) -> None:
        self.trace = trace
        self.is_interrupted = is_interrupted
        self.breakpoints: set[int] = set()
        self.watchpoints: set[Watchpoint] = set()
        self.go(number)

    def go(self, number: int) -> None:
        """Go to state ``number``.

        Raises:
            TraceError: there is no such state; the cursor stays where it is.
        """
        self.state: CpuState = self.trace.state(number)
        self.number = number
        self._memory = self.trace.memory(number)
        self._search: tuple[tuple[WordPattern, ...], FoundWords | None] | None = None
        self._translated = TranslatedMemory(self._memory)

    # What is there

    def read_physical(self, address: int, size: int) -> bytes:
        """Exactly ``size`` bytes, or a whole device register, from physical ``address``.

        Raises:
            MemoryUnreadableError: it was not recorded.
        """
        region = self._memory.memory_map.find(address)
        if region is not None and region.kind is RegionKind.DEVICE:
            return self._memory.read_device_register(address, size).to_bytes(size, "little")
        return self._memory.read(address, size)

    def read_virtual(self, address: int, size: int) -> bytes:
        """Exactly ``size`` bytes from virtual ``address``, as a load at the present exception level finds them.

        Raises:
            MemoryUnreadableError: it does not translate, or was not recorded.
        """
        data = bytearray()
        while len(data) < size:
            va = (address + len(data)) & mask(64)
            length = min(PAGE_SIZE - va % PAGE_SIZE, size - len(data))
            pa = self.physical(va)
            if pa is None:
                raise MemoryUnreadableError(address, size, f"virtual {va:#x} does not translate (state {self.number})")
            data += self._memory.read(pa, length)
        return bytes(data)

    def find_words(self, patterns: tuple[WordPattern, ...]) -> FoundWords | None:
        """Every word of one of ``patterns`` in all memory; ``None`` where that is not known."""
        if self._search is None or self._search[0] != patterns:
            self._search = patterns, self._memory.find_words(patterns)
        return self._search[1]

    def physical(self, va: int) -> int | None:
        """Where a load from ``va`` goes; ``None`` where it faults or cannot be told."""
        try:
            return self._translated.locate(self.state, va, Access.READ).pa
        except MemoryUnreadableError:
            return None

    # Moves

    def step(self) -> Stop:
        """Go one step forwards."""
        return self._one_step(1)

    def step_back(self) -> Stop:
        """Go one step backwards."""
        return self._one_step(-1)

    def run(self) -> Stop:
        """Go forwards to the next breakpoint or watchpoint, or to the end."""
        return self._run(Span(self.number, self.trace.steps))

    def run_back(self) -> Stop:
        """Go backwards to the last breakpoint or watchpoint, or to the beginning."""
        return self._run(Span(0, self.number, backwards=True))

    def _one_step(self, direction: int) -> Stop:
        step = self.number if direction > 0 else self.number - 1
        if not 0 <= step < self.trace.steps:
            return Stop(StopReason.END if direction > 0 else StopReason.BEGIN)
        touched = self._touched(Span(step, step + 1), self._watched())
        if touched is not None:
            return Stop(StopReason.WATCHPOINT, touched[1])
        self.go(self.number + direction)
        return Stop(StopReason.MOVED)

    def _run(self, span: Span) -> Stop:
        watched = self._watched()
        for part in span.parts(STEPS_AT_ONCE):
            stop = self._run_part(part, watched)
            if stop is not None:
                return stop
            self.go(part.first if span.backwards else part.last)
            if self.is_interrupted():
                return Stop(StopReason.INTERRUPTED)
        return Stop(StopReason.BEGIN if span.backwards else StopReason.END)

    def _run_part(self, span: Span, watched: Watched) -> Stop | None:
        """Go to the first place in ``span`` that the run has to stop at; ``None``, and nowhere, when there is none."""
        reached = self._next_breakpoint(span)
        touched = self._touched(span, watched)
        if touched is not None:
            step, watchpoint = touched
            before_access = step + 1 if span.backwards else step
            if reached is None or (reached < before_access if span.backwards else before_access < reached):
                self.go(before_access)
                return Stop(StopReason.WATCHPOINT, watchpoint)
        if reached is not None:
            self.go(reached)
            return Stop(StopReason.MOVED)
        return None

    def _next_breakpoint(self, span: Span) -> int | None:
        """The next state of ``span``, the one that it starts from left out, that is at a breakpoint."""
        if not self.breakpoints:
            return None
        first, last = (span.first, span.last) if span.backwards else (span.first + 1, span.last + 1)
        wanted = StepFilter(pcs=self.breakpoints)
        found = next(find_steps(self.trace, wanted, first, last, span.backwards), None)
        if found is None and not span.backwards and span.first < span.last == self.trace.steps:
            # No step starts from the last state.
            return span.last if self.trace.state(span.last).get("PC") in self.breakpoints else None
        return found

    def _watched(self) -> Watched:
        """The watchpoints, and where their memory is as the present state translates; one answer for a whole move."""
        return {watchpoint: self.physical(watchpoint.start) for watchpoint in self.watchpoints}

    def _touched(self, span: Span, watched: Watched) -> tuple[int, Watchpoint] | None:
        """The next step of ``span`` that touches watched memory."""
        found: list[tuple[int, Watchpoint]] = []
        for watchpoint, pa in watched.items():
            step = next(touching_steps(self.trace, watchpoint, pa, span), None)
            if step is not None:
                found.append((step, watchpoint))
        if not found:
            return None
        return (max if span.backwards else min)(found, key=lambda each: each[0])


def state_named(trace: Trace, place: str) -> int:
    """The number of the state that ``place`` names: a number, ``begin``, ``end`` or ``first-fault``.

    Raises:
        TraceError: there is no such state.
    """
    if place == "first-fault":
        number = first_fault(trace)
        if number is None:
            raise TraceError(f"{trace.path.name}: no fault was recorded")
        return number
    named = {"begin": 0, "end": trace.steps}
    is_number = place.isascii() and place.isdigit() and len(place) <= _MOST_DIGITS
    number = int(place) if is_number else named.get(place)
    if number is None or number > trace.steps:
        what = f"{place}: no state of this trace" if place else "no state is given"
        raise TraceError(f"{what}; give 0 to {trace.steps}, begin, end or first-fault")
    return number
