"""An address space drawn as a column of blocks: 80 columns, low addresses first, gaps named by their size."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from kexecdbg.arm64.ranges import AccessRights, MappedRange, ProblemKind, TableScan
from kexecdbg.checks.address_map import AddressMap, Block, Part, Point, PointKind, address_map
from kexecdbg.ui.style import WIDTH, Style, hanging
from kexecdbg.ui.table_text import short_memory_type_text, size_text, table_text

_COLUMN = 17
_INSIDE = 6
_FIRST = _COLUMN + _INSIDE + 3
_ATTRIBUTES = 22
"""Columns between the drawing and the rights, at least."""
_PARTS = 4
_LAST = (1 << 64) - 1


@dataclass(frozen=True)
class _Ink:
    """The characters of the drawing; ``fills`` for rwx, r-x (or --x), rw-, r-- and no access."""

    top: str
    between: str
    bottom: str
    side: str
    gap: str
    fills: str
    mark: str
    arrow: str


_LINES = _Ink("┌─┐", "├─┤", "└─┘", "│", "┊", "█▓▒░·", "◄", "→")
_ASCII = _Ink("+-+", "+-+", "+-+", "|", ":", "#xwr.", "<", "->")
_FILL_NAMES = ("rwx", "r-x", "rw-", "r--", "---")


def table_map_text(
    scan: TableScan, ranges: Sequence[MappedRange], points: Iterable[Point], style: Style, *, ascii_only: bool = False
) -> str:
    """The summary of a whole table and what is wrong with it, then ``ranges`` of it drawn, with ``points`` marked."""
    head = table_text(scan, ranges, style, summary_only=True)
    if any(problem.kind is ProblemKind.CONFIGURATION for problem in scan.problems):
        return head
    return f"{head}\n{address_map_text(address_map(scan, ranges, points), scan, style, ascii_only=ascii_only)}"


def address_map_text(drawn: AddressMap, scan: TableScan, style: Style, *, ascii_only: bool = False) -> str:
    """The drawing; with ``ascii_only`` in characters that every terminal has."""
    ink = _ASCII if ascii_only else _LINES
    lines = list(_column(drawn, scan, ink, style))
    lines += _unmapped(drawn)
    used = {_fill(part.privileged) for block in drawn.blocks for part in block.parts}
    legend = "  ".join(f"{ink.fills[number] * 2} {_FILL_NAMES[number]}" for number in sorted(used))
    output = "IPA" if scan.output_is_ipa else "PA"
    if used:
        lines.append(style.dim(hanging("legend", f"{legend}; = {output} where both addresses are the same", 13)))
    return "\n".join(lines)


def _column(drawn: AddressMap, scan: TableScan, ink: _Ink, style: Style) -> Iterator[str]:
    position, edge = drawn.start, ink.top
    for block in drawn.blocks:
        if block.start > position:
            yield _border(position, edge)
            yield _gap(drawn, position, block.start, ink)
            edge = ink.between
        yield style.bold(_border(block.start, edge))
        yield from _block(block, scan, ink, style)
        position, edge = block.end, ink.between
    if position < drawn.end:
        yield _border(position, edge)
        yield _gap(drawn, position, drawn.end, ink)
    yield _border(min(drawn.end, _LAST), ink.bottom)


def _gap(drawn: AddressMap, start: int, end: int, ink: _Ink) -> str:
    touching = [each for each in drawn.unread if each[0] < end and start < each[1]]
    if any(first <= start and end <= last for first, last in touching):
        what = "unknown: its tables cannot be read"
    elif not drawn.complete:
        what = "not shown"
    else:
        what = "not mapped" + (", as far as its tables can be read" if touching else "")
    return f"{'':{_COLUMN}}{ink.gap}{'':{_INSIDE}}{ink.gap} {rounded(end - start):>6}  {what}"


def _border(address: int, edge: str) -> str:
    return f"{address:016x} {edge[0]}{edge[1] * _INSIDE}{edge[2]}"


def _block(block: Block, scan: TableScan, ink: _Ink, style: Style) -> Iterator[str]:
    output = "IPA" if scan.output_is_ipa else "PA"
    if block.offset == 0:
        place = f"= {output}"
    elif block.offset is not None:
        place = f"{ink.arrow} {block.start + block.offset:x}"
    else:
        place = f"{ink.arrow} {block.ranges} places"
    first = block.parts[0]
    extent = f" of {rounded(block.end - block.start)}" if block.mapped != block.end - block.start else ""
    if block.ranges > 1 and block.offset is not None:
        extent += f" in {block.ranges} ranges"
    head = f"{rounded(block.mapped):>6}{extent}  {place}"
    if len(block.parts) == 1 and _FIRST + max(len(head), _ATTRIBUTES) + len(_attributes(first)) < WIDTH - 5:
        yield _row(first, f"{head:<{_ATTRIBUTES}} {_attributes(first)}", ink, style)
    else:
        yield _row(first, head, ink, style, judged=False)
        for part in block.parts[:_PARTS]:
            yield _row(part, f"{rounded(part.size):>6}  {_attributes(part)}", ink, style)
    if len(block.parts) > _PARTS:
        rest = sum(part.size for part in block.parts[_PARTS:])
        text = f"{rounded(rest):>6}  in {len(block.parts) - _PARTS} other ways"
        yield _row(block.parts[-1], text, ink, style, judged=False)
    for text, wrong in _points(block):
        line = f"{ink.mark} {text}"
        shown = style.bad(line) if wrong else style.bold(line)
        yield f"{'':{_COLUMN}}{ink.side}{_filled(first, ink)}{ink.side} {shown}"


def _row(part: Part, text: str, ink: _Ink, style: Style, judged: bool = True) -> str:
    rights = part.privileged
    both = judged and rights.write and rights.execute
    shown = style.warn(f"{text}  W+X") if both else text
    return f"{'':{_COLUMN}}{ink.side}{_filled(part, ink)}{ink.side} {shown}"


def _filled(part: Part, ink: _Ink) -> str:
    return ink.fills[_fill(part.privileged)] * _INSIDE


def _fill(rights: AccessRights) -> int:
    if rights.execute:
        return 0 if rights.write else 1
    return 2 if rights.write else 3 if rights.read else 4


def _attributes(part: Part) -> str:
    user = "" if part.user is None else f" EL0 {part.user.text}"
    return f"{part.privileged.text}{user}  {short_memory_type_text(part.memory_type)}"


def _points(block: Block) -> Iterator[tuple[str, bool]]:
    """What lies in a block, and whether that cannot work there."""
    rights = block.parts[0].privileged if len(block.parts) == 1 else None
    for point in block.points:
        if point.kind in (PointKind.PC, PointKind.VECTORS):
            wrong = rights is not None and not rights.execute
            yield f"{point.kind.value} {point.start:#x}{', not executable' if wrong else ''}", wrong
        elif point.kind is PointKind.SP:
            wrong = rights is not None and not rights.write
            yield f"SP {point.start:#x}{', not writable' if wrong else ''}", wrong
    tables = [point for point in block.points if point.kind is PointKind.TABLE]
    if tables:
        yield _several(tables, "table of its own", "tables of its own"), False
    destinations = [point for point in block.points if point.kind is PointKind.DESTINATION]
    if destinations:
        wrong = rights is not None and not rights.write
        text = _several(destinations, "destination of the page list", "destinations of the page list")
        yield f"{text}{', not writable' if wrong else ''}", wrong


def _several(points: list[Point], one: str, many: str) -> str:
    starts, end = min(point.start for point in points), max(point.end for point in points) - 1
    return f"{one}: {starts:x}-{end:x}" if len(points) == 1 else f"{len(points)} {many}: {starts:x}-{end:x}"


def _unmapped(drawn: AddressMap) -> Iterator[str]:
    if not drawn.complete:
        return
    texts = []
    effects = {PointKind.PC: "a fetch there faults", PointKind.VECTORS: "an exception faults, for ever"}
    effects[PointKind.SP] = "the first push faults"
    for point in drawn.unmapped:
        if point.kind in effects:
            texts.append(f"{point.kind.value} {point.start:#x}: {effects[point.kind]}")
    for kind, one, many, effect in (
        (PointKind.TABLE, "table of its own", "tables of its own", "the MMU walks them all the same"),
        (PointKind.DESTINATION, "destination of the page list", "destinations of the page list", "a copy there faults"),
    ):
        found = [point for point in drawn.unmapped if point.kind is kind]
        if found:
            texts.append(f"{_several(found, one, many)}; {effect}")
    for index, text in enumerate(texts):
        yield hanging("not mapped" if not index else "", text, 13)


def rounded(size: int) -> str:
    """A size in at most five characters: ``132M``, ``1.5G``, ``2044K``."""
    exact = size_text(size)
    if len(exact) <= 5:
        return exact
    for shift, unit in ((50, "P"), (40, "T"), (30, "G"), (20, "M"), (10, "K")):
        if size >= 1 << shift:
            value = size / (1 << shift)
            return f"{value:.1f}{unit}" if value < 99.95 else f"{size >> shift}{unit}"
    return exact
