"""The walk of one address as a JSON document; the keys are kept for ever."""

from __future__ import annotations

from kexecdbg.arm64.descent import WalkLevel
from kexecdbg.arm64.faults import Access, Fault
from kexecdbg.arm64.rights import Rights
from kexecdbg.arm64.stage2 import Stage2Walk
from kexecdbg.arm64.syndromes import abort_esr
from kexecdbg.arm64.walk_result import Walk
from kexecdbg.ui.json_form import Json, number


def walk_json(result: Walk) -> Json:
    """The walk of one address; rights are those of the regime's own exception level, ``user`` those of EL0."""
    rights = result.privileged
    return {
        "va": number(result.va),
        "regime": result.regime.value,
        "mmu": result.enabled,
        "levels": [_level(level) for level in result.levels],
        "table_access": _table_access(result),
        "ipa": number(result.ipa),
        "stage2": stage2_json(result.stage2) if result.stage2 else None,
        "result": {
            "pa": number(result.pa),
            **_rights(rights),
            "user": None if result.user is None else _rights(result.user) | {"because": _because(result.user)},
            "page_size": result.page_size,
            "memory_type": result.memory_type.text if result.memory_type else None,
            "shareability": result.shareability.text if result.shareability else None,
            "fault": None if result.fault is None else _fault(result.fault, Access.READ),
            "faults": {access.value: _access_fault(result, access) for access in Access},
            "because": _because(rights),
        },
        "unknown": result.unknown,
        "hidden_from_debugger": list(result.debugger_hides),
        "warnings": [cause.text for cause in result.warnings],
        "assumptions": list(result.assumptions),
    }


def stage2_json(result: Stage2Walk) -> Json:
    """The stage 2 walk of one intermediate physical address; rights are those of EL1, ``user`` those of EL0."""
    return {
        "ipa": number(result.ipa),
        "regime": "stage 2",
        "levels": [_level(level) for level in result.levels],
        "result": {
            "pa": number(result.pa),
            **_rights(result.privileged),
            "user": _rights(result.user) | {"because": _because(result.user)},
            "because": _because(result.privileged),
            "page_size": result.page_size,
            "memory_type": result.memory_type.text if result.memory_type else None,
            "fault": None
            if result.fault is None
            else {
                "fsc": number(result.fault.fsc),
                "text": result.fault.text,
                "cause": result.fault.cause.text,
                "hpfar": number(result.fault.hpfar),
            },
        },
        "warnings": [cause.text for cause in result.warnings],
        "assumptions": list(result.assumptions),
    }


def _level(level: WalkLevel) -> Json:
    return {
        "level": level.level,
        "address": number(level.address),
        "descriptor": number(level.descriptor),
        "kind": level.kind.name.lower(),
        "output": number(level.output),
        "attributes": list(level.notes),
    }


def _rights(rights: Rights) -> Json:
    return {"read": rights.read.allowed, "write": rights.write.allowed, "execute": rights.execute.allowed}


def _because(rights: Rights) -> Json:
    return {"read": rights.read.because, "write": rights.write.because, "execute": rights.execute.because}


def _table_access(result: Walk) -> Json | None:
    if result.table_access is None:
        return None
    memory_type, shareability = result.table_access
    return {"memory_type": memory_type.text, "shareability": shareability.text}


def _access_fault(result: Walk, access: Access) -> Json | None:
    found = result.fault_for(access)
    return None if found is None else _fault(found, access)


def _fault(found: Fault, access: Access) -> Json:
    """A fault as an access from the regime's own exception level takes it."""
    return {
        "esr": number(abort_esr(found, access)),
        "hpfar": number(found.hpfar),
        "text": found.text,
        "cause": found.cause.text,
        "level": found.level,
        "stage": found.stage,
        "bit": found.cause.bit,
        "address": number(found.cause.address),
    }
