"""Draws what is mapped where: one row for each stretch of addresses, rights as colour, pattern and letters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from kexecdbg.arm64.ranges import MappedRange
from kexecdbg.ui.report.axis import joined
from kexecdbg.ui.report.svg import box, drawing, group, path, shortened, text
from kexecdbg.ui.report.words import about, counted
from kexecdbg.ui.table_text import short_memory_type

_MOST_ROWS = 18
_WIDTH = 720
_ADDRESS_END, _SWATCH, _SWATCH_WIDTH, _TEXT = 132, 140, 74, 222
_MARKS = 486
_MAPPED, _GAP, _MARK = 26, 17, 16
_ADDRESS_SPACE = 1 << 64


@dataclass(frozen=True)
class Mark:
    """An address that matters, on the map.

    Attributes:
        address: virtual.
        text: what it is, and what becomes of an access.
        bad: whether that access faults.
    """

    address: int
    text: str
    bad: bool


@dataclass(frozen=True)
class _Row:
    """A stretch of addresses; without ranges, a gap."""

    start: int
    end: int
    ranges: tuple[MappedRange, ...]
    marks: tuple[Mark, ...]

    @property
    def height(self) -> int:
        return max(_MAPPED if self.ranges else _GAP, _MARK * len(self.marks) + 4)


def address_map(ranges: Sequence[MappedRange], marks: Sequence[Mark], title: str) -> Markup:
    """The drawing; the highest address is at the bottom.

    Args:
        ranges: ascending; as many as there are, neighbours are joined until they fit.
        marks: in any order.
        title: what is drawn, for those who do not see it.
    """
    rows = _rows(ranges, marks)
    parts, y = [], 6.0
    for number, row in enumerate(rows):
        parts.append(_mapped(row, y) if row.ranges else _gap(row, y, number in (0, len(rows) - 1)))
        parts += [
            _mark(mark, y + (row.height - _MARK * len(row.marks)) / 2 + _MARK * i) for i, mark in enumerate(row.marks)
        ]
        y += row.height
    return drawing(_WIDTH, y + 6, title, parts)


def rights_class(item: MappedRange) -> str:
    """The CSS class of the rights of a range, ``rights-rwx``; dashes are spelled ``0``."""
    return "rights-" + item.privileged.text.replace("-", "0")


def _rows(ranges: Sequence[MappedRange], marks: Sequence[Mark]) -> list[_Row]:
    def holds_mark(item: MappedRange) -> bool:
        return any(item.va <= mark.address < item.end for mark in marks)

    def kept_apart(one: list[MappedRange], other: list[MappedRange]) -> bool:
        same_place = one[-1].end == other[0].va
        return holds_mark(one[-1]) or holds_mark(other[0]) or (same_place and _look(one[-1]) != _look(other[0]))

    alike = _alike(ranges, holds_mark)
    rows, position = [], 0
    for found in joined(alike, _MOST_ROWS, lambda items: items[0].va, lambda items: items[-1].end, kept_apart):
        start, end = found[0][0].va, found[-1][-1].end
        if start > position:
            rows.append(_Row(position, start, (), _in(marks, position, start)))
        rows.append(_Row(start, end, tuple(item for items in found for item in items), _in(marks, start, end)))
        position = end
    if position < _ADDRESS_SPACE:
        rows.append(_Row(position, _ADDRESS_SPACE, (), _in(marks, position, _ADDRESS_SPACE)))
    return rows


def _alike(ranges: Sequence[MappedRange], alone: Callable[[MappedRange], bool]) -> list[list[MappedRange]]:
    """Ranges that follow one another without a gap and look the same, wherever they lead to, together."""
    found: list[list[MappedRange]] = []
    for item in ranges:
        last = found[-1][-1] if found else None
        if last is None or last.end != item.va or _look(last) != _look(item) or alone(last) or alone(item):
            found.append([])
        found[-1].append(item)
    return found


def _look(item: MappedRange) -> tuple[str, str, str]:
    user = item.user.text if item.user else ""
    return item.privileged.text, user, short_memory_type(item.memory_type)


def _in(marks: Sequence[Mark], start: int, end: int) -> tuple[Mark, ...]:
    return tuple(sorted((mark for mark in marks if start <= mark.address < end), key=lambda mark: mark.address))


def _mapped(row: _Row, y: float) -> Markup:
    looks = dict.fromkeys(_look(item) for item in row.ranges)
    letters = dict.fromkeys(look[0] for look in looks)
    height = row.height - 2
    parts = [text(_ADDRESS_END, y + row.height / 2 + 4, f"{row.start:#x}", "end")]
    width = _SWATCH_WIDTH / len(letters)
    for number, rights in enumerate(letters):
        left = _SWATCH + number * width
        parts.append(box(left, y + 1, width, height, "swatch rights-" + rights.replace("-", "0")))
        if len(letters) <= 2:
            middle = left + width / 2
            parts.append(box(middle - 14, y + row.height / 2 - 8, 28, 16, "plate round"))
            parts.append(text(middle, y + row.height / 2 + 4, rights, "strong middle"))
    parts.append(text(_TEXT, y + row.height / 2 + 4, shortened(_description(row, looks), _text_width(row))))
    return group(*parts)


def _text_width(row: _Row) -> float:
    return (_MARKS if row.marks else _WIDTH) - _TEXT - 8


def _description(row: _Row, looks: dict[tuple[str, str, str], None]) -> str:
    size = about(sum(item.size for item in row.ranges))
    types = " or ".join(dict.fromkeys(look[2] for look in looks))
    first = row.ranges[0]
    if len(row.ranges) > 1:
        size = f"{size} in {counted(len(row.ranges), 'range')},"
        same = all(item.va == item.pa for item in row.ranges)
    else:
        same = first.va == first.pa
    users = " or ".join(dict.fromkeys(look[1] for look in looks if look[1]))
    el0 = f", EL0 {users}" if users else ""
    where = "" if same else f" → {first.pa:#x}" if len(row.ranges) == 1 else " → several"
    return f"{size} {types}{where}{el0}"


def _gap(row: _Row, y: float, at_end: bool) -> Markup:
    middle = y + row.height / 2
    size = "" if at_end else f", {about(row.end - row.start)}"
    line = path(f"M{_SWATCH + _SWATCH_WIDTH / 2} {y + 1}V{y + row.height - 1}", "gap")
    return group(line, text(_TEXT, middle + 4, f"not mapped{size}", "dim"))


def _mark(mark: Mark, y: float) -> Markup:
    class_ = "bad" if mark.bad else "good"
    pointer = path(f"M{_MARKS - 4} {y + 8}l8 -5v10z", f"pointer {class_}")
    words = shortened(f"{'✕' if mark.bad else '✓'} {mark.text}", _WIDTH - _MARKS - 10)
    return group(pointer, text(_MARKS + 8, y + 12, words, class_))
