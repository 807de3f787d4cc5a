"""Translation with stage 1 switched off (Arm ARM D8.2.12; pseudocode ``AArch64.S1DisabledOutput``)."""

from __future__ import annotations

from dataclasses import replace

from kexecdbg.arm64.bits import bit, bits, mask
from kexecdbg.arm64.faults import Access, Cause, CauseKind, Fault, FaultKind
from kexecdbg.arm64.feature_guesses import FeatureGuesses
from kexecdbg.arm64.interfaces import RegisterValues
from kexecdbg.arm64.memory_types import (
    DEVICE_NGNRNE,
    NORMAL_NON_CACHEABLE,
    NORMAL_WRITE_BACK,
    NORMAL_WRITE_THROUGH,
    MemoryType,
    Shareability,
)
from kexecdbg.arm64.regimes import HCR_DC, HCR_DCT, SCTLR_I, Regime, hcr_for_el1, needed
from kexecdbg.arm64.rights import Right, allowed, denied
from kexecdbg.arm64.walk_result import SelectiveFault, Walk


def walk_stage1_off(registers: RegisterValues, va: int, regime: Regime) -> Walk:
    """Output address is input address: every access is allowed, up to the physical address size."""
    guesses = FeatureGuesses(registers)
    physical_bits = guesses.physical_bits()
    facts = regime.facts
    tag_matters = bits(va, 55, physical_bits) == 0 and bits(va, 63, 56) != 0
    ignored, ignored_for_fetches = _tag_ignored_when_off(registers, va, regime) if tag_matters else (False, False)
    text = f"stage 1 is off and {va:#x} is beyond the {physical_bits}-bit physical address size"
    too_large = Fault(FaultKind.ADDRESS_SIZE, 0, Cause(CauseKind.MMU_OFF_SIZE, text))
    fault: Fault | None = None
    pa: int | None = va & mask(56)
    selective: tuple[SelectiveFault, ...] = ()
    rights = allowed(f"stage 1 of the {regime.value} regime is off")
    if bits(va, 55 if ignored else 63, physical_bits) != 0:
        fault, pa, rights = too_large, None, denied(too_large.cause)
    elif tag_matters and not ignored_for_fetches:
        selective = (SelectiveFault(too_large, frozenset({Access.FETCH}), privileged_too=True),)
        rights = replace(rights, execute=Right(False, (too_large.cause,)))
    memory_type, fetch_type, shareability = _types_when_off(registers, regime)
    return Walk(
        va=va,
        regime=regime,
        enabled=False,
        levels=(),
        pa=pa,
        page_size=None,
        leaf_level=None,
        privileged=rights,
        user=rights if facts.two_ranges else None,
        memory_type=None if fault else memory_type,
        fetch_type=None if fault else fetch_type,
        shareability=None if fault else shareability,
        fault=fault,
        selective_faults=selective,
        assumptions=guesses.assumptions,
    )


def _tag_ignored_when_off(registers: RegisterValues, va: int, regime: Regime) -> tuple[bool, bool]:
    """Whether TCR.TBI drops the top byte of data accesses, and of fetches; TBI and TBID act with stage 1 off too."""
    facts = regime.facts
    tcr = needed(registers, facts.tcr, f"whether the top byte of {va:#x} is ignored")
    fields = facts.tcr_layout.ranges[facts.is_upper(va)]
    tbi = bool(bit(tcr, fields.tbi))
    return tbi, tbi and not bit(tcr, fields.tbid)


def _types_when_off(registers: RegisterValues, regime: Regime) -> tuple[MemoryType, MemoryType, Shareability]:
    """Memory type of data and of fetches, and shareability of data, when stage 1 is off."""
    facts = regime.facts
    if regime is Regime.EL1_0:
        hcr = hcr_for_el1(registers, "the memory type with stage 1 off")
        if bit(hcr, HCR_DC):
            default = replace(NORMAL_WRITE_BACK, tagged=bool(bit(hcr, HCR_DCT)))
            return default, default, Shareability.NONE
    sctlr = needed(registers, facts.sctlr, "the memory type of instruction fetches")
    fetch = NORMAL_WRITE_THROUGH if bit(sctlr, SCTLR_I) else NORMAL_NON_CACHEABLE
    return DEVICE_NGNRNE, fetch, Shareability.OUTER
