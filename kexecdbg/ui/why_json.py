"""Why a CPU is stuck as a JSON document; the keys are kept for ever."""

from __future__ import annotations

from kexecdbg.checks.fixing import RepairPlan
from kexecdbg.checks.stuck.diagnosis import Diagnosis
from kexecdbg.checks.stuck.origin import Origin
from kexecdbg.checks.stuck.syndrome import HeldSyndrome
from kexecdbg.checks.stuck.watch import Watch
from kexecdbg.ui.json_form import Json, number
from kexecdbg.ui.verdict_json import exception_json, repair_json, verdict_json


def diagnosis_json(found: Diagnosis, watched: Watch | None = None) -> Json:
    """What kexec-why says about one CPU."""
    return {
        "stuck": found.stuck,
        "condition": found.condition.name.lower(),
        "text": f"the CPU {found.condition.value}",
        "reason": found.reason or None,
        "pc": number(found.pc),
        "pstate": number(found.pstate),
        "regime": found.regime.value,
        "mmu": found.mmu_on,
        "vector": None
        if found.entry is None
        else {
            "register": found.entry.vbar,
            "offset": number(found.entry.offset),
            "kind": found.entry.kind,
            "source": found.entry.source,
        },
        "code": [
            {"pc": number(item.address), "text": item.text}
            for item in (found.loop.instructions if found.loop else (found.instruction,))
            if item is not None
        ],
        "syndrome": None if found.syndrome is None else _held_syndrome(found.syndrome),
        "lost": list(found.lost),
        "switch": None if found.origin is None else _origin(found.origin),
        "searched": None
        if found.search is None
        else {
            "bytes": found.search.searched.size,
            "everything": found.search.searched.everything,
            "undecided": [number(address) for address in found.search.undecided],
        },
        "suspects": [
            {"va": number(item.va), "end": number(item.end), "pa": number(item.pa), "level": item.level}
            for item in found.suspects
        ],
        "watched": None if watched is None else _watch(watched),
    }


def _held_syndrome(held: HeldSyndrome) -> Json:
    return {
        "el": held.el,
        "standing": held.standing.name.lower(),
        **(exception_json(held.record) or {}),
        "spsr": number(held.spsr),
        "source_el": held.source_el,
        "meaning": held.meaning or None,
    }


def _origin(origin: Origin) -> Json:
    plan = origin.repair if isinstance(origin.repair, RepairPlan) else None
    return {
        "site": number(origin.instruction.address),
        "text": origin.instruction.text,
        "explains": origin.explains,
        "also": [number(address) for address in origin.also],
        "or_later": [number(address) for address in origin.or_later],
        "check": verdict_json(origin.verdict),
        "first": exception_json(origin.first),
        "repairs": [repair_json(item) for item in plan.repairs] if plan else [],
        "not_repaired": None if plan else origin.repair,
    }


def _watch(watched: Watch) -> Json:
    return {
        "steps": watched.steps,
        "samples": [
            {"pc": number(sample.pc), "esr": number(sample.esr), "far": number(sample.far), "elr": number(sample.elr)}
            for sample in watched.samples
        ],
        "exceptions": len(watched.exceptions),
        "period": watched.period,
    }
