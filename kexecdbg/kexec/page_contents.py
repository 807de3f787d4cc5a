"""The contents of the pages that a relocation copies: kept before the copy, compared after it. Imports numpy.

The contents are kept whole, not as checksums, so that a page that differs can be shown byte for byte.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kexecdbg.arm64.interfaces import PhysicalMemory
from kexecdbg.errors import MemoryUnreadableError
from kexecdbg.kexec.list_reader import Indices, PageList, Words

_READ_PAGES = 1024
"""Pages that follow one another are read together, so many at most."""
_SAMPLES = 256
"""Pages that are watched to see how far the copy has got."""
_KEPT_DIFFERENCES = 64

Contents = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class PageDifference:
    """A destination page that does not hold what its source held.

    Attributes:
        copy: number of the copy in the order of the list, from 0.
        source, destination: physical addresses of the pages.
        offset: of the first byte that differs.
        expected, found: that byte.
        differing_bytes: how many bytes of the page differ.
    """

    copy: int
    source: int
    destination: int
    offset: int
    expected: int
    found: int
    differing_bytes: int

    @property
    def source_byte(self) -> int:
        """Physical address that the first differing byte was copied from."""
        return self.source + self.offset

    @property
    def destination_byte(self) -> int:
        """Physical address of the first byte that differs."""
        return self.destination + self.offset


@dataclass(frozen=True)
class PageComparison:
    """Destination pages compared with what their sources held.

    Attributes:
        pages: how many destination pages were compared.
        superseded: copies whose destination a later copy fills again, which cannot be compared.
        differing: how many pages differ; ``differences`` has the first ones, in the order of the list.
        differences: at most 64 of them.
    """

    pages: int
    superseded: int
    differing: int
    differences: tuple[PageDifference, ...]


class PageContents:
    """What the source pages of a list hold now.

    Args:
        pages: the list.
        memory: physical memory, read once here for all source pages.

    Raises:
        MemoryUnreadableError: a source page cannot be read.
    """

    def __init__(self, pages: PageList, memory: PhysicalMemory) -> None:
        self._pages = pages
        copies = pages.copies
        self._sources = _read_pages(memory, copies.sources, pages.page_size)
        self._watched = self._distinguishable(memory)

    def _distinguishable(self, memory: PhysicalMemory) -> Indices:
        """Copies, spread evenly, whose destination does not hold what it is going to hold."""
        copies = self._pages.copies
        spread = np.unique(np.linspace(0, max(0, len(copies) - 1), min(len(copies), _SAMPLES)).astype(np.int64))
        different = [number for number in spread.tolist() if not self._arrived(number, memory)]
        return np.array(different, np.int64)

    def _arrived(self, number: int, memory: PhysicalMemory) -> bool:
        page = int(self._pages.copies.destinations[number])
        try:
            return memory.read(page, self._pages.page_size) == bytes(self._sources[number])
        except MemoryUnreadableError:
            return False

    def copied(self, memory: PhysicalMemory) -> int:
        """How many pages have been copied at least, found out by looking at a few destinations; 0 when unknown.

        It can be asked for while the machine runs: a page that is being written counts as not copied yet.
        """
        low, high = 0, len(self._watched)
        while low < high:
            middle = (low + high) // 2
            if self._arrived(int(self._watched[middle]), memory):
                low = middle + 1
            else:
                high = middle
        return int(self._watched[low - 1]) + 1 if low else 0

    def compare(self, memory: PhysicalMemory, copied: int | None = None) -> PageComparison:
        """The destinations of the first ``copied`` copies (all without it) against what their sources held.

        Raises:
            MemoryUnreadableError: a destination page cannot be read.
        """
        copies = self._pages.copies
        count = len(copies) if copied is None else copied
        destinations = copies.destinations[:count]
        # Of several copies to one page the last one counts: np.unique() finds the first one from the end.
        _, from_end = np.unique(destinations[::-1], return_index=True)
        kept = np.sort(count - 1 - from_end)
        found = _read_pages(memory, destinations[kept], self._pages.page_size)
        expected = self._sources[kept]
        rows = np.flatnonzero((found != expected).any(axis=1))
        differences = tuple(
            self._difference(int(kept[row]), expected[row], found[row]) for row in rows[:_KEPT_DIFFERENCES].tolist()
        )
        return PageComparison(len(kept), count - len(kept), len(rows), differences)

    def _difference(self, number: int, expected: Contents, found: Contents) -> PageDifference:
        places = np.flatnonzero(expected != found)
        first = int(places[0])
        copies = self._pages.copies
        return PageDifference(
            number,
            int(copies.sources[number]),
            int(copies.destinations[number]),
            first,
            int(expected[first]),
            int(found[first]),
            len(places),
        )


def _read_pages(memory: PhysicalMemory, addresses: Words, page_size: int) -> Contents:
    """The pages at ``addresses``, one row each; those that follow one another in memory are read together."""
    contents = np.empty((len(addresses), page_size), np.uint8)
    if not len(addresses):
        return contents
    follows = addresses[1:] == addresses[:-1] + np.uint64(page_size)
    starts = np.concatenate([[0], np.flatnonzero(~follows) + 1])
    for start, end in zip(starts.tolist(), [*starts[1:].tolist(), len(addresses)], strict=True):
        for row in range(start, end, _READ_PAGES):
            count = min(_READ_PAGES, end - row)
            data = memory.read(int(addresses[row]), count * page_size)
            contents[row : row + count] = np.frombuffer(data, np.uint8).reshape(count, page_size)
    return contents
