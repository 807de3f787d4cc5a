"""Draws a walk: the address and its index bits, level by level the table and the descriptor, and where it ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from kexecdbg.arm64.descent import WalkLevel
from kexecdbg.arm64.descriptors import LEAF_KINDS
from kexecdbg.arm64.faults import Access, Cause, Fault
from kexecdbg.arm64.rights import Rights
from kexecdbg.ui.report.bit_strip import WIDTH, bit_strip
from kexecdbg.ui.report.descriptor_fields import Tables, address_fields, descriptor_fields
from kexecdbg.ui.report.svg import CHARACTER, box, drawing, group, path, shortened, text
from kexecdbg.ui.report.words import with_article
from kexecdbg.ui.table_text import size_text

_MARGIN = 8
_DRAWN = WIDTH + 2 * _MARGIN
_TABLE_WIDTH, _DESCRIPTOR_LEFT = 228, 276
_ROW, _GAP = 48, 26
_DESCRIPTOR_WIDTH = _DRAWN - _MARGIN - _DESCRIPTOR_LEFT


@dataclass(frozen=True)
class DrawnWalk:
    """One stage of a walk, for drawing.

    Attributes:
        label: what is translated, ``VA`` or ``IPA``.
        address: its value.
        levels: descriptors in the order they were read.
        tables: what they are.
        cause: what denies the access that is asked about, or ``None``.
    """

    label: str
    address: int
    levels: tuple[WalkLevel, ...]
    tables: Tables
    cause: Cause | None


@dataclass(frozen=True)
class WalkEnd:
    """Where one stage of a walk ends.

    Attributes:
        label: what it leads to, ``PA`` or ``IPA``.
        address: its value, ``None`` when there is none.
        outcome: what becomes of the access.
        faults: whether it fails.
        rights: what may be done there; ``None`` where a further stage decides.
        details: size and memory type.
    """

    label: str
    address: int | None
    outcome: str
    faults: bool = False
    rights: Rights | None = None
    details: tuple[str, ...] = ()


def outcome_text(access: Access, fault: Fault | None) -> str:
    """What becomes of an access, in a few words."""
    return f"the {access.value} succeeds" if fault is None else f"the {access.value} takes {with_article(fault.text)}"


def output_details(page_size: int | None, leaf_level: int | None, memory_type: str | None) -> tuple[str, ...]:
    """Size and type of a leaf, for the last box."""
    kind = "page" if leaf_level == 3 else "block"
    size = () if page_size is None else (f"{size_text(page_size)} {kind}",)
    return (*size, *((memory_type,) if memory_type else ()))


def draw_walk(walk: DrawnWalk, end: WalkEnd) -> Markup:
    """The drawing."""
    form = walk.tables.form
    parts: list[Markup] = [text(_MARGIN, 16, f"{walk.label} {walk.address:#018x}", "heading")]
    marked = None if walk.cause is None or walk.levels else _marked_input(walk)
    strip = bit_strip(_MARGIN, 16, walk.address, address_fields(form), marked, "this is out of range" if marked else "")
    parts.append(strip.content)
    y = 16 + strip.height + 14
    previous: float | None = None
    for level in walk.levels:
        if previous is not None:
            parts.append(_link(previous, y))
        drawn, height = _level(walk, level, y)
        parts.append(drawn)
        previous = y
        y += height + _GAP
    if previous is not None:
        parts.insert(0, _last_link(previous, y))  # below the strip that it passes
    parts.append(_end(end, y))
    return drawing(_DRAWN, y + _ROW + 4, f"The walk of {walk.address:#x}", parts)


def _marked_input(walk: DrawnWalk) -> tuple[int, int] | None:
    outside = walk.cause is not None and walk.cause.field in ("T0SZ", "T1SZ") and walk.tables.form.input_bits < 64
    return (63, walk.tables.form.input_bits) if outside else None


def _level(walk: DrawnWalk, level: WalkLevel, y: float) -> tuple[Markup, float]:
    """A table, its entry and the descriptor in it; and the height of that."""
    form, tables = walk.tables.form, walk.tables
    cause = walk.cause
    decides = cause is not None and cause.address == level.address
    index = form.index(walk.address, level.level)
    address = level.address if level.ipa is None else level.ipa
    shift = form.shift(level.level)
    class_ = f"level{max(level.level, 0)}"
    parts = [
        box(_MARGIN, y, _TABLE_WIDTH, _ROW, f"table {class_}"),
        text(_MARGIN + 8, y + 15, f"level {level.level} table  {address - 8 * index:#x}"),
        box(_MARGIN + 6, y + 23, _TABLE_WIDTH - 12, 19, f"entry {class_}"),
        text(
            _MARGIN + 12,
            y + 36,
            f"bits {shift + form.index_bits(level.level) - 1}:{shift} = {index:#x}, entry {index}",
        ),
        path(f"M{_MARGIN + _TABLE_WIDTH} {y + 32}H{_DESCRIPTOR_LEFT - 2}", "arrow", marker_end="url(#tip)"),
    ]
    parts += _descriptor(level, y, decides)
    height = float(_ROW)
    if level.descriptor is not None and (decides or level.kind in LEAF_KINDS):
        marked = (cause.bit, cause.bit) if decides and cause is not None and cause.bit is not None else None
        fields = descriptor_fields(tables, level.kind, level.level)
        remark = (
            "" if marked is None else _remark(level.descriptor, marked[0], [(f.msb, f.lsb, f.name) for f in fields])
        )
        strip = bit_strip(_MARGIN, y + _ROW, level.descriptor, fields, marked, remark)
        parts.append(strip.content)
        height += strip.height + 4
    return group(*parts), height


def _remark(descriptor: int, position: int, fields: Sequence[tuple[int, int, str]]) -> str:
    name = next((name for msb, lsb, name in fields if lsb <= position <= msb), "")
    return f"bit {position}{f', {name},' if name else ''} is {descriptor >> position & 1}: this decides"


def _descriptor(level: WalkLevel, y: float, decides: bool) -> list[Markup]:
    value = "unreadable" if level.descriptor is None else f"{level.descriptor:#018x}"
    leads = f" → {level.output:#x}" if level.output is not None else ""
    notes = f"at {level.address:#x}" + (f"  set: {' '.join(level.notes)}" if level.notes else "")
    first = f"{value}  {level.kind.value}{leads}"
    width = _DESCRIPTOR_WIDTH - 16
    return [
        box(_DESCRIPTOR_LEFT, y, _DESCRIPTOR_WIDTH, _ROW, "descriptor bad" if decides else "descriptor"),
        text(_DESCRIPTOR_LEFT + 8, y + 19, shortened(first, width), "strong"),
        text(_DESCRIPTOR_LEFT + 8, y + 37, shortened(notes, width)),
    ]


def _link(from_row: float, to_row: float) -> Markup:
    """From a descriptor to the next table: down the gutter between the two columns."""
    x, start, end = _DESCRIPTOR_LEFT - 18, from_row + 12, to_row + 12
    return path(
        f"M{_DESCRIPTOR_LEFT} {start:g}H{x + 6}Q{x} {start:g} {x} {start + 6:g}V{end - 6:g}"
        f"Q{x} {end:g} {x - 6} {end:g}H{_MARGIN + _TABLE_WIDTH + 3}",
        "arrow",
        marker_end="url(#tip)",
    )


def _last_link(from_row: float, to_row: float) -> Markup:
    x, start = _DESCRIPTOR_LEFT - 18, from_row + 12
    down = f"M{_DESCRIPTOR_LEFT} {start:g}H{x + 6}Q{x} {start:g} {x} {start + 6:g}V{to_row - 2:g}"
    return path(down, "arrow", marker_end="url(#tip)")


def _end(end: WalkEnd, y: float) -> Markup:
    """The output address with its rights, or that there is none."""
    parts = [box(_MARGIN, y, _DRAWN - 2 * _MARGIN, _ROW, f"result {'bad' if end.faults else 'good'}")]
    where = "no output address" if end.address is None else f"{end.label} {end.address:#x}"
    parts.append(text(_MARGIN + 8, y + 19, ", ".join((where, *end.details)), "strong"))
    said = ""
    if end.rights is not None:
        rights = (("read", end.rights.read), ("write", end.rights.write), ("execute", end.rights.execute))
        said = "   ".join(f"{name} {'yes' if right.allowed else 'NO'}" for name, right in rights)
        parts.append(text(_DRAWN - _MARGIN - 8, y + 37, said, "end"))
    width = _DRAWN - 2 * _MARGIN - 24 - len(said) * CHARACTER
    outcome = shortened(f"{'✕' if end.faults else '✓'} {end.outcome}", width)
    parts.append(text(_MARGIN + 8, y + 37, outcome, "bad" if end.faults else "good"))
    return group(*parts)
