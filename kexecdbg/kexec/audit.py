"""The audit of a page list: everything that can be wrong with it before the jump, as data.

What the list has to keep is what kernel/kexec_core.c guarantees (kimage_alloc_page(), kimage_add_entry(),
sanity_check_segment_list()): a source page is its own destination or nobody's, control pages are never destinations,
every destination lies in a segment. Importing this module imports numpy.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from kexecdbg.kexec.defects import Area, AreaKind, Audit, Defect, DefectKind, Occurrence
from kexecdbg.kexec.kimage import Segment
from kexecdbg.kexec.list_reader import Copies, Flags, Indices, ListEnd, PageList, Words
from kexecdbg.kexec.page_list import ALL_FLAGS
from kexecdbg.machine.memory_map import MemoryMap, RegionKind

_KEPT_OCCURRENCES = 8
_MAX_ADDRESS = (1 << 64) - 1
_FLAG_COUNTS = np.array([flags.bit_count() for flags in range(int(ALL_FLAGS) + 1)])
_END_DEFECTS = {
    ListEnd.CYCLE: DefectKind.CYCLE,
    ListEnd.UNREADABLE: DefectKind.UNREADABLE,
    ListEnd.EMPTY_PAGE: DefectKind.NO_END,
    ListEnd.TOO_LONG: DefectKind.TOO_LONG,
}


def audit(
    pages: PageList,
    *,
    memory_map: MemoryMap | None = None,
    areas: Iterable[Area] = (),
    segments: Sequence[Segment] | None = None,
) -> Audit:
    """Everything that is wrong with a page list.

    Args:
        pages: the list as it was read.
        memory_map: where RAM is; without it, nothing is said about pages outside RAM.
        areas: what the relocation uses beside the list, and must find unchanged while it copies.
        segments: the image's segments, where they are known.
    """
    copies = pages.copies
    writes = _Writes(copies)
    defects = [
        *_end(pages),
        *_flags(pages),
        *_outside_ram(pages, memory_map),
        *_twice(pages, writes),
        *_sources_written(pages, writes),
        *_list_written(pages, writes),
        *_areas_written(pages, writes, areas),
        *_segments(pages, segments or ()),
    ]
    unchecked = []
    if memory_map is None:
        unchecked.append("whether the pages are in RAM: no map of physical memory is known")
    if segments is None:
        unchecked.append("whether the destinations fill the image's segments: the segments are not known")
    return Audit(tuple(defects), tuple(unchecked))


class _Writes:
    """The copies that change memory: those to another page than they are read from."""

    def __init__(self, copies: Copies) -> None:
        self.copies = copies
        changing = np.flatnonzero(copies.sources != copies.destinations)
        order = np.argsort(copies.destinations[changing], kind="stable")
        self._by_destination = changing[order]
        self._pages = copies.destinations[self._by_destination]

    def first_to(self, pages: Words) -> Indices:
        """For each page the first copy that writes it, or -1."""
        at = np.searchsorted(self._pages, pages)
        found = np.zeros(len(pages), np.bool_)
        inside = at < len(self._pages)
        found[inside] = self._pages[at[inside]] == pages[inside]
        result = np.full(len(pages), -1, np.int64)
        result[found] = self._by_destination[at[found]]
        return result

    def into(self, start: int, end: int, page_size: int) -> Indices:
        """The copies that write any byte from ``start`` to ``end`` (exclusive), in their order."""
        low = np.searchsorted(self._pages, np.uint64(min(max(0, start - page_size + 1), _MAX_ADDRESS)))
        high = np.searchsorted(self._pages, np.uint64(min(end - 1, _MAX_ADDRESS)), side="right")
        return np.sort(self._by_destination[low:high])


def _end(pages: PageList) -> Iterator[Defect]:
    """How the list ends, if not with DONE; reported at the last entry that has a flag, with what is read next."""
    kind = _END_DEFECTS.get(pages.end)
    if kind is None:
        return
    flagged = np.flatnonzero(pages.flags)
    last = int(flagged[-1]) if len(flagged) else 0
    following = pages.end_address or 0
    if pages.end is ListEnd.EMPTY_PAGE and last + 1 < len(pages.values):
        following = pages.address_of(last + 1) or 0
    place = Occurrence(last, pages.address_of(last), int(pages.values[last]), following)
    yield Defect(kind, 1, (place,), detail=pages.end_reason)


def _flags(pages: PageList) -> Iterator[Defect]:
    number = _FLAG_COUNTS[pages.flags]
    odd = (pages.values & np.uint64((pages.page_size - 1) & ~int(ALL_FLAGS))) != 0
    without = number == 0
    if pages.end is not ListEnd.DONE:
        # Where the list has no end, what is read behind its last entry is not the list's.
        used = np.flatnonzero(~without)
        without[(int(used[-1]) + 1 if len(used) else 0) :] = False
    yield from _entries(pages, DefectKind.NO_FLAG, without)
    yield from _entries(pages, DefectKind.SEVERAL_FLAGS, number > 1)
    yield from _entries(pages, DefectKind.ODD_BITS, odd)
    copies = pages.copies
    yield from _copies(pages, DefectKind.NO_DESTINATION, np.flatnonzero(~copies.placed), copies.sources)


def _outside_ram(pages: PageList, memory_map: MemoryMap | None) -> Iterator[Defect]:
    if memory_map is None:
        return
    copies, size = pages.copies, pages.page_size
    listed = np.array([page.address for page in pages.pages], np.uint64)
    outside = np.flatnonzero(~_in_ram(listed, size, memory_map))
    if len(outside):
        places = [pages.pages[number] for number in outside[:_KEPT_OCCURRENCES].tolist()]
        found = tuple(
            Occurrence(
                page.linked_from, pages.address_of(page.linked_from), int(pages.values[page.linked_from]), page.address
            )
            for page in places
        )
        yield Defect(DefectKind.LIST_OUTSIDE_RAM, len(outside), found)
    for kind, addresses in (
        (DefectKind.SOURCE_OUTSIDE_RAM, copies.sources),
        (DefectKind.DESTINATION_OUTSIDE_RAM, copies.destinations),
    ):
        yield from _copies(pages, kind, np.flatnonzero(~_in_ram(addresses, size, memory_map)), addresses)


def _in_ram(addresses: Words, size: int, memory_map: MemoryMap) -> Flags:
    """Whether all ``size`` bytes at each address are RAM."""
    ranges: list[tuple[int, int]] = []
    for region in memory_map.regions:
        if region.kind is not RegionKind.RAM:
            continue
        joins = bool(ranges) and ranges[-1][1] == region.start
        start = ranges.pop()[0] if joins else region.start
        ranges.append((start, region.end))
    ranges = [(start, end) for start, end in ranges if end - start >= size]
    if not ranges:
        return np.zeros(len(addresses), np.bool_)
    starts = np.array([start for start, _ in ranges], np.uint64)
    last_starts = np.array([end - size for _, end in ranges], np.uint64)
    at = np.searchsorted(starts, addresses, side="right") - 1
    inside: Flags = (at >= 0) & (addresses <= last_starts[np.maximum(at, 0)])
    return inside


def _twice(pages: PageList, writes: _Writes) -> Iterator[Defect]:
    """Destinations that are given again later with another source; the page is reported where it is lost."""
    copies = writes.copies
    order = np.argsort(copies.destinations, kind="stable")
    pairs = np.flatnonzero(copies.destinations[order[1:]] == copies.destinations[order[:-1]])
    lost, kept = order[pairs], order[pairs + 1]
    differ = copies.sources[lost] != copies.sources[kept]
    lost, kept = lost[differ], kept[differ]
    by_time = np.argsort(kept, kind="stable")
    yield from _copies(pages, DefectKind.DESTINATION_TWICE, lost[by_time], copies.destinations, writers=kept[by_time])


def _sources_written(pages: PageList, writes: _Writes) -> Iterator[Defect]:
    copies = writes.copies
    writer = writes.first_to(copies.sources)
    number = np.arange(len(copies), dtype=np.int64)
    before = np.flatnonzero((writer >= 0) & (writer < number))
    after = np.flatnonzero(writer > number)
    yield from _copies(pages, DefectKind.SOURCE_OVERWRITTEN, before, copies.sources, writers=writer[before])
    yield from _copies(pages, DefectKind.SOURCE_WRITTEN_LATER, after, copies.sources, writers=writer[after])


def _list_written(pages: PageList, writes: _Writes) -> Iterator[Defect]:
    if not pages.pages:
        return
    addresses = np.array([page.address for page in pages.pages], np.uint64)
    first = writes.first_to(addresses)
    early: list[Occurrence] = []
    late: list[Occurrence] = []
    for page, copy in zip(pages.pages, first.tolist(), strict=True):
        if copy < 0:
            continue
        writer = int(writes.copies.entries[copy])
        # What is read next: the entry after the one whose copy overwrites the page, or the page's first.
        index = max(page.first, writer + 1)
        occurrence = Occurrence(
            min(index, page.last),
            pages.address_of(min(index, page.last)),
            int(pages.values[min(index, page.last)]),
            page.address,
            writer,
            int(writes.copies.sources[copy]),
        )
        (early if index <= page.last else late).append(occurrence)
    if early:
        yield Defect(DefectKind.LIST_OVERWRITTEN, len(early), tuple(early[:_KEPT_OCCURRENCES]))
    if late:
        yield Defect(DefectKind.LIST_WRITTEN_LATER, len(late), tuple(late[:_KEPT_OCCURRENCES]))


def _areas_written(pages: PageList, writes: _Writes, areas: Iterable[Area]) -> Iterator[Defect]:
    for area in areas:
        chosen = writes.into(area.start, area.end, pages.page_size)
        control = area.kind is AreaKind.CONTROL
        kind = DefectKind.CONTROL_OVERWRITTEN if control else DefectKind.AREA_OVERWRITTEN
        for defect in _copies(pages, kind, chosen, writes.copies.destinations, writers=chosen):
            yield Defect(defect.kind, defect.count, defect.occurrences, area)


def _segments(pages: PageList, segments: Sequence[Segment]) -> Iterator[Defect]:
    copies = pages.copies
    if not segments:
        return
    filled = np.unique(copies.destinations)
    inside = np.zeros(len(copies), np.bool_)
    missing = 0
    found: list[Occurrence] = []
    for segment in segments:
        if not segment.memory_size:
            continue
        start, last = np.uint64(segment.start), np.uint64(min(segment.end - 1, _MAX_ADDRESS))
        inside |= (copies.destinations >= start) & (copies.destinations <= last)
        here = filled[(filled >= start) & (filled <= last)]
        left = segment.memory_size // pages.page_size - len(here)
        if left > 0:
            missing += left
            found.append(Occurrence(0, None, None, _first_gap(here, segment.start, pages.page_size)))
    yield from _copies(pages, DefectKind.OUTSIDE_SEGMENTS, np.flatnonzero(~inside), copies.destinations)
    if missing:
        yield Defect(DefectKind.SEGMENT_NOT_FILLED, missing, tuple(found[:_KEPT_OCCURRENCES]))


def _first_gap(filled: Words, start: int, page_size: int) -> int:
    """The first page from ``start`` on that is not among the sorted ``filled``."""
    expected = np.uint64(start) + np.arange(len(filled), dtype=np.uint64) * np.uint64(page_size)
    gaps = np.flatnonzero(filled != expected)
    return start + (int(gaps[0]) if len(gaps) else len(filled)) * page_size


def _entries(pages: PageList, kind: DefectKind, chosen: Flags) -> Iterator[Defect]:
    """A defect of the entries that ``chosen`` marks."""
    indices = np.flatnonzero(chosen)
    if len(indices):
        found = tuple(
            Occurrence(index, pages.address_of(index), int(pages.values[index]), int(pages.addresses[index]))
            for index in indices[:_KEPT_OCCURRENCES].tolist()
        )
        yield Defect(kind, len(indices), found)


def _copies(
    pages: PageList, kind: DefectKind, chosen: Indices, concerned: Words, *, writers: Indices | None = None
) -> Iterator[Defect]:
    """A defect of the copies with the numbers ``chosen``; ``concerned`` has the page at issue of every copy."""
    if not len(chosen):
        return
    copies = pages.copies
    found = []
    for number in range(min(len(chosen), _KEPT_OCCURRENCES)):
        copy = int(chosen[number])
        index = int(copies.entries[copy])
        writer = None if writers is None else int(writers[number])
        found.append(
            Occurrence(
                index,
                pages.address_of(index),
                int(pages.values[index]),
                int(concerned[copy]),
                None if writer is None else int(copies.entries[writer]),
                None if writer is None else int(copies.sources[writer]),
            )
        )
    yield Defect(kind, len(chosen), tuple(found))
