"""Sound values for switching the MMU of a regime on: control registers, leaf attributes, the sequence itself."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from kexecdbg.arm64.descriptors import AF_BIT, AP1_BIT, AP2_BIT, PXN_BIT, UXN_BIT
from kexecdbg.arm64.geometry import TG0_GRANULES, TG1_GRANULES, TableFormat
from kexecdbg.arm64.regimes import Regime

MAIR = 0x04_00_44_FF_FF
"""Linux 6.1, arch/arm64/mm/proc.S, MAIR_EL1_SET: Normal, Normal (for tags), Normal Non-cacheable, Device-nGnRnE,
Device-nGnRE."""
NORMAL, NON_CACHEABLE, DEVICE = 0, 2, 4
"""Indices into :data:`MAIR`."""

_ATTR_INDEX_SHIFT, _SHAREABILITY_SHIFT = 2, 8
_INNER_SHAREABLE = 3
_WRITE_BACK = 1
_EPD1 = 1 << 23
_NARROW_RES1 = 1 << 31 | 1 << 23
_SCTLR_M_C_I = 1 << 0 | 1 << 2 | 1 << 12
_PA_SIZE = {"cortex-a57": 4, "neoverse-n1": 5, "max": 5}
"""TCR_ELx.PS by CPU model: ID_AA64MMFR0_EL1.PARange, at most 48 bits."""
_PA_SIZE_52_BITS = 6


@dataclass(frozen=True)
class RegimeValues:
    """What differs between the regimes.

    Attributes:
        hcr_el2: HCR_EL2.
        spsr: PSTATE of the code under test: the level with its own stack pointer, interrupts masked.
        sctlr: SCTLR_ELx with M, C and I, and the RES1 bits of ARMv8.0.
        tlbi: the TLB invalidation of the regime.
    """

    hcr_el2: int
    spsr: int
    sctlr: int
    tlbi: str


REGIME_VALUES = {
    Regime.EL1_0: RegimeValues(0x8000_0000, 0x3C5, 0x30D0_0800 | _SCTLR_M_C_I, "vmalle1"),
    Regime.EL2: RegimeValues(0x8000_0000, 0x3C9, 0x30C5_0830 | _SCTLR_M_C_I, "alle2"),
    Regime.EL2_0: RegimeValues(0x4_8800_0000, 0x3C9, 0x30D0_0800 | _SCTLR_M_C_I, "alle2"),
    Regime.EL3: RegimeValues(0x8000_0000, 0x3CD, 0x30C5_0830 | _SCTLR_M_C_I, "alle3"),
}


def tcr_value(regime: Regime, table: TableFormat, cpu: str) -> int:
    """TCR_ELx for tables of format ``table``: walks write-back and inner shareable, the upper range disabled."""
    layout = regime.facts.tcr_layout
    lower = layout.ranges[0]
    tg0 = next(code for code, granule in TG0_GRANULES.items() if granule == table.granule)
    size = _PA_SIZE_52_BITS if table.ds or table.lpa else _PA_SIZE[cpu]
    value = (
        64 - table.input_bits
        | tg0 << lower.tg[1]
        | _INNER_SHAREABLE << lower.sh[1]
        | _WRITE_BACK << lower.orgn[1]
        | _WRITE_BACK << lower.irgn[1]
        | size << layout.ps[1]
        | int(table.ds) << layout.ds
    )
    if not regime.facts.two_ranges:
        return value | _NARROW_RES1
    tg1 = next(code for code, granule in TG1_GRANULES.items() if granule == table.granule)
    return value | _EPD1 | tg1 << layout.ranges[1].tg[1] | 16 << layout.ranges[1].txsz[1]


class Use(Enum):
    """What a page is for."""

    CODE = "code"
    DATA = "data"
    DEVICE = "device"


def leaf_attributes(regime: Regime, table: TableFormat, use: Use) -> int:
    """Attributes of a leaf: code read-only and executable, data and devices writable and not executable."""
    value = 1 << AF_BIT | (DEVICE if use is Use.DEVICE else NORMAL) << _ATTR_INDEX_SHIFT
    if use is not Use.DEVICE and not table.ds:
        value |= _INNER_SHAREABLE << _SHAREABILITY_SHIFT
    if use is Use.CODE:
        value |= 1 << AP2_BIT
    else:
        value |= 1 << UXN_BIT
    if regime.facts.two_ranges:
        return value | 1 << UXN_BIT | (0 if use is Use.CODE else 1 << PXN_BIT)
    return value | 1 << AP1_BIT  # RES1 in a regime without EL0


def textbook_sequence(regime: Regime) -> tuple[str, ...]:
    """The instructions that switch the MMU of ``regime`` on, in the order and with the barriers of the Arm ARM.

    Sources: Arm ARM D8.2.3 (enabling address translation), D8.17.5 (TLB maintenance), B2.6.5 (context synchronization).
    """
    facts = regime.facts
    return (
        f"msr {facts.mair}, x1",
        f"msr {facts.tcr}, x2",
        f"msr {facts.ttbr0}, x3",
        "isb",
        f"tlbi {REGIME_VALUES[regime].tlbi}",
        "dsb nsh",
        "isb",
        f"msr {facts.sctlr}, x5",
        "isb",
    )
