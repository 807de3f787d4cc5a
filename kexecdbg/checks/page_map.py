"""Which physical memory a relocation reads, writes and uses, as strips of cells, and where overlaps are."""

from __future__ import annotations

import enum
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from kexecdbg.checks.image_view import KimageView
from kexecdbg.kexec.defects import Area, AreaKind
from kexecdbg.kexec.runs import CopyRun
from kexecdbg.machine.memory_map import MemoryMap, RegionKind

_MOST_STRIPS = 5
_FAR_APART = 4
"""A strip ends where this many times all that is drawn would fit into the gap."""

Span = tuple[int, int]
"""Physical addresses: start, and end (exclusive)."""


class Lane(enum.Enum):
    """What memory is used for; the value is its name in the drawing."""

    OLD_KERNEL = "old kernel"
    SOURCES = "sources"
    DESTINATIONS = "destinations"
    LIST = "list pages"
    CODE = "code"
    ARGUMENT = "argument"
    TABLES = "tables"
    VECTORS = "vectors"
    STACK = "stack"
    CONTROL = "control"
    OVERLAPS = "overlaps"


class Cell(enum.Enum):
    """How much of a cell is used."""

    OUTSIDE = "no RAM there"
    NONE = "none"
    PART = "some of it"
    ALL = "all of it"


_LANE_OF = {kind: Lane[kind.name] for kind in AreaKind}


@dataclass(frozen=True)
class Strip:
    """Memory from ``start`` to ``end`` (exclusive) in cells of ``cell`` bytes; only lanes in which something is."""

    start: int
    end: int
    cell: int
    lanes: tuple[tuple[Lane, tuple[Cell, ...]], ...]


@dataclass(frozen=True)
class Flow:
    """Pages that fill the consecutive destinations ``start`` to ``end`` (exclusive).

    Attributes:
        runs: how many runs of consecutive sources they come from.
        lowest, highest: what the sources lie between, ``highest`` exclusive.
    """

    start: int
    end: int
    runs: int
    lowest: int
    highest: int


@dataclass(frozen=True)
class PageMap:
    """The memory of a relocation.

    Attributes:
        strips: ascending; between them lies nothing of it.
        flows: by destination.
        overlaps: destinations that cover what is read or used, each with what it covers.
        ram: RAM, if the machine tells.
    """

    strips: tuple[Strip, ...]
    flows: tuple[Flow, ...]
    overlaps: tuple[tuple[Span, Lane], ...]
    ram: tuple[Span, ...] | None


def page_map(view: KimageView, columns: int, memory_map: MemoryMap | None, kernel: Span | None = None) -> PageMap:
    """The map of an image, its strips ``columns`` cells wide; ``kernel`` is where the running kernel lies, if known."""
    size = view.pages.page_size
    lanes: dict[Lane, list[Span]] = {
        Lane.OLD_KERNEL: [] if kernel is None else [kernel],
        Lane.SOURCES: [(run.source, run.source + run.pages * size) for run in view.runs],
        Lane.DESTINATIONS: [(run.destination, run.destination + run.pages * size) for run in view.runs],
        Lane.LIST: [(page.address, page.address + size) for page in view.pages.pages],
    }
    for area in _areas(view):
        lanes.setdefault(_LANE_OF[area.kind], []).append((area.start, area.end))
    joined = {lane: _joined(spans) for lane, spans in lanes.items() if spans}
    overlaps = tuple(_overlaps(joined))
    if overlaps:
        joined[Lane.OVERLAPS] = _joined([span for span, _ in overlaps])
    ram = None
    if memory_map is not None:
        ram = tuple((each.start, each.end) for each in memory_map.regions if each.kind is RegionKind.RAM)
    return PageMap(tuple(_strips(joined, ram, columns, size)), _flows(view.runs, size), overlaps, ram)


def _areas(view: KimageView) -> Iterable[Area]:
    yield from view.areas
    for start, end in view.control_pages.ranges if view.control_pages else ():
        yield Area(AreaKind.CONTROL, "a control page", start, end)


def _joined(spans: Iterable[Span]) -> list[Span]:
    found: list[Span] = []
    for start, end in sorted(spans):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        elif end > start:
            found.append((start, end))
    return found


def _overlaps(lanes: dict[Lane, list[Span]]) -> Iterable[tuple[Span, Lane]]:
    """Where destinations lie over anything else but the old kernel, which is there to be overwritten."""
    written = lanes.get(Lane.DESTINATIONS, [])
    starts = [start for start, _ in written]
    for lane, spans in lanes.items():
        if lane in (Lane.DESTINATIONS, Lane.OLD_KERNEL):
            continue
        for start, end in spans:
            for first, last in written[max(0, bisect_right(starts, start) - 1) :]:
                if first >= end:
                    break
                if last > start:
                    yield (max(first, start), min(last, end)), lane


def _strips(lanes: dict[Lane, list[Span]], ram: Sequence[Span] | None, columns: int, page: int) -> Iterable[Strip]:
    everything = _joined(span for spans in lanes.values() for span in spans)
    if not everything:
        return
    used = sum(end - start for start, end in everything)
    gaps = sorted(((after[0] - before[1], before[1]) for before, after in pairwise(everything)), reverse=True)
    ends = {end for gap, end in gaps[: _MOST_STRIPS - 1] if gap > _FAR_APART * used}
    first = everything[0][0]
    for _, end in everything:
        if end in ends or end == everything[-1][1]:
            yield _strip(first, end, lanes, ram, columns, page)
            first = next((after for after, _ in everything if after > end), end)


def _strip(
    start: int, end: int, lanes: dict[Lane, list[Span]], ram: Sequence[Span] | None, columns: int, page: int
) -> Strip:
    start -= start % page
    cell = page * max(1, -(-(end - start) // (columns * page)))
    count = -(-(end - start) // cell)
    outside = [ram is not None and not _covered(ram, start + number * cell, cell) for number in range(count)]
    drawn = []
    for lane in Lane:
        cells = [_cell(lanes.get(lane, ()), start + number * cell, cell) for number in range(count)]
        if any(each is not Cell.NONE for each in cells):
            drawn.append(
                (
                    lane,
                    tuple(
                        Cell.OUTSIDE if none and each is Cell.NONE else each
                        for each, none in zip(cells, outside, strict=True)
                    ),
                )
            )
    return Strip(start, start + count * cell, cell, tuple(drawn))


def _cell(spans: Sequence[Span], start: int, size: int) -> Cell:
    covered = _covered(spans, start, size)
    return Cell.NONE if not covered else Cell.ALL if covered == size else Cell.PART


def _covered(spans: Sequence[Span], start: int, size: int) -> int:
    """Bytes of ``start`` to ``start + size`` in ``spans``, which ascend and do not overlap."""
    position = max(0, bisect_right(spans, (start, 1 << 64)) - 1)
    covered = 0
    for first, last in spans[position:]:
        if first >= start + size:
            break
        covered += max(0, min(last, start + size) - max(first, start))
    return covered


def _flows(runs: Iterable[CopyRun], page: int) -> tuple[Flow, ...]:
    flows: list[Flow] = []
    for run in sorted(runs, key=lambda run: run.destination):
        size = run.pages * page
        if flows and flows[-1].end == run.destination:
            last = flows[-1]
            flows[-1] = Flow(
                last.start,
                last.end + size,
                last.runs + 1,
                min(last.lowest, run.source),
                max(last.highest, run.source + size),
            )
        else:
            flows.append(Flow(run.destination, run.destination + size, 1, run.source, run.source + size))
    return tuple(flows)
