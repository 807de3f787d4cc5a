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
    NDIRTY_BIT,
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


# PIR_ELx and PIRE0_ELx: base permissions by nibble (Arm ARM, PIR_EL1).
_INDIRECT_RIGHTS = ("", "r", "x", "rx", "", "rw", "rwx", "rwx", "r", "r", "rx", "", "rw", "", "rwx", "")
_INDIRECT_WXN = 6  # the nibble that also asks for WXN
_INDIRECT_GCS = 9
_OVERLAY_APPLIES_BELOW = 8
# POR_ELx: rights that the overlay leaves, by nibble; 8 to 15 are reserved and leave none.
_OVERLAY_RIGHTS = ("", "r", "x", "rx", "w", "rw", "wx", "rwx") + ("",) * 8


def permission_index(leaf: int) -> int:
    """PIIndex: descriptor bits 54, 53, 51 and 6 (Arm ARM D8.4.2)."""
    return bit(leaf, UXN_BIT) << 3 | bit(leaf, PXN_BIT) << 2 | bit(leaf, DBM_BIT) << 1 | bit(leaf, AP1_BIT)


def overlay_index(leaf: int) -> int:
    """POIndex: descriptor bits [62:60] (Arm ARM D8.4.3)."""
    return bits(leaf, 62, 60)


@dataclass(frozen=True)
class _Base:
    """Base permissions of one privilege, and which later steps apply to them."""

    denials: Denials
    wxn: bool
    overlay: int | None


def decide(rules: PermissionRules, leaf: int, table_bits: int, *, pan: bool = False) -> Decision:
    """The permissions of a leaf: base permissions, then overlays, then WXN, then PAN.

    Args:
        rules: the range's rules.
        leaf: the leaf descriptor; only its attribute bits count.
        table_bits: all table descriptors on the path, ORed together.
        pan: PSTATE.PAN.
    """
    if rules.indirect is not None:
        privileged, user, pan_applies = _indirect(rules, rules.indirect, leaf)
    else:
        privileged, user, pan_applies = _direct(rules, leaf, table_bits if rules.hierarchical else 0)
    # WXN comes before PAN because PAN has no part in instruction fetches.
    decision = Decision(_with_wxn(privileged, leaf), None if user is None else _with_wxn(user, leaf))
    if pan and pan_applies:
        decision = Decision(_without_data(decision.privileged), decision.user)
    if rules.indirect is not None and bit(leaf, NDIRTY_BIT) and not rules.dirty:
        decision = Decision(_clean(decision.privileged), decision.user and _clean(decision.user))
    return decision


def _direct(rules: PermissionRules, leaf: int, table_bits: int) -> tuple[_Base, _Base | None, bool]:
    """Base permissions from the descriptors' own bits, and whether PAN would apply."""
    layout = rules.layout
    dirty_writable = rules.dirty and bit(leaf, DBM_BIT)
    read_only: Reasons = (CauseKind.READ_ONLY,) if bit(leaf, AP2_BIT) and not dirty_writable else ()
    if bit(table_bits, AP_TABLE1_BIT):
        read_only += (CauseKind.TABLE_READ_ONLY,)
    execute = layout.privileged_execute.reasons(leaf, table_bits)
    if not layout.has_el0:
        return _Base(Denials((), read_only, execute), rules.wxn, rules.overlay), None, False

    no_el0: Reasons = () if layout.ap1_counts and bit(leaf, AP1_BIT) else (CauseKind.NO_EL0_ACCESS,)
    if layout.ap1_counts and bit(table_bits, AP_TABLE0_BIT):
        no_el0 += (CauseKind.TABLE_NO_EL0,)
    user_execute = layout.user_execute.reasons(leaf, table_bits) if layout.user_execute else ()
    user = Denials(no_el0, no_el0 + read_only, user_execute)
    if not user.write:
        execute += (CauseKind.EL0_WRITABLE,)
    el0_has_data = not user.read or not user.write
    return (
        _Base(Denials((), read_only, execute), rules.wxn, rules.overlay),
        _Base(user, rules.wxn, rules.overlay_el0),
        layout.ap1_counts and (el0_has_data or (rules.epan and not user_execute)),
    )


def _indirect(rules: PermissionRules, registers: IndirectRegisters, leaf: int) -> tuple[_Base, _Base | None, bool]:
    """Base permissions by indirection, where AP, XN, table bits and SCTLR_ELx.WXN have no effect (D8.4.2)."""
    shift = 4 * permission_index(leaf)
    nibble = registers.pir >> shift & 0xF
    privileged = _denied_unless(_INDIRECT_RIGHTS[nibble], CauseKind.INDIRECT_PERMISSION)
    if not rules.layout.has_el0 or registers.pire0 is None:
        return _indirect_base(privileged, nibble, rules.overlay), None, False
    user_nibble = registers.pire0 >> shift & 0xF
    user = _denied_unless(_INDIRECT_RIGHTS[user_nibble], CauseKind.INDIRECT_PERMISSION)
    executes = not privileged.execute or nibble == _INDIRECT_GCS
    writes = not user.write or user_nibble == _INDIRECT_GCS
    if executes and writes:
        everything = (CauseKind.INDIRECT_CONFLICT,)
        privileged = user = Denials(everything, everything, everything)
    return (
        _indirect_base(privileged, nibble, rules.overlay),
        _indirect_base(user, user_nibble, rules.overlay_el0),
        user_nibble != 0,
    )


def _indirect_base(denials: Denials, nibble: int, overlay: int | None) -> _Base:
    return _Base(denials, nibble == _INDIRECT_WXN, overlay if nibble < _OVERLAY_APPLIES_BELOW else None)


def _with_wxn(base: _Base, leaf: int) -> Denials:
    """The denials after the overlay, and after WXN, which looks at the write right that the overlay leaves."""
    denials = base.denials
    if base.overlay is not None:
        left = _OVERLAY_RIGHTS[base.overlay >> 4 * overlay_index(leaf) & 0xF]
        taken = _denied_unless(left, CauseKind.OVERLAY)
        denials = Denials(denials.read + taken.read, denials.write + taken.write, denials.execute + taken.execute)
    if base.wxn and not denials.write:
        return Denials(denials.read, denials.write, (*denials.execute, CauseKind.WXN))
    return denials


def _without_data(denials: Denials) -> Denials:
    """PAN: no privileged data access."""
    pan = (CauseKind.PAN,)
    return Denials(denials.read + pan, denials.write + pan, denials.execute)


def _clean(denials: Denials) -> Denials:
    """A clean page under indirection: a write faults unless hardware manages the dirty state."""
    return Denials(denials.read, (*denials.write, CauseKind.NOT_DIRTY), denials.execute)


def _denied_unless(rights: str, reason: CauseKind) -> Denials:
    return Denials(*(() if right in rights else (reason,) for right in "rwx"))
