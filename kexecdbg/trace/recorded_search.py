"""Searches the memory of one state of a trace for words, of which not every page has to be in the trace.

A page that is not there held none of the words when all memory was searched, and nothing has written to it since: a
page that is written to is in the trace.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

import numpy as np

from kexecdbg.errors import MemoryUnreadableError
from kexecdbg.machine.memory_map import RegionKind
from kexecdbg.machine.word_search import FoundWords, WordPattern, is_occupied, matching_words
from kexecdbg.trace.search_frame import SearchFrame
from kexecdbg.trace.step_block import PAGE_SIZE, U64

if TYPE_CHECKING:
    from kexecdbg.trace.reader import Trace

_TOGETHER = 256
"""Pages whose contents are looked at together."""
_NOWHERE: U64 = np.zeros(0, np.uint64)


def find_recorded_words(trace: Trace, number: int, patterns: Sequence[WordPattern]) -> FoundWords | None:
    """Every word of one of ``patterns`` in RAM in state ``number``; ``None`` when not all of it was searched for them.

    Raises:
        TraceError: there is no such state, or a part of the file is damaged.
    """
    search = trace.search_at(number)
    if search is None and trace.header.whole_memory and not trace.warnings:
        search = SearchFrame(number, frozenset(patterns), _NOWHERE, _NOWHERE)  # there is nothing but what is recorded
    if search is None or not search.patterns.issuperset(patterns):
        return None
    pages = _pages(trace, number, search)
    known, data = _contents(trace, number, pages)
    addresses: list[int] = []
    for first in range(0, len(known), _TOGETHER):
        some = b"".join(data[first : first + _TOGETHER])
        addresses += (known[first + at // PAGE_SIZE] + at % PAGE_SIZE for at in matching_words(some, patterns))
    occupied = sum(map(is_occupied, data))
    return FoundWords(tuple(addresses), _not_recorded(search, pages) + occupied * PAGE_SIZE, len(known) == len(pages))


def _pages(trace: Trace, number: int, search: SearchFrame) -> list[int]:
    """The recorded pages of the RAM that was searched, ascending."""
    pages = [page for page in trace.pages() if trace.version_step(page, number) is not None]
    if trace.memory_map is None:
        return pages
    searched = _block_names(trace, search.starts.tolist())
    regions = (trace.memory_map.find(page) for page in pages)
    return [
        page
        for page, region in zip(pages, regions, strict=True)
        if region is not None and region.kind is RegionKind.RAM and (not searched or region.name in searched)
    ]


def _block_names(trace: Trace, starts: Collection[int]) -> set[str]:
    """The blocks of RAM that were searched: QEMU shares one of them in a file, a secure RAM beside it may not be."""
    assert trace.memory_map is not None
    return {region.name for start in starts if (region := trace.memory_map.find(start)) is not None}


def _contents(trace: Trace, number: int, pages: Sequence[int]) -> tuple[list[int], list[bytes]]:
    """Those of ``pages`` of which it is known what they hold, and that."""
    memory = trace.memory(number)
    known, data = [], []
    for page in pages:
        try:
            data.append(memory.read(page, PAGE_SIZE))
        except MemoryUnreadableError:
            continue
        known.append(page)
    return known, data


def _not_recorded(search: SearchFrame, recorded: Sequence[int]) -> int:
    """Bytes of the pages that hold anything, and are not among those recorded."""
    pages = np.array(recorded, np.uint64)
    places = np.searchsorted(search.starts, pages, side="right")
    inside = places > 0
    inside[inside] = search.ends[places[inside] - 1] > pages[inside]
    return int((search.ends - search.starts).sum()) - int(np.count_nonzero(inside)) * PAGE_SIZE
