"""The translation of one virtual address, level by level, with the bit that decides each right.

Pseudocode ``AArch64.FullTranslate``, ``AArch64.S1Translate``. The order of the checks is the architecture's.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from kexecdbg.arm64.bits import bit, bits, mask
from kexecdbg.arm64.descent import Descent, WalkLevel, descend, named, read_in_place
from kexecdbg.arm64.descriptors import (
    CONTIGUOUS_BIT,
    GP_BIT,
    NV1_NAMES,
    ONE_RANGE_NAMES,
    TWO_RANGE_NAMES,
    BitNames,
    DescriptorKind,
)
from kexecdbg.arm64.faults import Access, Cause, CauseKind, Fault, FaultKind
from kexecdbg.arm64.features import has_feature
from kexecdbg.arm64.interfaces import PhysicalMemory, RegisterValues
from kexecdbg.arm64.leaf_attributes import leaf_memory_type, leaf_shareability
from kexecdbg.arm64.leaf_warnings import leaf_warnings, memory_warnings
from kexecdbg.arm64.memory_types import (
    NORMAL_NON_CACHEABLE,
    MemoryType,
    Shareability,
    combine_shareability,
    combine_stages,
    effective_shareability,
)
from kexecdbg.arm64.permissions import NV1_LAYOUT, decide
from kexecdbg.arm64.pstate import pan_of
from kexecdbg.arm64.regimes import (
    Regime,
    mmu_enabled,
    needed,
)
from kexecdbg.arm64.rights import Right, Rights, denied, explain
from kexecdbg.arm64.stage1_off import walk_stage1_off
from kexecdbg.arm64.stage2 import Stage2, Stage2Walk, locate_table, stage2_enabled, stage2_of, translate_ipa
from kexecdbg.arm64.translation import Stage1, stage1_of
from kexecdbg.arm64.walk_result import SelectiveFault, Walk

__all__ = ["DescriptorKind", "Right", "Rights", "SelectiveFault", "Stage2Walk", "Walk", "WalkLevel", "walk"]

_FETCH = frozenset({Access.FETCH})
_EVERY_ACCESS = frozenset(Access)


def walk(
    registers: RegisterValues,
    memory: PhysicalMemory,
    va: int,
    *,
    regime: Regime,
    pan: bool | None = None,
    through_stage2: bool = True,
) -> Walk:
    """Translate ``va`` as a CPU with these registers and this memory does in ``regime``.

    Args:
        registers: values by canonical name; ID registers that are unknown are listed in the result's assumptions.
        memory: physical memory, for the tables.
        va: virtual address, 64 bits, with its tag if it has one.
        regime: the stage 1 translation regime; see :func:`kexecdbg.arm64.regimes.regime_of`.
        pan: PSTATE.PAN for privileged data accesses; ``None`` takes it from PSTATE.
        through_stage2: also translate the output address by stage 2, if that is on. False stops at the IPA, as
            ``AT S1E1R`` does; the reads of stage 1 tables go through stage 2 all the same.

    Raises:
        RegisterUnknownError: a register that decides the result is unknown.
        ArchitectureError: 128-bit descriptors (FEAT_D128) or stage 2 permission indirection are in use.
    """
    va &= mask(64)
    stage2 = stage2_of(registers) if regime is Regime.EL1_0 and stage2_enabled(registers) else None
    if mmu_enabled(regime, registers):
        result = _stage1(registers, memory, va, regime, pan, stage2)
    else:
        result = walk_stage1_off(registers, va, regime)
    if stage2 is None or not through_stage2 or result.pa is None:
        return result
    return _with_stage2(result, stage2, translate_ipa(stage2, memory, result.pa))


def _stage1(
    registers: RegisterValues, memory: PhysicalMemory, va: int, regime: Regime, pan: bool | None, stage2: Stage2 | None
) -> Walk:
    upper = regime.facts.is_upper(va)
    stage1 = stage1_of(registers, regime, upper=upper)
    selective, early = _faults_before_walk(stage1, va)
    if early is not None:
        descent = Descent((), early)
    else:
        locate = read_in_place if stage2 is None else partial(locate_table, stage2, memory)
        descent = descend(stage1.table, stage1.base, stage1.ttbr, va, memory, bit_names(stage1), locate)
    leaf = descent.leaf
    if descent.fault is not None or leaf is None:
        return _faulting(stage1, va, descent, selective)
    return _translated(registers, memory, stage1, va, descent.levels, leaf, selective, pan)


def _with_stage2(first: Walk, stage2: Stage2, second: Stage2Walk) -> Walk:
    """Both stages: rights that both grant, the combined memory type, or stage 2's fault."""
    memory_type = _combined_type(first.memory_type, second, stage2.fwb, stage2.data_non_cacheable)
    fetch_type = _combined_type(first.fetch_type, second, stage2.fwb, stage2.fetch_non_cacheable)
    shareability = None
    if memory_type is not None and first.shareability is not None and second.shareability is not None:
        combined = combine_shareability(first.shareability, second.shareability)
        shareability = effective_shareability(memory_type, combined)
    sizes = [size for size in (first.page_size, second.page_size) if size is not None]
    return replace(
        first,
        pa=second.pa,
        page_size=min(sizes) if second.pa is not None else None,
        privileged=_both(first.privileged, second.privileged),
        user=None if first.user is None else _both(first.user, second.user),
        memory_type=memory_type,
        fetch_type=fetch_type,
        shareability=shareability,
        fault=second.fault,
        warnings=first.warnings + second.warnings,
        ipa=second.ipa,
        stage2=second,
        assumptions=tuple(dict.fromkeys(first.assumptions + second.assumptions)),
    )


def _combined_type(first: MemoryType | None, second: Stage2Walk, fwb: bool, non_cacheable: bool) -> MemoryType | None:
    if first is None or second.mem_attr is None:
        return None
    combined = combine_stages(first, second.mem_attr, fwb=fwb)
    return NORMAL_NON_CACHEABLE if non_cacheable and combined.is_cacheable else combined


def _both(first: Rights, second: Rights) -> Rights:
    def both(one: Right, other: Right) -> Right:
        if one.allowed and other.allowed:
            return Right(True, (), f"{one.grant}; {other.grant}")
        return Right(False, one.causes + other.causes)

    return Rights(both(first.read, second.read), both(first.write, second.write), both(first.execute, second.execute))


def bit_names(stage1: Stage1) -> BitNames:
    """The names of descriptor bits in this range."""
    if stage1.rules.layout is NV1_LAYOUT:
        return NV1_NAMES
    return TWO_RANGE_NAMES if stage1.regime.facts.two_ranges else ONE_RANGE_NAMES


def _faults_before_walk(stage1: Stage1, va: int) -> tuple[tuple[SelectiveFault, ...], Fault | None]:
    """Checks on registers and the address alone: faults of some accesses, and a fault of every access."""

    def fault(cause: Cause) -> Fault:
        return Fault(FaultKind.TRANSLATION, 0, cause)

    if stage1.problem is not None:
        return (), fault(stage1.problem)
    selective: list[SelectiveFault] = []
    out_of_range = _range_cause(stage1, va, stage1.tbi)
    if out_of_range is not None:
        return (), fault(out_of_range)
    fetch_out_of_range = _range_cause(stage1, va, stage1.tbi_fetch)
    if fetch_out_of_range is not None:
        selective.append(SelectiveFault(fault(fetch_out_of_range), _FETCH, privileged_too=True))
    number = int(stage1.upper)
    tcr = stage1.regime.facts.tcr
    if stage1.e0pd:
        text = f"{tcr}.E0PD{number} is set: EL0 has no access through {stage1.ttbr}"
        cause = Cause(CauseKind.E0PD, text, register=tcr, field=f"E0PD{number}")
        selective.append(SelectiveFault(fault(cause), _EVERY_ACCESS, privileged_too=False))
    if stage1.epd:
        text = f"{tcr}.EPD{number} is set: walks of {stage1.ttbr} are disabled"
        return tuple(selective), fault(Cause(CauseKind.EPD, text, register=tcr, field=f"EPD{number}"))
    return tuple(selective), None


def _range_cause(stage1: Stage1, va: int, top_byte_ignored: bool) -> Cause | None:
    """Why ``va`` lies outside the range of TxSZ, or ``None``."""
    top, input_bits = 55 if top_byte_ignored else 63, stage1.table.input_bits
    wanted = mask(top - input_bits + 1) if stage1.upper else 0
    if bits(va, top, input_bits) == wanted:
        return None
    field = "T1SZ" if stage1.upper else "T0SZ"
    state = "set" if stage1.upper else "clear"
    tcr = stage1.regime.facts.tcr
    text = f"bits [{top}:{input_bits}] of {va:#x} are not all {state}, as {tcr}.{field} = {64 - input_bits} requires"
    return Cause(CauseKind.VA_OUT_OF_RANGE, text, register=tcr, field=field)


def _faulting(stage1: Stage1, va: int, descent: Descent, selective: tuple[SelectiveFault, ...]) -> Walk:
    assert descent.fault is not None
    leaf = descent.leaf
    none = denied(descent.fault.cause)
    return Walk(
        va=va,
        regime=stage1.regime,
        enabled=True,
        levels=descent.levels,
        pa=None,
        page_size=None,
        leaf_level=leaf.level if leaf else None,
        privileged=none,
        user=none if stage1.regime.facts.two_ranges else None,
        fault=descent.fault,
        selective_faults=selective,
        warnings=stage1.warnings,
        table_access=stage1.table_access,
        assumptions=stage1.assumptions,
    )


def _translated(
    registers: RegisterValues,
    memory: PhysicalMemory,
    stage1: Stage1,
    va: int,
    levels: tuple[WalkLevel, ...],
    leaf: WalkLevel,
    selective: tuple[SelectiveFault, ...],
    pan: bool | None,
) -> Walk:
    descriptor, output = leaf.descriptor, leaf.output
    assert descriptor is not None and output is not None
    privileged, user = _rights(registers, stage1, levels, pan)
    raw_shareability = Shareability(bits(descriptor, 9, 8)) if not stage1.table.ds else stage1.shareability
    executable = privileged.execute.allowed or (user is not None and user.execute.allowed)
    privileged, user = _with_selective(privileged, user, selective)
    memory_type = leaf_memory_type(stage1, descriptor)
    shareability = leaf_shareability(stage1, descriptor, memory_type)
    contiguous = bool(
        stage1.contiguous_bit and bit(descriptor, CONTIGUOUS_BIT) and stage1.table.contiguous_entries(leaf.level) > 1
    )
    non_fault = stage1.non_fault_warning if user is not None and user.read.allowed else None
    where = named(stage1.table, leaf.level, leaf.address)
    page_size = 1 << stage1.table.shift(leaf.level)
    return Walk(
        va=va,
        regime=stage1.regime,
        enabled=True,
        levels=levels,
        pa=output | (va & (page_size - 1)),
        page_size=page_size,
        leaf_level=leaf.level,
        privileged=privileged,
        user=user,
        memory_type=memory_type,
        fetch_type=memory_type,
        shareability=shareability,
        selective_faults=selective,
        guarded=bool(bit(descriptor, GP_BIT)),
        contiguous=contiguous,
        warnings=(
            *stage1.warnings,
            *leaf_warnings(stage1.table, leaf, memory, contiguous),
            *memory_warnings(where, leaf, memory_type, raw_shareability, executable),
            *(() if non_fault is None else (non_fault,)),
        ),
        table_access=stage1.table_access,
        assumptions=stage1.assumptions,
    )


def _rights(
    registers: RegisterValues, stage1: Stage1, levels: tuple[WalkLevel, ...], pan: bool | None
) -> tuple[Rights, Rights | None]:
    leaf = levels[-1].descriptor
    assert leaf is not None
    table_bits = 0
    for step in levels[:-1]:
        table_bits |= step.descriptor or 0
    decision = decide(stage1.rules, leaf, table_bits, pan=bool(pan))
    if pan is None:
        with_pan = decide(stage1.rules, leaf, table_bits, pan=True)
        # PSTATE is asked for only when it decides.
        if with_pan != decision and _pan(registers, stage1.regime):
            decision = with_pan
    return explain(stage1, levels, decision)


def _pan(registers: RegisterValues, regime: Regime) -> bool:
    if has_feature(registers, "FEAT_PAN") is False:
        return False
    return pan_of(needed(registers, "PSTATE", f"PAN in the {regime.value} regime"))


def _with_selective(
    privileged: Rights, user: Rights | None, selective: tuple[SelectiveFault, ...]
) -> tuple[Rights, Rights | None]:
    """Deny what a fault before the walk denies."""
    for item in selective:
        right = Right(False, (item.fault.cause,))
        if item.accesses == _EVERY_ACCESS:
            user = None if user is None else denied(item.fault.cause)
        else:
            privileged = replace(privileged, execute=right)
            user = None if user is None else replace(user, execute=right)
    return privileged, user
