"""Draws a 64-bit value as a strip of bits with the names of its fields, one bit or field marked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from kexecdbg.arm64.bits import bit
from kexecdbg.ui.report.svg import CHARACTER, box, element, group, path, text

CELL = 11
"""Width of a bit."""
WIDTH = 64 * CELL
_TOP, _HEIGHT = 26, 18
_SMALL = CHARACTER * 10 / 11.5
"""Width of a character of the labels, which are smaller."""


@dataclass(frozen=True)
class StripField:
    """A field on a strip.

    Attributes:
        name: its label.
        msb, lsb: highest and lowest bit.
        class_: CSS class of its cells; empty for the ordinary one.
    """

    name: str
    msb: int
    lsb: int
    class_: str = ""


@dataclass(frozen=True)
class Strip:
    """A drawn strip and the height it takes."""

    content: Markup
    height: float


def bit_strip(
    x: float,
    y: float,
    value: int,
    fields: Sequence[StripField],
    marked: tuple[int, int] | None = None,
    remark: str = "",
) -> Strip:
    """The strip with its upper left corner at ``x``, ``y``.

    Args:
        x, y: where.
        value: 64 bits, unsigned.
        fields: from the highest bit down, not overlapping; bits without a field are drawn without a name.
        marked: highest and lowest bit of what decides.
        remark: what stands over the mark.
    """
    top = y + _TOP
    parts = [box(x, top, WIDTH, _HEIGHT, "strip")]
    parts += [
        box(_left(x, field.msb), top, _width(field), _HEIGHT, f"field {field.class_}".strip()) for field in fields
    ]
    centres = " ".join(f"{_left(x, position) + CELL / 2:g}" for position in range(63, -1, -1))
    digits = "".join(str(bit(value, position)) for position in range(63, -1, -1))
    parts.append(element("text", digits, x=centres, y=top + 13, class_="bits"))
    parts += _positions(x, top, fields, marked)
    labels, depth = _labels(x, top + _HEIGHT, fields, marked)
    parts += labels
    if marked is not None:
        parts += _mark(x, top, marked, remark)
    return Strip(group(*parts), _TOP + _HEIGHT + depth)


def _left(x: float, position: int) -> float:
    return x + (63 - position) * CELL


def _width(field: StripField) -> float:
    return (field.msb - field.lsb + 1) * CELL


def _positions(x: float, top: float, fields: Sequence[StripField], marked: tuple[int, int] | None) -> list[Markup]:
    """Bit numbers over the ends of wide fields, where they do not run into each other or into the mark."""
    parts, free = [], x - CELL
    for field in sorted(fields, key=lambda field: -field.msb):
        ends = (field.msb, field.lsb) if _width(field) > 3 * CELL else (field.msb,)
        for position in ends:
            centre = _left(x, position) + CELL / 2
            at_mark = marked is not None and marked[1] - 1 <= position <= marked[0] + 1
            if centre - 7 >= free and not at_mark:
                parts.append(text(centre, top - 3, str(position), "position"))
                free = centre + 7
    return parts


def _labels(
    x: float, bottom: float, fields: Sequence[StripField], marked: tuple[int, int] | None
) -> tuple[list[Markup], float]:
    """Names under the fields: across where they fit, else downwards; and how deep they reach."""
    parts, depth = [], 0.0
    for field in fields:
        decides = marked is not None and field.lsb <= marked[0] and marked[1] <= field.msb
        class_ = "label decides" if decides else "label"
        centre = _left(x, field.msb) + _width(field) / 2
        length = len(field.name) * _SMALL
        if length + 2 <= _width(field):
            parts.append(text(centre, bottom + 12, field.name, f"{class_} middle"))
            depth = max(depth, 16)
        else:
            place = f"translate({centre - 3.4:g} {bottom + 5:g}) rotate(90)"
            parts.append(text(0, 0, field.name, class_, transform=place))
            depth = max(depth, 10 + length)
    return parts, depth


def _mark(x: float, top: float, marked: tuple[int, int], remark: str) -> list[Markup]:
    msb, lsb = marked
    left, width = _left(x, msb), (msb - lsb + 1) * CELL
    centre = left + width / 2
    tip = f"M{centre - 5:g} {top - 11:g}h10l-5 8z"
    # The remark stands on the side of the mark where there is room.
    right_half = centre > x + WIDTH / 2
    place = text(centre + (-9 if right_half else 9), top - 4, remark, f"remark {'end' if right_half else 'start'}")
    backing = len(remark) * CHARACTER
    plate = box(centre + (-9 - backing if right_half else 9), top - 15, backing, 13, "plate")
    return [box(left - 1, top - 2, width + 2, _HEIGHT + 4, "mark"), plate, path(tip, "pointer"), place]
