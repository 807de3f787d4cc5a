"""Watchpoints on a trace: which steps touch the watched memory."""

from __future__ import annotations

import enum
import heapq
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kexecdbg.arm64.evaluation.loads_and_stores import LoadStore, load_store
from kexecdbg.arm64.faults import Access
from kexecdbg.errors import MemoryUnreadableError
from kexecdbg.trace.access_addresses import access_addresses
from kexecdbg.trace.reader import Trace
from kexecdbg.trace.search import StepFilter, Steps, find_steps
from kexecdbg.trace.step_block import U64, WORD_KNOWN, StepBlock

_ZERO_REGISTER = 31
"""As an index register; as a base, 31 is SP."""


class WatchKind(enum.Enum):
    """What a watchpoint waits for; the value is what a stop reply calls it (GDB manual, "Stop Reply Packets")."""

    WRITE = "watch"
    READ = "rwatch"
    ACCESS = "awatch"


@dataclass(frozen=True)
class Watchpoint:
    """Watched memory: virtual addresses ``start`` to ``end`` (exclusive)."""

    kind: WatchKind
    start: int
    end: int


@dataclass(frozen=True)
class Span:
    """Steps ``first`` to ``last`` (exclusive), in the order of execution or backwards."""

    first: int
    last: int
    backwards: bool = False

    def parts(self, length: int) -> Iterator[Span]:
        """The span cut into pieces of at most ``length`` steps, in its order; an empty one is one piece."""
        starts = range(self.first, max(self.last, self.first + 1), length)
        for first in reversed(starts) if self.backwards else starts:
            yield Span(first, min(first + length, self.last), self.backwards)


def touching_steps(trace: Trace, watchpoint: Watchpoint, pa: int | None, span: Span) -> Iterator[int]:
    """Numbers of the steps of ``span`` that touch the watched memory, in its order.

    What a folded step read is not recorded; what it wrote shows in the memory before and after it.

    Args:
        pa: where the watched memory is, for folded steps; ``None`` when that cannot be told.

    Raises:
        TraceError: a part of the file is damaged.
    """
    found: list[Iterator[int]] = []
    if watchpoint.kind is not WatchKind.READ:
        wanted = StepFilter(writes_va=[(watchpoint.start, watchpoint.end)])
        found.append(find_steps(trace, wanted, span.first, span.last, span.backwards))
        if pa is not None:
            found.append(_folded_writes(trace, pa, watchpoint.end - watchpoint.start, span))
    if watchpoint.kind is not WatchKind.WRITE:
        found.append(_loads(trace, watchpoint, span))
    return heapq.merge(*found, reverse=span.backwards)


def _folded_writes(trace: Trace, pa: int, size: int, span: Span) -> Iterator[int]:
    for number in find_steps(trace, StepFilter(folded=True), span.first, span.last, span.backwards):
        if _contents(trace, number, pa, size) != _contents(trace, number + 1, pa, size):
            yield number


def _contents(trace: Trace, number: int, pa: int, size: int) -> bytes | None:
    try:
        return trace.memory(number).read(pa, size)
    except MemoryUnreadableError:
        return None


def _loads(trace: Trace, watchpoint: Watchpoint, span: Span) -> Iterator[int]:
    for block in trace.blocks(span.first, span.last, span.backwards):
        steps = block.first + np.flatnonzero(_is_loading(trace, block, watchpoint))
        numbers: list[int] = steps[(steps >= span.first) & (steps < span.last)].tolist()
        yield from reversed(numbers) if span.backwards else numbers


def _is_loading(trace: Trace, block: StepBlock, watchpoint: Watchpoint) -> Steps:
    """Which steps of ``block`` are single loads from the watched memory."""
    hits = np.zeros(block.count, np.bool_)
    is_single = (block.flags & WORD_KNOWN) != 0
    is_single[block.events["step"]] = False
    for word in np.unique(block.words[is_single]).tolist():
        access = load_store(word)
        if access is not None and access.access is Access.READ and not access.prefetch:
            steps = np.flatnonzero(is_single & (block.words == word))
            hits[steps] = _touches(trace, block, steps, access, watchpoint)
    return hits


def _touches(
    trace: Trace, block: StepBlock, steps: npt.NDArray[np.intp], access: LoadStore, watchpoint: Watchpoint
) -> Steps:
    """In which of ``steps`` the address of ``access`` is known and in the watched memory."""
    base, known = _register(trace, block, steps, access.base_name)
    index = None
    if access.index is not None:
        index, index_known = _register(
            trace, block, steps, "XZR" if access.index == _ZERO_REGISTER else f"X{access.index}"
        )
        known = known & index_known
    addresses = access_addresses(access, base, index)
    # Last addresses are compared, so that memory up to 2^64 does not overflow.
    touches: Steps = (addresses <= np.uint64(watchpoint.end - 1)) & (
        addresses + np.uint64(access.total - 1) >= np.uint64(watchpoint.start)
    )
    return known & touches


def _register(trace: Trace, block: StepBlock, steps: npt.NDArray[np.intp], name: str) -> tuple[U64, Steps]:
    """A register's value before each of ``steps``, and whether it is known."""
    everywhere = np.ones(len(steps), np.bool_)
    if name == "PC":
        return block.pcs[:-1][steps], everywhere
    if name == "XZR":
        return np.zeros(len(steps), np.uint64), everywhere
    number = trace.register_number(name)
    if number is None:
        return np.zeros(len(steps), np.uint64), ~everywhere
    values, known = block.register_before_each(number)
    return values[steps], known[steps]
