"""The JSON documents that others rely on; the keys are kept for ever."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from kexecdbg.arm64.faults import Access, Fault
from kexecdbg.arm64.syndromes import abort_esr
from kexecdbg.checks.finding import DescriptorRepair, Finding, Repair

# Whoever has one of these to show has imported it; for the others the start is faster without.
if TYPE_CHECKING:
    from kexecdbg.arm64.descent import WalkLevel
    from kexecdbg.arm64.ranges import MappedRange, TableScan
    from kexecdbg.arm64.registers.comparison import Comparison
    from kexecdbg.arm64.registers.model import DecodedRegister
    from kexecdbg.arm64.rights import Rights
    from kexecdbg.arm64.stage2 import Stage2Walk
    from kexecdbg.arm64.walk_result import Walk
    from kexecdbg.checks.prediction import ExceptionRecord, Place, Prediction
    from kexecdbg.checks.stepping import Observation, StepRecord
    from kexecdbg.checks.verdict import Verdict

Json = dict[str, Any]


def number(value: int | None) -> str | None:
    """An address or register value as JSON shows it: ``"0x..."``, or null when it is unknown."""
    return None if value is None else f"{value:#x}"


def decoded_register(decoded: DecodedRegister) -> Json:
    """One register, field by field."""
    return {
        "value": number(decoded.value),
        "layout": decoded.layout,
        "fields": [
            {"name": f.name, "msb": f.msb, "lsb": f.lsb, "value": f.value, "meaning": f.meaning} for f in decoded.fields
        ],
        "findings": [{"kind": f.kind, "msb": f.msb, "lsb": f.lsb, "text": f.text} for f in decoded.findings],
        "assumptions": list(decoded.assumptions),
    }


def comparison(compared: Comparison) -> Json:
    """The first value as any register; the second under ``other``; what differs under ``differences``."""
    return {
        **decoded_register(compared.first),
        "other": {"name": compared.second.name, **decoded_register(compared.second)},
        "differences": [
            {
                "name": change.field.name,
                "msb": change.field.msb,
                "lsb": change.field.lsb,
                "value": change.first.value if change.first else None,
                "meaning": change.first.meaning if change.first else None,
                "other_value": change.second.value if change.second else None,
                "other_meaning": change.second.meaning if change.second else None,
            }
            for change in compared.changes
        ],
        "other_bits": compared.other_bits,
    }


def walk(result: Walk) -> Json:
    """The walk of one address; rights are those of the regime's own exception level, ``user`` those of EL0."""
    rights = result.privileged
    return {
        "va": number(result.va),
        "regime": result.regime.value,
        "mmu": result.enabled,
        "levels": [_level(level) for level in result.levels],
        "table_access": _table_access(result),
        "ipa": number(result.ipa),
        "stage2": stage2_walk(result.stage2) if result.stage2 else None,
        "result": {
            "pa": number(result.pa),
            **_rights(rights),
            "user": None if result.user is None else _rights(result.user) | {"because": _because(result.user)},
            "page_size": result.page_size,
            "memory_type": result.memory_type.text if result.memory_type else None,
            "shareability": result.shareability.text if result.shareability else None,
            "fault": None if result.fault is None else fault(result.fault, Access.READ),
            "faults": {access.value: _access_fault(result, access) for access in Access},
            "because": _because(rights),
        },
        "unknown": result.unknown,
        "hidden_from_debugger": list(result.debugger_hides),
        "warnings": [cause.text for cause in result.warnings],
        "assumptions": list(result.assumptions),
    }


def stage2_walk(result: Stage2Walk) -> Json:
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


def _table_access(result: Walk) -> Json | None:
    if result.table_access is None:
        return None
    memory_type, shareability = result.table_access
    return {"memory_type": memory_type.text, "shareability": shareability.text}


def _because(rights: Rights) -> Json:
    return {"read": rights.read.because, "write": rights.write.because, "execute": rights.execute.because}


def _access_fault(result: Walk, access: Access) -> Json | None:
    found = result.fault_for(access)
    return None if found is None else fault(found, access)


def table(scan: TableScan, ranges: Sequence[MappedRange]) -> Json:
    """A whole table; rights are those of the regime's own exception level, ``user`` those of EL0."""
    return {
        "regime": scan.regime.value if scan.regime else "stage 2",
        "register": scan.register,
        "root": number(scan.root),
        "ranges": [_range(item) for item in ranges],
        "entries": scan.entries,
        "tables": scan.tables,
        "output_is_ipa": scan.output_is_ipa,
        "problems": [
            {
                "kind": problem.kind.name.lower(),
                "text": problem.text,
                "level": problem.level,
                "address": number(problem.address),
                "descriptor": number(problem.descriptor),
                "va": number(problem.va),
                "target": number(problem.target),
            }
            for problem in scan.problems
        ],
        "problems_left_out": scan.problems_left_out,
        "warnings": [cause.text for cause in scan.warnings],
        "assumptions": list(scan.assumptions),
    }


def _range(item: MappedRange) -> Json:
    attributes = item.attributes
    return {
        "va": number(item.va),
        "end": number(item.end),
        "pa": number(item.pa),
        "page_size": item.page_size,
        "level": item.level,
        **asdict(item.privileged),
        "user": asdict(item.user) if item.user else None,
        "memory_type": item.memory_type.text if item.memory_type else None,
        "shareability": attributes.shareability.text if attributes.shareability else None,
        "access_flag": attributes.access_flag,
        "contiguous": attributes.contiguous,
        "guarded": attributes.guarded,
        "dirty_modifier": attributes.dirty_modifier,
        "not_global": attributes.not_global,
        "attributes": number(attributes.descriptor),
    }


def fault(found: Fault, access: Access) -> Json:
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


def exception(record: ExceptionRecord | None) -> Json | None:
    """An exception's syndrome registers."""
    if record is None:
        return None
    return {"esr": number(record.esr), "far": number(record.far), "elr": number(record.elr)}


def prediction(predicted: Prediction) -> Json:
    """What the CPU will do."""
    return {
        "first": exception(predicted.first),
        "then": exception(predicted.then),
        "outcome": predicted.outcome.name.lower(),
        "at": place(predicted.at),
    }


def place(at: Place | None) -> Json | None:
    """Where the predicted exception happens; of a CPU that runs on, how far its code was followed."""
    if at is None:
        return None
    return {
        "pc": number(at.address),
        "text": at.text,
        "access": at.access.value if at.access is not None else None,
        "address": number(at.target),
        "executed": at.executed,
    }


def repair(proposed: Repair | None) -> Json | None:
    """A repair, ready to be applied."""
    if proposed is None:
        return None
    common = {"old": number(proposed.old), "new": number(proposed.new), "text": proposed.text}
    if isinstance(proposed, DescriptorRepair):
        return {"kind": "write_descriptor", "address": number(proposed.address), **common}
    return {"kind": "write_register", "register": proposed.register, **common}


def finding(found: Finding) -> Json:
    """One finding of the catalogue."""
    small = {"level", "bit", "value", "start_level"}
    evidence = {
        key: number(value) if isinstance(value, int) and key not in small else value
        for key, value in found.evidence.items()
    }
    return {
        "id": found.id,
        "severity": found.severity.value,
        "text": found.text,
        "evidence": evidence,
        "repair": repair(found.repair),
        "consequence": found.is_consequence,
        "leads_to": exception(found.leads_to),
    }


def verdict(judged: Verdict) -> Json:
    """The verdict of kexec-check."""
    return {
        "verdict": judged.judgement.value,
        "site": number(judged.situation.site),
        "regime": judged.situation.regime.value,
        "el": judged.situation.el,
        "next_pc": number(judged.situation.next_pc),
        "ahead": len(judged.situation.approach),
        "findings": [finding(found) for found in judged.findings],
        "predicted": prediction(judged.prediction),
    }


def step(record: StepRecord) -> Json:
    """One executed instruction."""
    return {
        "pc": number(record.instruction.address),
        "text": record.instruction.text,
        "changes": {change.name: {"old": number(change.old), "new": number(change.new)} for change in record.changes},
    }


def observation(observed: Observation, judged: Verdict) -> Json:
    """What the CPU did, and whether it is what was predicted."""
    return {
        "first": exception(observed.first),
        "then": exception(observed.then),
        "followed": observed.followed,
        "steps": [step(record) for record in observed.steps],
        "agrees": observed.agrees_with(judged),
        "unread": observed.unread or None,
    }
