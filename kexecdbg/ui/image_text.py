"""A loaded image as text: the verdict of the audit first, what was found, then the image itself."""

from __future__ import annotations

from collections.abc import Iterator

from kexecdbg.checks.image_view import Destination, KimageView
from kexecdbg.kexec.defects import AreaKind, Defect, DefectKind
from kexecdbg.kexec.page_list import PageCopy
from kexecdbg.ui.style import Style, hanging
from kexecdbg.ui.verdict_text import finding_text

_COLUMN = 13
_SHOWN = 16
_MIB = 1 << 20


def image_text(view: KimageView, style: Style, *, whole_list: bool = False, picture: str = "") -> str:
    """What kexec-image prints; ``whole_list`` shows every run of the page list, a ``picture`` replaces the details."""
    if picture:
        found = [*(finding_text(each, style) for each in view.findings), *_defects(view, style)]
        return "\n".join([_headline(view, style), *found, *_list(view, style)[:1], "", picture])
    lines = [
        _headline(view, style),
        *(finding_text(each, style) for each in view.findings),
        *_defects(view, style),
        hanging("argument", f"{view.argument.layout.name}, at {view.argument.address:#x}", _COLUMN, style),
        *_segments(view, style),
        *_list(view, style),
        *_listed("destinations", [_destination(each) for each in view.destinations], style),
        *_areas(view, style),
        *_control_pages(view, style),
    ]
    if whole_list:
        lines += _runs(view, style)
    lines += _clauses("assumed", view.assumptions, style)
    lines += _clauses("not checked", view.unchecked, style)
    more = "" if whole_list or not view.runs else "kexec-image --list  every run of the page list"
    return "\n".join([*lines, *([hanging("next", more, _COLUMN)] if more else [])])


def _headline(view: KimageView, style: Style) -> str:
    summary = view.summary
    if not view.sound:
        label, what = style.bad("BROKEN:"), "the relocation of this image will fail"
    elif view.in_place:
        label, what = style.good("SOUND:"), "nothing to relocate, the image lies where it will run"
    else:
        size = summary.copies * view.pages.page_size / _MIB
        label, what = (
            style.good("SOUND:"),
            f"{summary.copies} page{'' if summary.copies == 1 else 's'} to copy, {size:.1f} MiB",
        )
        hazards = dict.fromkeys(each.id for each in view.findings if each.severity.value == "hazard")
        if hazards:
            label, what = style.warn("HAZARDS:"), f"{', '.join(hazards)}; {what}"
        elif "K06" not in view.applied:
            what += "; not everything could be checked"
    return f"{label} {what}"


def _defects(view: KimageView, style: Style) -> Iterator[str]:
    """The defects of the list that no rule has told about."""
    for defect in view.audit.defects:
        if "K06" in view.applied and defect.kind is not DefectKind.CONTROL_OVERWRITTEN:
            continue
        yield hanging("list", _defect(defect), _COLUMN, style)


def _defect(defect: Defect) -> str:
    first = defect.first
    area = f": {defect.area.name}" if defect.area is not None else ""
    at = f" at {first.address:#x}" if first.address is not None else ""
    return (
        f"it {defect.kind.value}{area}; first by entry {first.index}{at}, page {first.page:#x} ({defect.count} in all)"
    )


def _segments(view: KimageView, style: Style) -> list[str]:
    if view.segments is None:
        return []
    texts = [
        f"{each.start:#x}-{each.end - 1:#x}  {each.memory_size:#x} bytes, {each.buffer_size:#x} of them loaded"
        for each in view.segments
        if each.memory_size
    ]
    return _listed("segments", texts, style)


def _list(view: KimageView, style: Style) -> list[str]:
    summary = view.summary
    runs = "1 run" if len(view.runs) == 1 else f"{len(view.runs)} runs"
    pages = "1 list page" if summary.list_pages == 1 else f"{summary.list_pages} list pages"
    text = f"{summary.copies} page{'' if summary.copies == 1 else 's'} in {runs}, {summary.entries} entries in {pages}"
    if summary.in_place:
        text += f"; {summary.in_place} pages stay where they are"
    lines = [hanging("page list", text, _COLUMN, style)]
    if summary.first is not None and summary.last is not None:
        lines += [hanging("", f"first {_copy(summary.first)}", _COLUMN)]
        lines += [hanging("", f"last  {_copy(summary.last)}", _COLUMN)]
    return lines


def _copy(copy: PageCopy) -> str:
    return f"{copy.source:#x} to {copy.destination:#x}"


def _destination(each: Destination) -> str:
    text = f"{each.start:#x}-{each.end - 1:#x}"
    if each.va is None or each.mapped is None:
        return text
    size = each.end - each.start
    rights = "writable" if each.mapped == size else f"only {each.mapped:#x} of {size:#x} bytes writable"
    return f"{text}  at {each.va:#x}, {rights}"


def _areas(view: KimageView, style: Style) -> list[str]:
    texts = [f"{area.start:#x}  {area.name}" for area in view.areas if area.kind is not AreaKind.TABLES]
    by_name: dict[str, list[int]] = {}
    for area in view.areas:
        if area.kind is AreaKind.TABLES:
            by_name.setdefault(area.name.removeprefix("a table of "), []).append(area.start)
    for name, starts in by_name.items():
        count = "1 table" if len(starts) == 1 else f"{len(starts)} tables"
        texts.append(f"{min(starts):#x}-{max(starts):#x}  {count} of {name}")
    return _listed("in use", texts, style)


def _control_pages(view: KimageView, style: Style) -> list[str]:
    if view.control_pages is None:
        return []
    ranges = view.control_pages.ranges
    text = f"{view.control_pages.pages} pages, {ranges[0][0]:#x}-{ranges[-1][1] - 1:#x}, in {len(ranges)} ranges"
    return [hanging("control", text, _COLUMN, style)]


def _runs(view: KimageView, style: Style) -> list[str]:
    return [
        (style.bold("runs") + " " * (_COLUMN - 4) if not index else " " * _COLUMN)
        + f"{run.source:#x} to {run.destination:#x}  {run.pages} pages"
        for index, run in enumerate(view.runs)
    ]


def _listed(label: str, texts: list[str], style: Style) -> list[str]:
    lines = [
        hanging(label if not index else "", text, _COLUMN, None if index else style)
        for index, text in enumerate(texts[:_SHOWN])
    ]
    if len(texts) > _SHOWN:
        lines.append(" " * _COLUMN + f"and {len(texts) - _SHOWN} more; --json has all")
    return lines


def _clauses(label: str, clauses: tuple[str, ...], style: Style) -> list[str]:
    return [
        hanging(label if not index else "", text, _COLUMN, None if index else style)
        for index, text in enumerate(clauses)
    ]
