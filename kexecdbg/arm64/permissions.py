"""Which rule denies an access: permissions of a leaf in a stage 1 regime, as pure functions of bits.

A right is denied exactly when it has at least one reason, so the answer and its explanation cannot disagree. Arm ARM
D8.4 (memory access control); pseudocode ``AArch64.S1DirectBasePermissions``, ``S1IndirectBasePermissions``,
``S1OverlayPermissions``.
"""

from __future__ import annotations

from dataclasses import dataclass

from kexecdbg.arm64.bits import bit, bits
from kexecdbg.arm64.descriptors import (
    AP1_BIT,
    AP2_BIT,
    AP_TABLE0_BIT,
    AP_TABLE1_BIT,
    DBM_BIT,
    PXN_BIT,
    PXN_TABLE_BIT,
    UXN_BIT,
    UXN_TABLE_BIT,
)
from kexecdbg.arm64.faults import CauseKind

Reasons = tuple[CauseKind, ...]


@dataclass(frozen=True)
class Denials:
    """Why each access is denied; an empty tuple is a granted access."""

    read: Reasons = ()
    write: Reasons = ()
    execute: Reasons = ()

    @property
    def text(self) -> str:
        """The rights as ``rwx`` with ``-`` for each that is denied."""
        rights = ((self.read, "r"), (self.write, "w"), (self.execute, "x"))
        return "".join("-" if reasons else letter for reasons, letter in rights)


@dataclass(frozen=True)
class Decision:
    """Denials of privileged accesses and, in a regime that has EL0, of accesses from EL0."""

    privileged: Denials
    user: Denials | None


@dataclass(frozen=True)
class ExecuteBits:
    """The leaf bit and the table bit that take away execution, and what each is called."""

    leaf_bit: int
    leaf_kind: CauseKind
    table_bit: int
    table_kind: CauseKind

    def reasons(self, leaf: int, table_bits: int) -> Reasons:
        """The reasons that are set in the leaf and in the accumulated table bits."""
        found = ((bit(leaf, self.leaf_bit), self.leaf_kind), (bit(table_bits, self.table_bit), self.table_kind))
        return tuple(kind for is_set, kind in found if is_set)


@dataclass(frozen=True)
class PermissionLayout:
    """Which bits of a descriptor mean what for permissions in a kind of regime."""

    has_el0: bool
    ap1_counts: bool
    privileged_execute: ExecuteBits
    user_execute: ExecuteBits | None


_UXN = ExecuteBits(UXN_BIT, CauseKind.LEAF_UXN, UXN_TABLE_BIT, CauseKind.TABLE_UXN)
_PXN = ExecuteBits(PXN_BIT, CauseKind.LEAF_PXN, PXN_TABLE_BIT, CauseKind.TABLE_PXN)
_XN = ExecuteBits(UXN_BIT, CauseKind.LEAF_XN, UXN_TABLE_BIT, CauseKind.TABLE_XN)
_NV1_PXN = ExecuteBits(UXN_BIT, CauseKind.LEAF_PXN, UXN_TABLE_BIT, CauseKind.TABLE_PXN)

TWO_RANGE_LAYOUT = PermissionLayout(True, True, _PXN, _UXN)
ONE_RANGE_LAYOUT = PermissionLayout(False, False, _XN, None)
#: EL1&0 with HCR_EL2.{NV,NV1} = {1,1}: bit 54 is PXN, AP[1] and UXN count as 0 (Arm ARM D8.11).
NV1_LAYOUT = PermissionLayout(True, False, _NV1_PXN, None)


@dataclass(frozen=True)
class IndirectRegisters:
    """PIR_ELx and PIRE0_ELx, of a regime with permission indirection (FEAT_S1PIE)."""

    pir: int
    pire0: int | None


@dataclass(frozen=True)
class PermissionRules:
    """What, besides the descriptors, decides the permissions of a VA range.

    Attributes:
        layout: meaning of the descriptor bits.
        wxn: SCTLR_ELx.WXN.
        hierarchical: table descriptors' attributes count; false with HPD and under indirection or overlays.
        dirty: hardware dirty state (TCR.HA and HD): a leaf with DBM counts as writable.
        epan: SCTLR_ELx.EPAN (FEAT_PAN3).
        indirect: the permission indirection registers, or ``None`` for direct permissions.
        overlay: POR_ELx, or ``None`` without privileged overlays; ``overlay_el0`` the same for EL0.
    """

    layout: PermissionLayout
    wxn: bool = False
    hierarchical: bool = True
    dirty: bool = False
    epan: bool = False
    indirect: IndirectRegisters | None = None
    overlay: int | None = None
    overlay_el0: int | None = None


# PIR_ELx and PIRE0_ELx: base permissions by nibble (Arm ARM, PIR_EL1). 6 also has WXN, which removes the X again.
_INDIRECT_RIGHTS = (
    "", "r", "x", "rx", "", "rw", "rw", "rwx", "r", "r", "rx", "", "rw", "", "rwx", "",
)  # fmt: skip
_OVERLAY_APPLIES_BELOW = 8
_GCS_NIBBLE = 9
# POR_ELx: rights that the overlay leaves, by nibble; 8 to 15 are reserved and leave none.
_OVERLAY_RIGHTS = ("", "r", "x", "rx", "w", "rw", "wx", "rwx") + ("",) * 8


def permission_index(leaf: int) -> int:
    """PIIndex: descriptor bits 54, 53, 51 and 6 (Arm ARM D8.4.2)."""
    return bit(leaf, UXN_BIT) << 3 | bit(leaf, PXN_BIT) << 2 | bit(leaf, DBM_BIT) << 1 | bit(leaf, AP1_BIT)


def overlay_index(leaf: int) -> int:
    """POIndex: descriptor bits [62:60] (Arm ARM D8.4.3)."""
    return bits(leaf, 62, 60)


def decide(rules: PermissionRules, leaf: int, table_bits: int, *, pan: bool = False) -> Decision:
    """The permissions of a leaf.

    Args:
        rules: the range's rules.
        leaf: the leaf descriptor; only its attribute bits count.
        table_bits: all table descriptors on the path, ORed together.
        pan: PSTATE.PAN.
    """
    if rules.indirect is not None:
        return _decide_indirect(rules, rules.indirect, leaf, pan)
    decision = _decide_direct(rules, leaf, table_bits if rules.hierarchical else 0, pan)
    return _overlaid(rules, leaf, decision) if rules.overlay is not None or rules.overlay_el0 is not None else decision


def _decide_direct(rules: PermissionRules, leaf: int, table_bits: int, pan: bool) -> Decision:
    layout = rules.layout
    dirty_writable = rules.dirty and bit(leaf, DBM_BIT)
    read_only: Reasons = (CauseKind.READ_ONLY,) if bit(leaf, AP2_BIT) and not dirty_writable else ()
    if bit(table_bits, AP_TABLE1_BIT):
        read_only += (CauseKind.TABLE_READ_ONLY,)
    privileged_execute = layout.privileged_execute.reasons(leaf, table_bits)
    if not layout.has_el0:
        return Decision(_with_wxn(rules, Denials((), read_only, privileged_execute)), None)

    no_el0: Reasons = () if layout.ap1_counts and bit(leaf, AP1_BIT) else (CauseKind.NO_EL0_ACCESS,)
    if layout.ap1_counts and bit(table_bits, AP_TABLE0_BIT):
        no_el0 += (CauseKind.TABLE_NO_EL0,)
    user_execute = layout.user_execute.reasons(leaf, table_bits) if layout.user_execute else ()
    user = Denials(no_el0, no_el0 + read_only, user_execute)
    if not user.write:
        privileged_execute += (CauseKind.EL0_WRITABLE,)
    # WXN looks at the write permission without PAN: PAN does not take part in instruction fetches.
    privileged = _with_wxn(rules, Denials((), read_only, privileged_execute))
    pan_applies = layout.ap1_counts and pan and (not user.read or not user.write or (rules.epan and not user.execute))
    return Decision(_without_data(privileged) if pan_applies else privileged, _with_wxn(rules, user))


def _with_wxn(rules: PermissionRules, denials: Denials) -> Denials:
    if rules.wxn and not denials.write:
        return Denials(denials.read, denials.write, (*denials.execute, CauseKind.WXN))
    return denials


def _without_data(denials: Denials) -> Denials:
    """PAN: no privileged data access."""
    pan = (CauseKind.PAN,)
    return Denials(denials.read + pan, denials.write + pan, denials.execute)


def _denied_unless(rights: str, reason: CauseKind) -> Denials:
    return Denials(*(() if right in rights else (reason,) for right in "rwx"))


def _decide_indirect(rules: PermissionRules, registers: IndirectRegisters, leaf: int, pan: bool) -> Decision:
    """Permission indirection; SCTLR_ELx.WXN and the AP, XN and table bits have no effect (Arm ARM D8.4.2)."""
    shift = 4 * permission_index(leaf)
    nibble = registers.pir >> shift & 0xF
    privileged = _denied_unless(_INDIRECT_RIGHTS[nibble], CauseKind.INDIRECT_PERMISSION)
    user: Denials | None = None
    user_nibble = 0
    if rules.layout.has_el0 and registers.pire0 is not None:
        user_nibble = registers.pire0 >> shift & 0xF
        user = _denied_unless(_INDIRECT_RIGHTS[user_nibble], CauseKind.INDIRECT_PERMISSION)
        if _executes_or_gcs(privileged, nibble) and _writes_or_gcs(user, user_nibble):
            everything = (CauseKind.INDIRECT_CONFLICT,)
            privileged = user = Denials(everything, everything, everything)
    decision = _overlaid(
        rules, leaf, Decision(privileged, user),
        privileged_applies=nibble < _OVERLAY_APPLIES_BELOW, user_applies=user_nibble < _OVERLAY_APPLIES_BELOW,
    )  # fmt: skip
    if pan and user_nibble:
        decision = Decision(_without_data(decision.privileged), decision.user)
    return decision


def _executes_or_gcs(denials: Denials, nibble: int) -> bool:
    return not denials.execute or nibble == _GCS_NIBBLE


def _writes_or_gcs(denials: Denials, nibble: int) -> bool:
    return not denials.write or nibble == _GCS_NIBBLE


def _overlaid(
    rules: PermissionRules, leaf: int, decision: Decision, privileged_applies: bool = True, user_applies: bool = True
) -> Decision:
    shift = 4 * overlay_index(leaf)

    def overlay(denials: Denials | None, register: int | None) -> Denials | None:
        if denials is None or register is None:
            return denials
        taken = _denied_unless(_OVERLAY_RIGHTS[register >> shift & 0xF], CauseKind.OVERLAY)
        return Denials(denials.read + taken.read, denials.write + taken.write, denials.execute + taken.execute)

    privileged = overlay(decision.privileged, rules.overlay if privileged_applies else None)
    assert privileged is not None
    return Decision(privileged, overlay(decision.user, rules.overlay_el0 if user_applies else None))
