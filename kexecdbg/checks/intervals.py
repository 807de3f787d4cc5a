"""Physical addresses of many mapped ranges at once, as numpy arrays; imported only when tables are scanned."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from kexecdbg.arm64.ranges import MappedRange

Addresses = npt.NDArray[np.uint64]


class Intervals:
    """Disjoint intervals of physical addresses, ascending: the union of what some ranges map.

    Attributes:
        starts, ends: arrays of first addresses and ends (exclusive).
    """

    def __init__(self, ranges: Sequence[MappedRange]) -> None:
        starts = np.fromiter((item.pa for item in ranges), np.uint64, len(ranges))
        ends = np.fromiter((item.pa + item.size for item in ranges), np.uint64, len(ranges))
        order = np.argsort(starts, kind="stable")
        starts, ends = starts[order], np.maximum.accumulate(ends[order])
        first = np.ones(len(starts), np.bool_)
        first[1:] = starts[1:] > ends[:-1]
        chosen = np.flatnonzero(first)
        self.starts: Addresses = starts[chosen]
        self.ends: Addresses = ends[np.append(chosen[1:], len(ends)) - 1] if len(ends) else ends

    def pairs(self) -> list[tuple[int, int]]:
        """The intervals as integers."""
        return list(zip(self.starts.tolist(), self.ends.tolist(), strict=True))

    def first_overlap(self, other: Intervals) -> tuple[int, int] | None:
        """The lowest addresses that both have, or ``None``."""
        if not len(self.starts) or not len(other.starts):
            return None
        # The last interval of ``other`` that starts before each of ours ends.
        index = np.searchsorted(other.starts, self.ends, side="left").astype(np.int64) - 1
        overlaps = (index >= 0) & (other.ends[np.maximum(index, 0)] > self.starts)
        if not overlaps.any():
            return None
        mine = int(np.flatnonzero(overlaps)[0])
        # The first one that ends after ours starts, which may be an earlier one.
        theirs = int(np.searchsorted(other.ends, self.starts[mine], side="right"))
        start = max(int(self.starts[mine]), int(other.starts[theirs]))
        return start, min(int(self.ends[mine]), int(other.ends[theirs]))


def range_at(ranges: Sequence[MappedRange], pa: int) -> MappedRange:
    """The first of ``ranges`` that maps the physical address ``pa``."""
    return next(item for item in ranges if item.pa <= pa < item.pa + item.size)
