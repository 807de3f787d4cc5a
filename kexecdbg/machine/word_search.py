"""Searches all of physical memory for instruction words, where that goes at memory speed: 0.3 s a GiB.

numpy is imported where it is used: GDB reads this module when it starts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import and_, or_
from typing import Protocol, runtime_checkable

from kexecdbg.arm64.interfaces import PhysicalMemory
from kexecdbg.machine.memory import PopulatedMemory

_CHUNK = 1 << 20
_PAGE = 4096
_WORD = 4

Ranges = tuple[tuple[int, int], ...]
"""Physical start and end (exclusive) of parts of memory, ascending."""


@dataclass(frozen=True)
class WordPattern:
    """Aligned little-endian words of 32 bits that are ``value`` in the bits of ``mask``."""

    mask: int
    value: int


@dataclass(frozen=True)
class FoundWords:
    """What came of a search of all memory.

    Attributes:
        addresses: physical addresses of the words, ascending.
        size: bytes that were searched: those of pages that hold anything but zeros.
        complete: whether that was all; otherwise what some pages hold is not known.
    """

    addresses: tuple[int, ...]
    size: int
    complete: bool = True


@dataclass(frozen=True)
class WordScan:
    """Where words were found in memory, and the ranges of pages that hold anything but zeros."""

    addresses: tuple[int, ...]
    occupied: Ranges

    @property
    def found(self) -> FoundWords:
        """The result without where the pages are."""
        return FoundWords(self.addresses, sum(end - start for start, end in self.occupied))


@runtime_checkable
class SearchableMemory(Protocol):
    """Physical memory of which a search is known, though it cannot be read whole: that of a recorded machine."""

    def find_words(self, patterns: Sequence[WordPattern], /) -> FoundWords | None:
        """Every word of one of ``patterns``; ``None`` when not all of memory was searched for them."""
        ...


def find_words(memory: PhysicalMemory, patterns: Sequence[WordPattern]) -> FoundWords | None:
    """Every word of one of ``patterns`` in ``memory``; ``None`` where it cannot be searched whole."""
    if isinstance(memory, SearchableMemory):
        return memory.find_words(patterns)
    if isinstance(memory, PopulatedMemory):
        return scan_words(memory, memory.populated_ranges(), patterns).found
    return None


def scan_words(memory: PhysicalMemory, ranges: Iterable[tuple[int, int]], patterns: Sequence[WordPattern]) -> WordScan:
    """Read ``ranges`` (ascending) of ``memory``, and look at every word.

    Raises:
        MemoryUnreadableError: a part cannot be read.
    """
    addresses: list[int] = []
    occupied: list[tuple[int, int]] = []
    for start, end in ranges:
        for chunk in range(start & -_CHUNK, end, _CHUNK):
            first, last = max(start, chunk), min(end, chunk + _CHUNK)
            # Padded to whole pages; zeros are no instruction.
            before, after = first % _PAGE, -last % _PAGE
            data = bytes(before) + memory.read(first, last - first) + bytes(after)
            addresses += (first - before + offset for offset in matching_words(data, patterns))
            for page in _occupied_pages(data):
                _append_page(occupied, first - before + page * _PAGE)
    return WordScan(tuple(addresses), tuple(occupied))


def matching_words(data: bytes, patterns: Sequence[WordPattern]) -> Iterator[int]:
    """Offsets of the words of one of ``patterns`` in ``data``, which begins at an aligned address; ascending."""
    import numpy as np

    # One pass with what all patterns have in common; few words pass it.
    values = [pattern.value for pattern in patterns]
    common = reduce(and_, (pattern.mask for pattern in patterns)) & ~reduce(or_, (each ^ values[0] for each in values))
    words = np.frombuffer(data, "<u4", len(data) // _WORD)
    for place in np.flatnonzero((words & np.uint32(common)) == np.uint32(values[0] & common)).tolist():
        word = int(words[place])
        if any(word & pattern.mask == pattern.value for pattern in patterns):
            yield place * _WORD


def is_occupied(page: bytes) -> bool:
    """Whether a page holds anything but zeros."""
    return page.count(0) != len(page)


def _occupied_pages(data: bytes) -> list[int]:
    import numpy as np

    pages: list[int] = np.flatnonzero(np.frombuffer(data, "<u8").reshape(-1, _PAGE // 8).max(axis=1)).tolist()
    return pages


def _append_page(ranges: list[tuple[int, int]], page: int) -> None:
    """Add a page behind the last range, or to it where they touch; it may have it already."""
    if ranges and ranges[-1][1] >= page:
        ranges[-1] = (ranges[-1][0], max(ranges[-1][1], page + _PAGE))
    else:
        ranges.append((page, page + _PAGE))
