"""Mappings that look made for another translation regime: execute-never here, executable there.

Bit 54 of a leaf is UXN where the regime has an EL0 and XN where it has none; bit 53 is PXN and nothing. A kernel's
executable page of EL1 (bit 54 set, bit 53 clear) cannot be executed at EL2 with E2H=0, and the reverse at EL1.
"""

from __future__ import annotations

from kexecdbg.arm64.bits import bit
from kexecdbg.arm64.descriptors import AP1_BIT, PXN_BIT, UXN_BIT
from kexecdbg.arm64.interfaces import PhysicalMemory
from kexecdbg.arm64.ranges import MappedRange, ScanLimits
from kexecdbg.arm64.regimes import Regime
from kexecdbg.arm64.scan import scan
from kexecdbg.errors import ArchitectureError, RegisterUnknownError
from kexecdbg.machine.state import CpuState

_LIMITS = ScanLimits(entries=1 << 22)


def mapped_ranges(state: CpuState, memory: PhysicalMemory, regime: Regime) -> tuple[MappedRange, ...]:
    """Everything that the tables of ``regime`` map, TTBR0's first; nothing of what cannot be scanned."""
    found: list[MappedRange] = []
    for number, name in enumerate((regime.facts.ttbr0, regime.facts.ttbr1)):
        if name is None or state.get(name) is None:
            continue
        try:
            found += scan(state, memory, regime, ttbr=number, limits=_LIMITS).ranges
        except (RegisterUnknownError, ArchitectureError):
            continue
    return tuple(found)


def wrong_regime_mappings(ranges: tuple[MappedRange, ...], regime: Regime) -> tuple[MappedRange, ...]:
    """Those of ``ranges`` that are not executable in ``regime``, and would be in one of the other kind."""
    return tuple(item for item in ranges if not item.privileged.execute and _made_for_other(item, regime))


def _made_for_other(item: MappedRange, regime: Regime) -> bool:
    descriptor = item.attributes.descriptor
    pxn, uxn = bit(descriptor, PXN_BIT), bit(descriptor, UXN_BIT)
    if regime.facts.two_ranges:
        # User code of EL0 is PXN without UXN by right; it can be accessed from EL0, AP[1].
        return bool(pxn and not uxn and not bit(descriptor, AP1_BIT))
    return bool(uxn and not pxn)


def identity_mapped(ranges: tuple[MappedRange, ...]) -> tuple[tuple[int, int], ...]:
    """Physical start and end (exclusive) of the ranges that keep the address, where code can switch the MMU on."""
    return tuple((item.pa, item.pa + item.size) for item in ranges if item.va == item.pa)
