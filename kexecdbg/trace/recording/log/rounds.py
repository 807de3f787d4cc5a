"""Finds loops that go round many times in logged states, by their addresses alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from kexecdbg.arm64.instructions import INSTRUCTION_SIZE
from kexecdbg.trace.recording.log.states import States

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
    before, after = states.pcs[:-1], states.pcs[1:]
    back = np.flatnonzero((after <= before) & (before - after < np.uint64(_LONGEST)))
    if len(back) < _FEWEST:
        return
    ends, heads = before[back], after[back]
    lengths = ((ends - heads) // np.uint64(INSTRUCTION_SIZE)).astype(np.int64) + 1
    # Straight from one branch back to the next, at the same address: one more round of the same loop.
    again = (ends[1:] == ends[:-1]) & (heads[1:] == heads[:-1]) & (np.diff(back) == lengths[1:])
    edges = np.flatnonzero(np.diff(np.concatenate(([False], again, [False])).astype(np.int8)))
    for start, stop in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        if stop - start >= _FEWEST:
            # The first branch back leads to the first whole round that is certain to start at the head.
            last, head, end = int(back[stop]) + 1, int(heads[start]), int(ends[start])
            yield LoggedLoop(int(back[start]) + 1, last + _last_round(states, last, head, end), head, end)


def _last_round(states: States, start: int, head: int, end: int) -> int:
    """How many steps from ``start`` on are the round that the loop ends with: its branch is not taken; 0 for none.

    Without it, a page that a loop has copied would be recorded as it is before the last round, which no other page is.
    """
    round_and_next = np.arange(head, end + 2 * INSTRUCTION_SIZE, INSTRUCTION_SIZE, dtype=np.uint64)
    follows = states.pcs[start : start + len(round_and_next)]
    return len(round_and_next) - 1 if np.array_equal(follows, round_and_next) else 0
