"""A loaded image as a JSON document; the keys are kept for ever."""

from __future__ import annotations

from kexecdbg.checks.image_view import KimageView
from kexecdbg.kexec.defects import Defect, Occurrence
from kexecdbg.kexec.page_list import PageCopy
from kexecdbg.ui.json_form import Json, number
from kexecdbg.ui.verdict_json import finding_json


def image_json(view: KimageView) -> Json:
    """What kexec-image says."""
    summary = view.summary
    return {
        "sound": view.sound,
        "argument": {
            "layout": view.argument.layout.name,
            "source": view.argument.layout.source,
            "address": number(view.argument.address),
            "offsets": dict(view.argument.layout.offsets),
            "fields": {name: number(value) for name, value in view.argument.values.items()},
        },
        "segments": None
        if view.segments is None
        else [
            {
                "start": number(each.start),
                "end": number(each.end),
                "buffer": number(each.buffer),
                "buffer_size": each.buffer_size,
            }
            for each in view.segments
        ],
        "list": {
            "head": number(view.pages.head),
            "end": view.pages.end.name.lower(),
            "page_size": view.pages.page_size,
            "entries": summary.entries,
            "list_pages": [number(page.address) for page in view.pages.pages],
            "pages": summary.copies,
            "in_place": summary.in_place,
            "first": _copy(summary.first),
            "last": _copy(summary.last),
            "runs": [
                {
                    "entry": run.entry,
                    "source": number(run.source),
                    "destination": number(run.destination),
                    "pages": run.pages,
                }
                for run in view.runs
            ],
        },
        "destinations": [
            {"start": number(each.start), "end": number(each.end), "va": number(each.va), "mapped": each.mapped}
            for each in view.destinations
        ],
        "regime": None if view.regime is None else view.regime.value,
        "areas": [
            {"kind": area.kind.name.lower(), "name": area.name, "start": number(area.start), "end": number(area.end)}
            for area in view.areas
        ],
        "control_pages": None
        if view.control_pages is None
        else {
            "pages": view.control_pages.pages,
            "ranges": [{"start": number(start), "end": number(end)} for start, end in view.control_pages.ranges],
        },
        "audit": [_defect(defect) for defect in view.audit.defects],
        "findings": [finding_json(each) for each in view.findings],
        "applied": list(view.applied),
        "unchecked": list(view.unchecked),
        "assumptions": list(view.assumptions),
    }


def _copy(copy: PageCopy | None) -> Json | None:
    return None if copy is None else {"source": number(copy.source), "destination": number(copy.destination)}


def _defect(defect: Defect) -> Json:
    return {
        "kind": defect.kind.name.lower(),
        "text": f"the page list {defect.kind.value}",
        "count": defect.count,
        "area": None if defect.area is None else defect.area.name,
        "occurrences": [_occurrence(each) for each in defect.occurrences],
        "detail": defect.detail,
    }


def _occurrence(found: Occurrence) -> Json:
    return {
        "index": found.index,
        "address": number(found.address),
        "entry": number(found.entry),
        "page": number(found.page),
        "writer": found.writer,
        "writer_source": number(found.writer_source),
    }
