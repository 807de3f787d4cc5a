"""The tables of a regime as a walk should see them: also before the MMU that will use them is on."""

from __future__ import annotations

from dataclasses import dataclass

from kexecdbg.arm64.interfaces import PhysicalMemory
from kexecdbg.arm64.regimes import SCTLR_M, Regime, mmu_enabled, needed
from kexecdbg.arm64.walk import Walk, walk
from kexecdbg.checks.enable_site import pending_write
from kexecdbg.checks.fetching import instruction_at
from kexecdbg.errors import MemoryUnreadableError, UsageError
from kexecdbg.machine.state import CpuState


@dataclass(frozen=True)
class TableView:
    """A state to walk in.

    Attributes:
        state: register values, with the MMU on.
        regime: the regime to walk in.
        as_if_on: the MMU is off now, and ``state`` is what it will be.
        remark: says so, and where the value of SCTLR_ELx comes from.
    """

    state: CpuState
    regime: Regime
    as_if_on: bool
    remark: str = ""


def tables_as_if_on(state: CpuState, memory: PhysicalMemory, regime: Regime) -> TableView:
    """The state to walk ``regime``'s tables in; while its MMU is off, the state it is about to be switched on in."""
    sctlr = regime.facts.sctlr
    if mmu_enabled(regime, state) or sctlr in state.assumed_names():
        return TableView(state, regime, as_if_on=False)
    pc = state.get("PC")
    try:
        write = None if pc is None else pending_write(instruction_at(state, memory, pc), state)
    except MemoryUnreadableError:
        write = None
    if write is not None and write.enables_mmu and write.register == sctlr:
        after = state.with_values({sctlr: write.value})
        return TableView(
            after, regime, True, f"the MMU is off; walked with {sctlr} = {write.value:#x}, about to be written"
        )
    value = needed(state, sctlr, "the walk") | 1 << SCTLR_M
    return TableView(state.with_values({sctlr: value}), regime, True, f"the MMU is off; walked as if {sctlr}.M were 1")


def walk_in_range(view: TableView, memory: PhysicalMemory, va: int, table: int) -> Walk:
    """Translate ``va`` through TTBR0 (``table`` 0) or TTBR1 (1).

    Raises:
        UsageError: the regime has no such TTBR, or the address belongs to the other one.
    """
    if table == 1 and not view.regime.facts.two_ranges:
        raise UsageError(f"the {view.regime.value} regime has no TTBR1; use walk-ttbr0")
    if view.regime.facts.is_upper(va) != bool(table):
        raise UsageError(f"{va:#x} is translated by TTBR{1 - table} (bit 55); use walk-ttbr{1 - table} {va:#x}")
    return walk(view.state, memory, va, regime=view.regime)
