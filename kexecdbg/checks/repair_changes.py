"""What a repair changes: which descriptor or register, at which level, and which of its fields."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from kexecdbg.arm64.bits import bits, field_mask
from kexecdbg.arm64.descent import WalkLevel
from kexecdbg.arm64.descriptors import (
    ONE_RANGE_NAMES,
    TABLE_BIT,
    TWO_RANGE_NAMES,
    VALID_BIT,
    DescriptorKind,
)
from kexecdbg.arm64.regimes import Regime
from kexecdbg.arm64.registers import decode
from kexecdbg.arm64.registers.comparison import compare
from kexecdbg.checks.finding import DescriptorRepair, RegisterRepair, Repair
from kexecdbg.checks.situation import Situation
from kexecdbg.checks.verdict import Verdict

_LEAF_FIELDS = (("AttrIndx", 4, 2), ("NS", 5, 5), ("SH", 9, 8))
_ANY_FIELDS = (("valid", VALID_BIT, VALID_BIT), ("type", TABLE_BIT, TABLE_BIT), ("address", 47, 12))
"""Fields of VMSAv8-64 descriptors that are not attribute bits (Arm ARM D8.3.1, D8.3.2): name, msb, lsb."""


@dataclass(frozen=True)
class ChangedField:
    """A field whose value changes; ``name`` is ``None`` for a bit that has no meaning there."""

    name: str | None
    msb: int
    lsb: int
    old: int
    new: int


@dataclass(frozen=True)
class RepairChange:
    """A repair with what it changes.

    Attributes:
        repair: the write.
        findings: ids of the findings that it cures.
        level: of the descriptor's table; ``None`` for a register, and where no walk of the verdict came by it.
        fields: what changes, from the highest bit down.
    """

    repair: Repair
    findings: tuple[str, ...]
    level: int | None
    fields: tuple[ChangedField, ...]


def repair_change(verdict: Verdict, repair: Repair) -> RepairChange:
    """What ``repair``, one of the ``verdict``'s, changes."""
    situation = verdict.situation
    findings = tuple(dict.fromkeys(finding.id for finding in verdict.findings if finding.repair == repair))
    if isinstance(repair, RegisterRepair):
        return RepairChange(repair, findings, None, _register_fields(repair, situation))
    level = _level_at(situation, repair.address)
    if level is None:
        evidence = next(
            (f.evidence.get("level") for f in verdict.findings if f.evidence.get("address") == repair.address), None
        )
        return RepairChange(
            repair,
            findings,
            evidence if isinstance(evidence, int) else None,
            descriptor_fields(repair, None, situation.regime),
        )
    return RepairChange(repair, findings, level.level, descriptor_fields(repair, level.kind, situation.regime))


def descriptor_fields(
    repair: DescriptorRepair, kind: DescriptorKind | None, regime: Regime
) -> tuple[ChangedField, ...]:
    """The fields of a descriptor of ``kind`` (``None``: not known, taken for a leaf) that ``repair`` changes."""
    names = TWO_RANGE_NAMES if regime.facts.two_ranges else ONE_RANGE_NAMES
    is_table = kind is DescriptorKind.TABLE
    attributes = names.table if is_table else names.leaf
    known = [*_ANY_FIELDS, *(() if is_table else _LEAF_FIELDS), *((name, at, at) for at, name in attributes.items())]
    return tuple(sorted(_changed(repair.old, repair.new, known), key=lambda field: -field.msb))


def _changed(old: int, new: int, known: Iterable[tuple[str, int, int]]) -> Iterator[ChangedField]:
    rest = old ^ new
    for name, msb, lsb in known:
        if bits(rest, msb, lsb):
            yield ChangedField(name, msb, lsb, bits(old, msb, lsb), bits(new, msb, lsb))
        rest &= ~field_mask(msb, lsb)
    for position in range(64):
        if rest >> position & 1:
            yield ChangedField(None, position, position, old >> position & 1, new >> position & 1)


def _register_fields(repair: RegisterRepair, situation: Situation) -> tuple[ChangedField, ...]:
    first, second = (decode(repair.register, value, situation.after) for value in (repair.old, repair.new))
    return tuple(
        ChangedField(
            change.field.name,
            change.field.msb,
            change.field.lsb,
            bits(repair.old, change.field.msb, change.field.lsb),
            bits(repair.new, change.field.msb, change.field.lsb),
        )
        for change in compare(first, second).changes
    )


def _level_at(situation: Situation, address: int) -> WalkLevel | None:
    """The level of a walk that reads the descriptor at ``address``; ``None`` when none of the walks does."""
    walked = (situation.next_pc, situation.vector, *(touch.address for touch in situation.touches))
    return next(
        (level for va in dict.fromkeys(walked) for level in situation.walk(va).levels if level.address == address), None
    )
