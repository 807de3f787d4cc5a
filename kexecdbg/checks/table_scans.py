"""Everything that the tables of a regime map, both ranges."""

from __future__ import annotations

from kexecdbg.arm64.interfaces import PhysicalMemory
from kexecdbg.arm64.ranges import ScanLimits, TableScan
from kexecdbg.arm64.regimes import Regime, mmu_enabled
from kexecdbg.arm64.scan import scan
from kexecdbg.machine.state import CpuState

_LIMITS = ScanLimits(entries=1 << 22)
"""8192 tables of 4 KiB: the linear map of 16 GiB in pages; more than that is garbage, or takes too long to wait for."""


def scan_tables(state: CpuState, memory: PhysicalMemory, regime: Regime) -> tuple[TableScan, ...]:
    """What the tables of ``regime`` map in ``state``, TTBR0's first; nothing while its MMU is off.

    Raises:
        RegisterUnknownError: a register that decides is unknown.
    """
    if not mmu_enabled(regime, state):
        return ()
    names = (regime.facts.ttbr0, regime.facts.ttbr1)
    return tuple(
        scan(state, memory, regime, ttbr=number, limits=_LIMITS)
        for number, name in enumerate(names)
        if name is not None and state.get(name) is not None
    )
