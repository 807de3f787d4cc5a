"""K06: the page list is broken, or overwrites what is still needed."""

from __future__ import annotations

from collections.abc import Iterator

from kexecdbg.checks.finding import Finding, Severity
from kexecdbg.checks.prediction import ExceptionRecord
from kexecdbg.checks.relocation import Relocation
from kexecdbg.checks.rule import Rule
from kexecdbg.checks.situation import Situation
from kexecdbg.kexec.defects import AreaKind, Defect, DefectKind, Occurrence

_SEVERITIES = {
    DefectKind.NO_FLAG: Severity.HAZARD,
    DefectKind.SEVERAL_FLAGS: Severity.HAZARD,
    DefectKind.ODD_BITS: Severity.HAZARD,
    DefectKind.OUTSIDE_SEGMENTS: Severity.HAZARD,
    DefectKind.SOURCE_WRITTEN_LATER: Severity.NOTE,
    DefectKind.LIST_WRITTEN_LATER: Severity.NOTE,
}
"""All others are fatal: the copy faults, never ends, or something else than the image arrives."""
_ENDS = frozenset({DefectKind.CYCLE, DefectKind.UNREADABLE, DefectKind.NO_END, DefectKind.TOO_LONG})
_PAGES_AHEAD = 64
"""How many pages behind the end of a list are looked at for the fault that stops the copy."""
_AREAS = frozenset({AreaKind.CODE, AreaKind.TABLES, AreaKind.STACK})
"""The argument and the vectors have entries of their own: K01 and K03."""


def _check(situation: Situation) -> Iterator[Finding]:
    relocation = situation.relocation
    if relocation is None:
        return
    overwritten: dict[AreaKind, list[Defect]] = {}
    for defect in relocation.audit.defects:
        if defect.kind in _ENDS:
            yield _of_end(relocation, defect)
        elif defect.area is None:
            yield _of_list(defect)
        elif defect.area.kind in _AREAS:
            overwritten.setdefault(defect.area.kind, []).append(defect)
    if not situation.finds_intended_code(situation.fetch):
        # Tables that do not even lead to the code are read wrong: what looks like one of them may be anything.
        overwritten.pop(AreaKind.TABLES, None)
    for defects in overwritten.values():
        yield _of_areas(defects)


def _of_end(relocation: Relocation, defect: Defect) -> Finding:
    """A list that does not end as it should, and the exception of reading on, where one is certain."""
    last = defect.first
    record = _reading_on(relocation, last.page)
    detail = f" ({defect.detail})" if defect.detail else ""
    return Finding(
        "K06",
        Severity.FATAL,
        f"The page list {defect.kind.value}. Its last one, {_place(last)}, leads to {last.page:#x}{detail}.",
        _evidence(defect, last),
        leads_to=record,
    )


def _reading_on(relocation: Relocation, address: int) -> ExceptionRecord | None:
    """The exception of reading entries from ``address`` on, page by page."""
    size = relocation.pages.page_size
    following = (address & ~(size - 1)) + size
    for place in (address, *range(following, following + _PAGES_AHEAD * size, size)):
        record = relocation.list_read_fault(place)
        if record is not None:
            return record
    return None


def _of_list(defect: Defect) -> Finding:
    first = defect.first
    more = f" ({defect.count} in all)" if defect.count > 1 else ""
    about = "" if first.entry is None else f": {first.page:#x}"
    return Finding(
        "K06",
        _SEVERITIES.get(defect.kind, Severity.FATAL),
        f"The page list {defect.kind.value}{about}. First: {_place(first)}{_writer(first)}{more}.",
        _evidence(defect, first),
    )


def _of_areas(defects: list[Defect]) -> Finding:
    """What is overwritten of one kind, in one finding; the page that is overwritten first counts."""
    defect = min(defects, key=lambda each: each.first.index)
    area, first = defect.area, defect.first
    assert area is not None
    count = sum(each.count for each in defects)
    more = f" ({count} such pages in all)" if count > 1 else ""
    return Finding(
        "K06",
        Severity.FATAL,
        f"Entry {first.writer} of the page list copies {first.writer_source or 0:#x} over {area.name} at "
        f"{max(area.start, first.page):#x}, which the relocation still needs{more}.",
        {**_evidence(defect, first), "count": count, "area": area.name},
    )


def _place(found: Occurrence) -> str:
    if found.entry is None:
        return f"{found.page:#x}"
    at = f"at {found.address:#x}" if found.address is not None else "(the head)"
    return f"entry {found.index} {at}, {found.entry:#x}"


def _writer(found: Occurrence) -> str:
    if found.writer is None:
        return ""
    return f"; entry {found.writer} copies {found.writer_source or 0:#x} there"


def _evidence(defect: Defect, first: Occurrence) -> dict[str, int | str | None]:
    return {
        "defect": defect.kind.name.lower(),
        "count": defect.count,
        "index": first.index,
        "address": first.address,
        "entry": first.entry,
        "page": first.page,
        "writer": first.writer,
        "writer_source": first.writer_source,
    }


RULE = Rule(
    "K06",
    "The page list is broken",
    "The relocation code follows the list without a look at it: a cycle never ends, a missing IND_DONE runs on through "
    "memory, a source that was a destination before is copied with the wrong contents, and a destination on top of the "
    "code, the tables or the list itself pulls the ground from under the copy. The kernel keeps all of this from "
    "happening when it builds the list; a bug, or memory corruption, does not.",
    (
        "Linux kernel/kexec_core.c: kimage_alloc_page(), kimage_add_entry(), sanity_check_segment_list(), "
        "kimage_is_destination_range()",
        "include/linux/kexec.h (IND_DESTINATION, IND_INDIRECTION, IND_DONE, IND_SOURCE)",
    ),
    _check,
    symptom="Silence after the copy, a hang in it, or a new kernel that crashes in different places.",
)
