"""Watchpoints on a trace: which steps touch the watched memory."""

from __future__ import annotations

import enum
import heapq
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from kexecdbg.arm64.evaluation.loads_and_stores import load_store
from kexecdbg.arm64.evaluation.registers import EvaluatedRegisters
from kexecdbg.arm64.faults import Access
from kexecdbg.errors import MemoryUnreadableError
from kexecdbg.trace.reader import Trace
from kexecdbg.trace.search import StepFilter, find_steps
from kexecdbg.trace.step_block import WORD_KNOWN, StepBlock


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
        steps = _load_steps(block)
        for step in reversed(steps) if span.backwards else steps:
            number = block.first + step
            if span.first <= number < span.last and _loads_from(trace, number, int(block.words[step]), watchpoint):
                yield number


def _load_steps(block: StepBlock) -> list[int]:
    """The steps of ``block``, counted in it, that are single loads."""
    loads = [word for word in np.unique(block.words).tolist() if _is_load(word)]
    is_single = (block.flags & WORD_KNOWN) != 0
    is_single[block.events["step"]] = False
    steps: list[int] = np.flatnonzero(is_single & np.isin(block.words, np.array(loads, np.uint32))).tolist()
    return steps


def _is_load(word: int) -> bool:
    access = load_store(word)
    return access is not None and access.access is Access.READ and not access.prefetch


def _loads_from(trace: Trace, number: int, word: int, watchpoint: Watchpoint) -> bool:
    access = load_store(word)
    state = trace.state(number)
    address = None if access is None else access.address(EvaluatedRegisters(state), state.get("PC") or 0)
    if access is None or address is None:
        return False
    return address < watchpoint.end and watchpoint.start < address + access.total
