"""Rights of a translated address with their reasons in words: which bit of which descriptor decides each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from kexecdbg.arm64.bits import bit
from kexecdbg.arm64.descent import WalkLevel, named
from kexecdbg.arm64.descriptors import (
    AP1_BIT,
    AP2_BIT,
    AP_TABLE0_BIT,
    AP_TABLE1_BIT,
    NDIRTY_BIT,
    DescriptorKind,
)
from kexecdbg.arm64.faults import Access, Cause, CauseKind
from kexecdbg.arm64.permissions import (
    Decision,
    Denials,
    ExecuteBits,
    PermissionRules,
    Reasons,
    overlay_index,
    permission_index,
)
from kexecdbg.arm64.translation import Stage1


@dataclass(frozen=True)
class Right:
    """One right of one kind of access.

    Attributes:
        allowed: whether the access is allowed.
        causes: what denies it, stage 1 first; empty when it is allowed.
        grant: why it is allowed, as a clause; empty when it is denied.
    """

    allowed: bool
    causes: tuple[Cause, ...] = ()
    grant: str = ""

    @property
    def because(self) -> str:
        """What decides, in words: every cause of a denial, or what the grant rests on."""
        return self.grant if self.allowed else "; ".join(cause.text for cause in self.causes)


@dataclass(frozen=True)
class Rights:
    """What accesses of one privilege may do."""

    read: Right
    write: Right
    execute: Right

    @property
    def text(self) -> str:
        """``rwx`` with ``-`` for each right that is denied."""
        return "".join(
            letter if right.allowed else "-"
            for right, letter in ((self.read, "r"), (self.write, "w"), (self.execute, "x"))
        )

    def of(self, access: Access) -> Right:
        """The right that ``access`` needs."""
        return {Access.READ: self.read, Access.WRITE: self.write, Access.FETCH: self.execute}[access]


def denied(*causes: Cause) -> Rights:
    """No access at all, for the same causes."""
    right = Right(False, causes)
    return Rights(right, right, right)


def allowed(grant: str) -> Rights:
    """Every access, for the same reason."""
    right = Right(True, (), grant)
    return Rights(right, right, right)


# Causes that sit in a bit of the leaf, and those in a bit of a table descriptor, with the bit's name.
_LEAF_BITS = {
    CauseKind.READ_ONLY: (AP2_BIT, "AP[2], read-only"),
    CauseKind.NO_EL0_ACCESS: (AP1_BIT, "AP[1], EL0 access"),
}
_TABLE_BITS = {
    CauseKind.TABLE_READ_ONLY: (AP_TABLE1_BIT, "APTable[1], read-only"),
    CauseKind.TABLE_NO_EL0: (AP_TABLE0_BIT, "APTable[0], no EL0 access"),
}
_EXECUTE_NAMES = {
    CauseKind.LEAF_XN: "XN",
    CauseKind.LEAF_UXN: "UXN",
    CauseKind.LEAF_PXN: "PXN",
    CauseKind.TABLE_XN: "XNTable",
    CauseKind.TABLE_UXN: "UXNTable",
    CauseKind.TABLE_PXN: "PXNTable",
}


class _Explainer:
    """Turns the reasons of a :class:`Decision` into causes that name a descriptor or a register."""

    def __init__(self, stage1: Stage1, levels: tuple[WalkLevel, ...]) -> None:
        self._stage1 = stage1
        self._rules: PermissionRules = stage1.rules
        self._tables = [step for step in levels if step.kind is DescriptorKind.TABLE]
        self._leaf = levels[-1]
        assert self._leaf.descriptor is not None
        self._descriptor = self._leaf.descriptor
        self._where = named(stage1.table, self._leaf.level, self._leaf.address)
        self._regime = stage1.regime.value
        layout = self._rules.layout
        self._execute_bits = [bits for bits in (layout.privileged_execute, layout.user_execute) if bits is not None]

    def rights(self, denials: Denials, privileged: bool) -> Rights:
        layout = self._rules.layout
        execute = layout.privileged_execute if privileged else layout.user_execute
        return Rights(
            self._right(denials.read, lambda: self._read_grant(privileged), privileged),
            self._right(denials.write, lambda: self._write_grant(privileged), privileged),
            self._right(denials.execute, lambda: self._execute_grant(execute), privileged),
        )

    def _right(self, reasons: Reasons, grant: Callable[[], str], privileged: bool) -> Right:
        if not reasons:
            text = self._indirect_text(privileged) if self._rules.indirect is not None else grant()
            return Right(True, (), text)
        return Right(False, tuple(cause for reason in reasons for cause in self._causes(reason, privileged)))

    def _read_grant(self, privileged: bool) -> str:
        if privileged:
            return f"a valid mapping is always readable in the {self._regime} regime"
        return f"bit 6 (AP[1], EL0 access) of {self._where} is set"

    def _write_grant(self, privileged: bool) -> str:
        if bit(self._descriptor, AP2_BIT):
            return f"bit 51 (DBM) of {self._where} makes it writable, with TCR HA and HD set"
        text = f"bit 7 (AP[2], read-only) of {self._where} is clear"
        return text if privileged else f"{text} and bit 6 (AP[1], EL0 access) is set"

    def _execute_grant(self, execute: ExecuteBits | None) -> str:
        if execute is None:
            return "UXN counts as 0 with HCR_EL2.{NV,NV1} = {1,1}"
        name = _EXECUTE_NAMES[execute.leaf_kind]
        return f"bit {execute.leaf_bit} of {self._where} is {name} in the {self._regime} regime and is clear"

    def _causes(self, reason: CauseKind, privileged: bool) -> list[Cause]:
        for execute in self._execute_bits:
            if reason is execute.leaf_kind:
                return [self._leaf_cause(reason, execute.leaf_bit, _EXECUTE_NAMES[reason], in_regime=True)]
            if reason is execute.table_kind:
                return self._table_causes(reason, execute.table_bit, f"{_EXECUTE_NAMES[reason]}", in_regime=True)
        if reason is CauseKind.NO_EL0_ACCESS and not self._rules.layout.ap1_counts:
            text = "AP[1] counts as 0 with HCR_EL2.{NV,NV1} = {1,1}: no EL0 access"
            return [Cause(reason, text, register="HCR_EL2", field="NV1", bit=43)]
        if reason in _LEAF_BITS:
            return [self._leaf_cause(reason, *_LEAF_BITS[reason])]
        if reason in _TABLE_BITS:
            return self._table_causes(reason, *_TABLE_BITS[reason])
        return [self._rule_cause(reason, privileged)]

    def _leaf_cause(self, reason: CauseKind, position: int, name: str, in_regime: bool = False) -> Cause:
        text = self._bit_text(position, name, self._where, bool(bit(self._descriptor, position)), in_regime)
        return Cause(reason, text, self._leaf.level, self._leaf.address, position)

    def _table_causes(self, reason: CauseKind, position: int, name: str, in_regime: bool = False) -> list[Cause]:
        return [
            Cause(
                reason,
                self._bit_text(position, name, named(self._stage1.table, step.level, step.address), True, in_regime),
                step.level,
                step.address,
                position,
            )
            for step in self._tables
            if step.descriptor is not None and bit(step.descriptor, position)
        ]

    def _bit_text(self, position: int, name: str, where: str, is_set: bool, in_regime: bool) -> str:
        state = "set" if is_set else "clear"
        if in_regime:
            return f"bit {position} of {where} is {name} in the {self._regime} regime and is {state}"
        return f"bit {position} ({name}) of {where} is {state}"

    def _rule_cause(self, reason: CauseKind, privileged: bool) -> Cause:
        facts = self._stage1.regime.facts
        leaf = (self._leaf.level, self._leaf.address)
        if reason is CauseKind.NOT_DIRTY:
            text = f"bit 7 (nDirty) of {self._where} is set and the CPU does not manage it (TCR HA and HD)"
            return Cause(reason, text, *leaf, NDIRTY_BIT)
        if reason is CauseKind.WXN and self._rules.indirect is None:
            text = f"{facts.sctlr}.WXN is set and the page is writable, so it cannot be executed"
            return Cause(reason, text, register=facts.sctlr, field="WXN", bit=19)
        if reason is CauseKind.EL0_WRITABLE:
            text = (
                f"bit 6 (AP[1]) of {self._where} lets EL0 write the page, "
                f"and what EL0 can write is never executable at EL{facts.el}"
            )
            return Cause(reason, text, *leaf, AP1_BIT)
        if reason is CauseKind.PAN:
            text = "PSTATE.PAN is set and EL0 can access the page"
            return Cause(reason, text, register="PSTATE", field="PAN", bit=22)
        if reason is CauseKind.OVERLAY:
            register = facts.por if privileged else "POR_EL0"
            value = self._rules.overlay if privileged else self._rules.overlay_el0
            index = overlay_index(self._descriptor)
            nibble = (value or 0) >> 4 * index & 0xF
            text = f"overlay {index} of {register} (bits [62:60] of {self._where}) is {nibble:#x}"
            return Cause(reason, text, *leaf, 60, register, f"Perm{index}")
        register = facts.pir if privileged else facts.pire0 or facts.pir
        index = permission_index(self._descriptor)
        return Cause(reason, self._indirect_text(privileged), *leaf, None, register, f"Perm{index}")

    def _indirect_text(self, privileged: bool) -> str:
        facts, indirect = self._stage1.regime.facts, self._rules.indirect
        assert indirect is not None
        index = permission_index(self._descriptor)
        name, value = (facts.pir, indirect.pir) if privileged else (facts.pire0, indirect.pire0 or 0)
        nibble = value >> 4 * index & 0xF
        return f"permission indirection: entry {index} of {name} (bits 54, 53, 51, 6 of {self._where}) is {nibble:#x}"


def explain(stage1: Stage1, levels: tuple[WalkLevel, ...], decision: Decision) -> tuple[Rights, Rights | None]:
    """Privileged rights and, in a regime that has EL0, EL0's, from a decision about the leaf ``levels[-1]``."""
    explainer = _Explainer(stage1, levels)
    user = None if decision.user is None else explainer.rights(decision.user, privileged=False)
    return explainer.rights(decision.privileged, privileged=True), user
