"""Draws a relocation: physical memory from top to bottom, sources on the left, destinations on the right."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import log2

from markupsafe import Markup

from kexecdbg.checks.image_view import KimageView
from kexecdbg.kexec.defects import Area, AreaKind
from kexecdbg.kexec.runs import CopyRun
from kexecdbg.ui.report.axis import joined
from kexecdbg.ui.report.svg import box, drawing, group, path, shortened, text
from kexecdbg.ui.report.words import about

_MOST_ROWS = 26
_WIDTH = 720
_ADDRESS_END = 116
_SOURCE, _DESTINATION, _BOX = 126, 400, 130
_NOTES = 540
_ROW, _GAP, _TOP = 24, 6, 30
_HEADINGS = ((_ADDRESS_END, "physical", "end"), (_SOURCE, "sources", ""), (_DESTINATION, "destinations", ""))
_SHORT = {
    AreaKind.CODE: "code",
    AreaKind.TABLES: "tables",
    AreaKind.VECTORS: "vectors",
    AreaKind.ARGUMENT: "argument",
    AreaKind.STACK: "stack",
    AreaKind.CONTROL: "control",
}

Range = tuple[int, int]


@dataclass(frozen=True)
class _Piece:
    """Addresses with the same use throughout."""

    start: int
    end: int
    source: bool
    destination: bool
    areas: tuple[str, ...]

    @property
    def use(self) -> tuple[bool, bool, tuple[str, ...]]:
        return self.source, self.destination, self.areas

    @property
    def size(self) -> int:
        return self.end - self.start

    @property
    def clashes(self) -> bool:
        """Whether the relocation fills what it still has to read or to run."""
        return self.destination and (self.source or bool(self.areas))


@dataclass(frozen=True)
class Overlap:
    """Memory that is filled and used otherwise too: physical addresses, ``end`` exclusive."""

    start: int
    end: int
    text: str


def overlaps(view: KimageView) -> tuple[Overlap, ...]:
    """Where destinations lie on sources, or on what the relocation itself uses; copies to themselves left out."""
    found = []
    for piece in _pieces(view):
        if piece.clashes:
            used = [*(["a source"] if piece.source else []), *piece.areas]
            found.append(Overlap(piece.start, piece.end, " and ".join(used)))
    return tuple(found)


def relocation_map(view: KimageView) -> Markup:
    """The drawing."""
    rows = joined(_pieces(view), _MOST_ROWS, lambda piece: piece.start, lambda piece: piece.end, _kept_apart)
    tops = [_TOP + number * (_ROW + _GAP) for number in range(len(rows))]
    parts = [text(x, 16, words, f"heading {place}".strip()) for x, words, place in _HEADINGS]
    parts.append(text(_NOTES, 16, "the relocation uses", "heading"))
    parts += list(_copies(view.runs, view.pages.page_size, [row[0].start for row in rows], tops))
    parts += [_row(row, top) for row, top in zip(rows, tops, strict=True)]
    return drawing(_WIDTH, _TOP + len(rows) * (_ROW + _GAP) + 4, "Where the relocation copies pages to", parts)


def _kept_apart(one: _Piece, other: _Piece) -> bool:
    return one.use != other.use


def _pieces(view: KimageView) -> list[_Piece]:
    size = view.pages.page_size
    moved = [run for run in view.runs if run.source != run.destination]
    sources = _merged((run.source, run.source + run.pages * size) for run in moved)
    destinations = _merged((run.destination, run.destination + run.pages * size) for run in moved)
    areas = _merged_areas(view.areas)
    edges = sorted({edge for pair in (*sources, *destinations, *(pair for _, pair in areas)) for edge in pair})
    pieces = []
    for start, end in pairwise(edges):
        names = tuple(dict.fromkeys(name for name, (low, high) in areas if low <= start < high))
        piece = _Piece(start, end, _holds(sources, start), _holds(destinations, start), names)
        if piece.source or piece.destination or piece.areas:
            pieces.append(piece)
    return pieces


def _merged(ranges: Iterable[Range]) -> list[Range]:
    merged: list[Range] = []
    for start, end in sorted(ranges):
        if merged and start <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(merged[-1][1], end)
        else:
            merged.append((start, end))
    return merged


def _merged_areas(areas: Sequence[Area]) -> list[tuple[str, Range]]:
    kinds = dict.fromkeys(area.kind for area in areas)
    return [
        (_SHORT[kind], pair)
        for kind in kinds
        for pair in _merged((area.start, area.end) for area in areas if area.kind is kind)
    ]


def _holds(ranges: Sequence[Range], address: int) -> bool:
    place = bisect_right(ranges, (address, 1 << 65)) - 1
    return place >= 0 and address < ranges[place][1]


def _row(pieces: Sequence[_Piece], y: float) -> Markup:
    sources = sum(piece.size for piece in pieces if piece.source)
    destinations = sum(piece.size for piece in pieces if piece.destination)
    clash = sum(piece.size for piece in pieces if piece.clashes)
    areas = list(dict.fromkeys(name for piece in pieces for name in piece.areas))
    middle = y + _ROW / 2 + 4
    parts = [text(_ADDRESS_END, middle, f"{pieces[0].start:#x}", "end")]
    if sources:
        parts += _labelled(_SOURCE, y, about(sources), "source")
    if destinations:
        parts += _labelled(_DESTINATION, y, about(destinations), "clash" if clash else "destination")
    notes = ", ".join(areas)
    if clash:
        notes = f"✕ overlap, {about(clash)}" + (f": {notes}" if notes else "")
    if notes:
        parts.append(text(_NOTES, middle, shortened(notes, _WIDTH - _NOTES), "bad" if clash else ""))
    return group(*parts)


def _labelled(x: float, y: float, words: str, class_: str) -> list[Markup]:
    middle = x + _BOX / 2
    width = len(words) * 7 + 10
    return [
        box(x, y, _BOX, _ROW, f"pages {class_}"),
        box(middle - width / 2, y + 4, width, _ROW - 8, "plate round"),
        text(middle, y + _ROW / 2 + 4, words, "middle"),
    ]


def _copies(runs: Sequence[CopyRun], page_size: int, starts: Sequence[int], tops: Sequence[float]) -> Iterator[Markup]:
    """A curve for the copies between each two rows, the thicker the more pages."""
    pages: Counter[tuple[int, int]] = Counter()
    for run in runs:
        if run.source == run.destination:
            continue
        for number in range(run.pages) if run.pages <= 64 else (0, run.pages - 1):
            here = run.source + number * page_size, run.destination + number * page_size
            one, other = (bisect_right(starts, address) - 1 for address in here)
            pages[one, other] += 1 if run.pages <= 64 else run.pages // 2
    for (one, other), count in sorted(pages.items()):
        start, end = tops[one] + _ROW / 2, tops[other] + _ROW / 2
        left, right = _SOURCE + _BOX, _DESTINATION - 3
        middle = (left + right) / 2
        yield path(
            f"M{left} {start:g}C{middle:g} {start:g} {middle:g} {end:g} {right} {end:g}",
            "copy",
            stroke_width=1 + min(5.0, log2(count) / 2),
        )
