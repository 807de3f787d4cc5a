"""The result of a walk: what is at an address, who may do what with it, and the fault that an access takes."""

from __future__ import annotations

from dataclasses import dataclass

from kexecdbg.arm64.descent import WalkLevel
from kexecdbg.arm64.faults import STAGE2_PERMISSION_CAUSES, Access, Cause, Fault, FaultKind
from kexecdbg.arm64.memory_types import MemoryType, Shareability
from kexecdbg.arm64.regimes import Regime
from kexecdbg.arm64.rights import Rights
from kexecdbg.arm64.stage2 import Stage2Walk


@dataclass(frozen=True)
class SelectiveFault:
    """A fault before the walk that only some accesses take: E0PD, or a tagged address with TBID.

    Attributes:
        fault: the fault.
        accesses: the accesses that take it.
        privileged_too: false when only EL0 takes it.
    """

    fault: Fault
    accesses: frozenset[Access]
    privileged_too: bool


@dataclass(frozen=True)
class Walk:
    """The translation of ``va`` in ``regime``.

    Attributes:
        va: the address as it was asked for.
        regime: the stage 1 regime.
        enabled: whether stage 1 is on; if not, the output address is the input address.
        levels: stage 1 descriptors in the order they were read.
        pa: physical address that ``va`` translates to, or ``None`` when every access faults or it is unknown.
        page_size: bytes that the leaf maps, the smaller one of two stages; ``None`` without a leaf.
        leaf_level: level of the stage 1 leaf, or ``None``.
        privileged: rights at the regime's own exception level.
        user: rights of EL0, or ``None`` in a regime without EL0.
        memory_type: of data accesses; ``None`` when there is no leaf or MAIR_ELx is unknown.
        fetch_type: of instruction fetches; differs from ``memory_type`` only when stage 1 is off.
        shareability: as it takes effect; ``None`` without a leaf.
        fault: a fault that every access takes.
        selective_faults: faults that only some accesses take, before the walk.
        guarded: the GP bit: indirect branches need a landing pad (FEAT_BTI).
        contiguous: the leaf's Contiguous bit.
        warnings: what is legal but may differ between CPUs.
        ipa: output of stage 1, when stage 2 is on and was asked for.
        stage2: the stage 2 translation of ``ipa``.
        table_access: what the walk reads stage 1 tables as; ``None`` when stage 1 is off.
        assumptions: what was assumed because a register is unknown, one sentence each.
    """

    va: int
    regime: Regime
    enabled: bool
    levels: tuple[WalkLevel, ...]
    pa: int | None
    page_size: int | None
    leaf_level: int | None
    privileged: Rights
    user: Rights | None
    memory_type: MemoryType | None = None
    fetch_type: MemoryType | None = None
    shareability: Shareability | None = None
    fault: Fault | None = None
    selective_faults: tuple[SelectiveFault, ...] = ()
    guarded: bool = False
    contiguous: bool = False
    warnings: tuple[Cause, ...] = ()
    ipa: int | None = None
    stage2: Stage2Walk | None = None
    table_access: tuple[MemoryType, Shareability] | None = None
    assumptions: tuple[str, ...] = ()

    @property
    def unknown(self) -> bool:
        """Whether the outcome is unknown because table memory could not be read."""
        return self.fault is not None and self.fault.kind is FaultKind.UNKNOWN

    def fault_for(self, access: Access, privileged: bool = True) -> Fault | None:
        """The fault that ``access`` takes, or ``None`` if it succeeds (or the regime has no EL0 to ask about)."""
        for selective in self.selective_faults:
            if access in selective.accesses and (selective.privileged_too or not privileged):
                return selective.fault
        rights = self.privileged if privileged else self.user
        if rights is None:
            return self.fault
        right = rights.of(access)
        if right.allowed:
            return None
        # The first cause decides: a stage 1 Permission fault comes before any stage 2 fault on the output address.
        cause = right.causes[0]
        if self.fault is not None and cause == self.fault.cause:
            return self.fault
        if self.stage2 is not None and cause.kind in STAGE2_PERMISSION_CAUSES:
            return Fault(FaultKind.PERMISSION, self.stage2.leaf_level or 0, cause, stage=2, ipa=self.ipa)
        return Fault(FaultKind.PERMISSION, self.leaf_level or 0, cause)

    @property
    def debugger_hides(self) -> tuple[str, ...]:
        """What a debugger's own read of ``va`` does not show, because it does not check it: one clause each."""
        hidden: list[str] = []
        if self.fault is not None and self.fault.kind is FaultKind.ACCESS_FLAG:
            hidden.append(f"every access faults: {self.fault.cause.text}")
        hidden += [f"{selective.fault.text}: {selective.fault.cause.text}" for selective in self.selective_faults]
        if self.pa is not None:
            for name, right in (
                ("not readable", self.privileged.read),
                ("not writable", self.privileged.write),
                ("not executable", self.privileged.execute),
            ):
                if not right.allowed:
                    hidden.append(f"{name}: {right.because}")
        return tuple(hidden)
