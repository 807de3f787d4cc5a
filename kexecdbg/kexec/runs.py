"""A page list in short: runs of pages that are copied in a row, and how many there are. Imports numpy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kexecdbg.kexec.list_reader import Copies, PageList
from kexecdbg.kexec.page_list import PageCopy


@dataclass(frozen=True)
class CopyRun:
    """Pages whose sources and destinations both follow one another.

    Attributes:
        entry: index of the first SOURCE entry.
        source, destination: physical addresses of the first page.
        pages: how many.
    """

    entry: int
    source: int
    destination: int
    pages: int


@dataclass(frozen=True)
class ListSummary:
    """A page list in numbers.

    Attributes:
        entries: entries read, the head among them.
        list_pages: pages that hold them.
        copies: pages copied.
        in_place: those of them that are their own destination.
        destination_runs: runs of consecutive destinations, in the order of the list.
        first, last: the first and the last copy; ``None`` when there is none.
    """

    entries: int
    list_pages: int
    copies: int
    in_place: int
    destination_runs: int
    first: PageCopy | None
    last: PageCopy | None


def summarize(pages: PageList) -> ListSummary:
    """The list in numbers."""
    copies = pages.copies
    count = len(copies)
    return ListSummary(
        entries=len(pages.values),
        list_pages=len({page.address for page in pages.pages}),
        copies=count,
        in_place=int(np.count_nonzero(copies.sources == copies.destinations)),
        destination_runs=int(count > 0) + int(np.count_nonzero(~_follows(copies.destinations, pages.page_size))),
        first=_copy(copies, 0) if count else None,
        last=_copy(copies, count - 1) if count else None,
    )


def copy_runs(pages: PageList) -> tuple[CopyRun, ...]:
    """The copies in the order of the list, those in a row joined."""
    copies = pages.copies
    if not len(copies):
        return ()
    joined = _follows(copies.sources, pages.page_size) & _follows(copies.destinations, pages.page_size)
    first = np.flatnonzero(np.concatenate([[True], ~joined]))
    lengths = np.diff(first, append=len(copies))
    columns = (copies.entries[first], copies.sources[first], copies.destinations[first], lengths)
    return tuple(CopyRun(*row) for row in zip(*(column.tolist() for column in columns), strict=True))


def destination_ranges(pages: PageList) -> tuple[tuple[int, int], ...]:
    """Physical memory that the copies fill: ranges (start, end), ascending and joined."""
    distinct = np.unique(pages.copies.destinations)
    if not len(distinct):
        return ()
    first = np.flatnonzero(np.concatenate([[True], ~_follows(distinct, pages.page_size)]))
    lengths = np.diff(first, append=len(distinct))
    return tuple(
        (start, start + length * pages.page_size)
        for start, length in zip(distinct[first].tolist(), lengths.tolist(), strict=True)
    )


def _follows(addresses: np.typing.NDArray[np.uint64], page_size: int) -> np.typing.NDArray[np.bool_]:
    """Of each address but the first, whether it is the page after the one before it."""
    follows: np.typing.NDArray[np.bool_] = addresses[1:] == addresses[:-1] + np.uint64(page_size)
    return follows


def _copy(copies: Copies, number: int) -> PageCopy:
    return PageCopy(int(copies.sources[number]), int(copies.destinations[number]))
