"""A page list drawn: which runs go where, and RAM as strips of what lies where; 80 columns."""

from __future__ import annotations

from collections.abc import Iterator

from kexecdbg.checks.page_map import Cell, Flow, Lane, PageMap, Strip
from kexecdbg.ui.address_map_text import rounded
from kexecdbg.ui.style import Style, hanging

COLUMNS = 64
"""Cells in a strip."""
_COLUMN = 14
_MOST_FLOWS = 12
_MOST_OVERLAPS = 8
_LINES = {Cell.OUTSIDE: " ", Cell.NONE: "·", Cell.PART: "▒", Cell.ALL: "█"}
_ASCII = {Cell.OUTSIDE: " ", Cell.NONE: ".", Cell.PART: "+", Cell.ALL: "#"}
_OVERLAP = "!"


def page_map_text(drawn: PageMap, page_size: int, style: Style, *, ascii_only: bool = False) -> str:
    """The drawing; with ``ascii_only`` in characters that every terminal has."""
    cells, arrow = (_ASCII, "-->") if ascii_only else (_LINES, "──►")
    lines = [style.bold(f"{'sources':<52} destinations")] if drawn.flows else ["no page is copied"]
    lines += [_flow(flow, page_size, arrow) for flow in drawn.flows[:_MOST_FLOWS]]
    if len(drawn.flows) > _MOST_FLOWS:
        rest = drawn.flows[_MOST_FLOWS:]
        pages = sum(flow.end - flow.start for flow in rest) // page_size
        lines.append(f"and {pages} pages to {len(rest)} more places; --json has all")
    for strip in drawn.strips:
        lines += ["", *_strip(strip, cells, style)]
    lines.append("")
    if drawn.ram is None:
        lines.append(hanging("RAM", "the machine does not tell where it is", _COLUMN))
    else:
        lines.append(hanging("RAM", ", ".join(f"{start:x}-{end - 1:x}" for start, end in drawn.ram), _COLUMN))
    lines += list(_overlaps(drawn, style))
    legend = f"{cells[Cell.ALL]} all of a column, {cells[Cell.PART]} some, {cells[Cell.NONE]} none of it; blank: no RAM"
    lines.append(style.dim(hanging("legend", legend, _COLUMN)))
    return "\n".join(lines)


def _flow(flow: Flow, page_size: int, arrow: str) -> str:
    pages = (flow.end - flow.start) // page_size
    count = f"{pages} page{'s' if pages > 1 else ''}" + (f" in {flow.runs} runs" if flow.runs > 1 else "")
    source = f"{flow.lowest:x}-{flow.highest - 1:x}"
    if flow.lowest == flow.start and flow.highest == flow.end and flow.runs == 1:
        return f"{source:<25} {count:<22} stay where they are"
    return f"{source:<25} {count:<22} {arrow} {flow.start:x}-{flow.end - 1:x}"


def _strip(strip: Strip, cells: dict[Cell, str], style: Style) -> Iterator[str]:
    size = f"{strip.start:x}-{strip.end - 1:x}, {rounded(strip.end - strip.start)}; a column is {rounded(strip.cell)}"
    yield style.bold(size)
    for lane, used in strip.lanes:
        shown = "".join(cells[each] for each in used)
        if lane is Lane.OVERLAPS:
            shown = "".join(_OVERLAP if each in (Cell.PART, Cell.ALL) else cells[each] for each in used)
            yield style.bad(f"{lane.value:<{_COLUMN}}{shown}")
        else:
            yield f"{lane.value:<{_COLUMN}}{shown}"


def _overlaps(drawn: PageMap, style: Style) -> Iterator[str]:
    for index, ((start, end), lane) in enumerate(drawn.overlaps[:_MOST_OVERLAPS]):
        text = f"{start:x}-{end - 1:x} is a destination, and {_COVERED.get(lane, 'the ' + lane.value)}"
        yield style.warn(hanging("overlaps" if not index else "", text, _COLUMN))
    if len(drawn.overlaps) > _MOST_OVERLAPS:
        yield f"{'':{_COLUMN}}and {len(drawn.overlaps) - _MOST_OVERLAPS} more"


_COVERED = {
    Lane.SOURCES: "a source; the order of the list decides",
    Lane.LIST: "a page of the list; the order decides",
    Lane.CODE: "the relocation code",
    Lane.TABLES: "a table in use",
    Lane.VECTORS: "the vectors in use",
    Lane.STACK: "the stack",
    Lane.CONTROL: "a control page",
}
