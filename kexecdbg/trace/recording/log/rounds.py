"""Finds loops that go round many times in logged states, by their addresses alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kexecdbg.arm64.instructions import INSTRUCTION_SIZE
from kexecdbg.trace.recording.log.states import States, Steps
from kexecdbg.trace.step_block import U64

_LONGEST = 64 * INSTRUCTION_SIZE
_FEWEST = 8
"""Rounds that make it worth to fold a loop."""


@dataclass(frozen=True)
class LoggedLoop:
    """A loop of straight-line code in logged states.

    Attributes:
        first, last: its steps, ``last`` exclusive; whole rounds.
        head, end: addresses of its first instruction and of the branch back.
    """

    first: int
    last: int
    head: int
    end: int

    @property
    def length(self) -> int:
        """Instructions in one round."""
        return (self.end - self.head) // INSTRUCTION_SIZE + 1

    @property
    def rounds(self) -> int:
        """How often it goes round."""
        return (self.last - self.first) // self.length


def find_loops(states: States) -> Iterator[LoggedLoop]:
    """The loops in ``states``, ascending; none overlaps another."""
    branches = _branches_back(states)
    # Straight from one branch back to the next, at the same address: one more round of the same loop.
    again = branches.again
    edges = np.flatnonzero(np.diff(np.concatenate(([False], again, [False])).astype(np.int8)))
    done = 0
    for start, stop in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        if stop - start >= _FEWEST:
            loop = branches.loop(states, start, stop, done)
            done = loop.last
            yield loop


def goes_on_from(states: States) -> int:
    """The step at which a loop begins that ``states`` may end in the middle of, if only in its first round."""
    branches = _branches_back(states)
    if not len(branches.steps):
        return _straight_from(states)
    last = len(branches.steps) - 1
    follows = states.pcs[branches.steps[last] + 1 :]
    if len(follows) > branches.lengths[last] or not np.array_equal(
        follows, _line(int(branches.heads[last]), len(follows))
    ):
        # Its last round, whose branch is not taken, belongs to the loop that has just ended.
        return min(states.steps, max(_straight_from(states), int(branches.steps[last] + 1 + branches.lengths[last])))
    others = np.flatnonzero(~branches.again)
    first = int(others[-1]) + 1 if len(others) else 0
    return branches.loop(states, first, last, 0).first


def _straight_from(states: States) -> int:
    """The step at which the straight-line code begins that ``states`` end in, as far back as a loop can begin."""
    latest = states.pcs[-_LONGEST // INSTRUCTION_SIZE :]
    jumps = np.flatnonzero(np.diff(latest) != np.uint64(INSTRUCTION_SIZE))
    length = len(latest) - 1 - (int(jumps[-1]) + 1 if len(jumps) else 0)
    return states.steps - length


@dataclass(frozen=True)
class _Branches:
    """The branches back, a short way, in some states: parallel columns.

    Attributes:
        steps: the steps that are such branches, ascending.
        ends, heads: where each is, and where it goes.
        lengths: instructions from its head to its end.
    """

    steps: Steps
    ends: U64
    heads: U64
    lengths: npt.NDArray[np.int64]

    @property
    def again(self) -> npt.NDArray[np.bool_]:
        """For each but the first: whether it closes one more round of the loop that the one before it closes."""
        same = (self.ends[1:] == self.ends[:-1]) & (self.heads[1:] == self.heads[:-1])
        once_more: npt.NDArray[np.bool_] = same & (np.diff(self.steps) == self.lengths[1:])
        return once_more

    def loop(self, states: States, start: int, stop: int, done: int) -> LoggedLoop:
        """The loop that branches ``start`` to ``stop`` (inclusive) close, none of its steps before step ``done``.

        With the round that the first of them ends, when that starts at the head, and with the last round, whose branch
        is not taken: a page that is copied is not recorded as it is in between, which no other page is.
        """
        head, end = int(self.heads[start]), int(self.ends[start])
        length = int(self.lengths[start])
        first, last = int(self.steps[start]) + 1, int(self.steps[stop]) + 1
        if first - length >= done and np.array_equal(states.pcs[first - length : first], _line(head, length)):
            first -= length
        if np.array_equal(states.pcs[last : last + length + 1], _line(head, length + 1)):
            last += length
        return LoggedLoop(first, last, head, end)


def _branches_back(states: States) -> _Branches:
    before, after = states.pcs[:-1], states.pcs[1:]
    steps = np.flatnonzero((after <= before) & (before - after < np.uint64(_LONGEST)))
    ends, heads = before[steps], after[steps]
    lengths = ((ends - heads) // np.uint64(INSTRUCTION_SIZE)).astype(np.int64) + 1
    return _Branches(steps, ends, heads, lengths)


def _line(start: int, count: int) -> U64:
    """The addresses of ``count`` instructions from ``start`` on."""
    return np.arange(count, dtype=np.uint64) * np.uint64(INSTRUCTION_SIZE) + np.uint64(start)
