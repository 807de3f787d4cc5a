"""A driven relocation as a JSON document; the keys are kept for ever."""

from __future__ import annotations

from kexecdbg.checks.relocating.phases import relocation_share
from kexecdbg.checks.relocating.report import Report, Stop
from kexecdbg.kexec.page_contents import PageComparison, PageDifference
from kexecdbg.ui.json_form import Json, number
from kexecdbg.ui.verdict_json import verdict_json
from kexecdbg.ui.why_json import diagnosis_json


def relocation_json(report: Report, icount_shift: int | None = None) -> Json:
    """What kexec-relocate says."""
    turn = report.wrong_turn
    return {
        "outcome": report.outcome.name.lower(),
        "sound": report.sound,
        "argument": {"layout": report.argument.layout.name, "address": number(report.argument.address)},
        "code": number(report.code),
        "pages": report.pages,
        "copied": report.copied,
        "list_defects": [
            {
                "text": f"the list {defect.kind.value}",
                "area": None if defect.area is None else defect.area.name,
                "count": defect.count,
            }
            for defect in report.audit.defects
        ],
        "running_cpus": [
            {
                "cpu": cpu.number,
                "executes": number(cpu.executes),
                "overwritten": number(cpu.overwritten),
                "why": None if cpu.diagnosis is None else diagnosis_json(cpu.diagnosis),
            }
            for cpu in report.running_cpus
        ],
        "stops": [_stop(stop) for stop in report.stops],
        "verified": None if report.comparison is None else comparison_json(report.comparison),
        "boot": [{"name": check.name, "met": check.met, "text": check.text} for check in report.boot],
        "phases": [
            {
                "name": phase.name,
                "seconds": phase.seconds,
                "instructions": None if icount_shift is None else phase.instructions(icount_shift),
            }
            for phase in report.phases
        ],
        "relocation_share": relocation_share(report.phases),
        "wrong_turn": None if turn is None else {"text": turn.text, "why": diagnosis_json(turn.diagnosis)},
    }


def _stop(stop: Stop) -> Json:
    check = stop.check
    return {
        "landmark": stop.landmark.kind.name.lower(),
        "pc": number(stop.landmark.address),
        "text": stop.text,
        "el": stop.el,
        "mmu": stop.mmu,
        "switch": None
        if check is None
        else {
            "register": check.register,
            "value": number(check.value),
            "mmu": check.mmu,
            "sound": check.sound,
            "check": None if check.verdict is None else verdict_json(check.verdict),
        },
    }


def comparison_json(comparison: PageComparison) -> Json:
    """Destination pages against what their sources held."""
    return {
        "pages": comparison.pages,
        "superseded": comparison.superseded,
        "differing": comparison.differing,
        "differences": [_difference(item) for item in comparison.differences],
    }


def _difference(item: PageDifference) -> Json:
    return {
        "copy": item.copy,
        "source": number(item.source),
        "destination": number(item.destination),
        "offset": number(item.offset),
        "expected": f"{item.expected:#04x}",
        "found": f"{item.found:#04x}",
        "differing_bytes": item.differing_bytes,
    }
