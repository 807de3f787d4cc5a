"""What the report says of the kexec relocation that the code at hand carries out."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from kexecdbg.arm64.interfaces import PhysicalMemory
from kexecdbg.checks.image_entry import argument_here
from kexecdbg.checks.image_view import KimageView, view_image
from kexecdbg.kexec.defects import HARMLESS, Defect
from kexecdbg.machine.state import CpuState
from kexecdbg.ui.report.relocation_map import overlaps, relocation_map
from kexecdbg.ui.report.words import counted
from kexecdbg.ui.table_text import size_text

MOST_RUNS = 100
_MOST_OVERLAPS = 12


@dataclass(frozen=True)
class RunView:
    """Pages that are copied in a row."""

    entry: int
    pages: str
    source: str
    destination: str


@dataclass(frozen=True)
class RelocationView:
    """A relocation, for the page.

    Attributes:
        summary: what is copied, in a sentence.
        argument: where the relocation code gets it from.
        map: the drawing; ``None`` when nothing is copied.
        overlaps: memory that is filled and used otherwise too.
        more_overlaps: how many of them are not listed.
        defects: what is wrong with the list, and whether that harms.
        runs: the copies, capped.
        more: how many runs are not listed.
        unchecked: what could not be checked.
    """

    summary: str
    argument: str
    map: Markup | None
    overlaps: tuple[str, ...]
    more_overlaps: int
    defects: tuple[tuple[str, bool], ...]
    runs: tuple[RunView, ...]
    more: int
    unchecked: tuple[str, ...]


def relocation_view(state: CpuState, memory: PhysicalMemory) -> RelocationView | None:
    """The relocation that the code at the PC carries out; ``None`` when it carries out none.

    Raises:
        KexecdbgError: there is one, and it cannot be read.
    """
    argument = argument_here(state, memory)
    return None if argument is None else _view(view_image(state, memory, argument))


def _view(view: KimageView) -> RelocationView:
    summary, size = view.summary, view.pages.page_size
    lists = f"{counted(summary.entries, 'entry', 'entries')} in {counted(summary.list_pages, 'list page')}"
    places = counted(len(view.destinations), "stretch", "stretches")
    said = f"{counted(summary.copies, 'page')} of {size_text(size)} {'is' if summary.copies == 1 else 'are'} copied"
    if summary.in_place:
        said += f", {summary.in_place:,} of them onto themselves"
    found = overlaps(view)
    return RelocationView(
        summary=f"{said}, in {counted(len(view.runs), 'run')}, to {places} of memory; the list has {lists}.",
        argument=f"{view.argument.layout.name} at {view.argument.address:#x}",
        map=relocation_map(view) if view.runs else None,
        overlaps=tuple(
            f"{each.start:#x} to {each.end - 1:#x} is filled, and is {each.text}" for each in found[:_MOST_OVERLAPS]
        ),
        more_overlaps=max(0, len(found) - _MOST_OVERLAPS),
        defects=tuple((_defect(defect), defect.kind in HARMLESS) for defect in view.audit.defects),
        runs=tuple(
            RunView(
                run.entry,
                "" if run.pages == 1 else counted(run.pages, "page"),
                f"{run.source:#x}",
                f"{run.destination:#x}",
            )
            for run in view.runs[:MOST_RUNS]
        ),
        more=max(0, len(view.runs) - MOST_RUNS),
        unchecked=view.unchecked,
    )


def _defect(defect: Defect) -> str:
    times = "" if defect.count == 1 else f", {defect.count:,} times"
    area = f": {defect.area.name}" if defect.area is not None else ""
    detail = f"; {defect.detail}" if defect.detail else ""
    first = defect.first
    return f"The list {defect.kind.value}{area}{times}; first entry {first.index}, page {first.page:#x}{detail}."
