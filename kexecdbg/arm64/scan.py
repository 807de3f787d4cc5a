"""Everything that a translation table maps, as merged ranges.

The rights of each distinct combination of attribute bits are decided once, by the same rules as a single walk's. The
heavy work is in :mod:`kexecdbg.arm64.table_arrays`, which is imported when a scan starts, because it needs numpy.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from kexecdbg.arm64.bits import bit, bits, field_mask
from kexecdbg.arm64.descent import named
from kexecdbg.arm64.descriptors import (
    AF_BIT,
    AP_TABLE1_BIT,
    CONTIGUOUS_BIT,
    DBM_BIT,
    GP_BIT,
    NG_BIT,
    PXN_TABLE_BIT,
    S2AP_READ_BIT,
)
from kexecdbg.arm64.faults import Cause, CauseKind
from kexecdbg.arm64.geometry import TableFormat
from kexecdbg.arm64.interfaces import PhysicalMemory, RegisterValues
from kexecdbg.arm64.leaf_attributes import leaf_memory_type, leaf_shareability
from kexecdbg.arm64.memory_types import (
    NORMAL_WRITE_BACK,
    Shareability,
    combine_stages,
    effective_shareability,
)
from kexecdbg.arm64.permissions import Denials, decide
from kexecdbg.arm64.ranges import (
    NO_ACCESS,
    AccessRights,
    MappedRange,
    ProblemKind,
    RangeAttributes,
    ScanLimits,
    ScanProblem,
    TableScan,
    select_ranges,
)
from kexecdbg.arm64.regimes import Regime
from kexecdbg.arm64.stage2 import (
    Stage2,
    executable,
    locate_table,
    stage2_enabled,
    stage2_of,
    writable,
)
from kexecdbg.arm64.translation import Stage1, stage1_of
from kexecdbg.errors import MemoryUnreadableError

if TYPE_CHECKING:
    from kexecdbg.arm64.table_arrays import RawProblem

__all__ = [
    "AccessRights",
    "MappedRange",
    "ProblemKind",
    "RangeAttributes",
    "ScanLimits",
    "ScanProblem",
    "TableScan",
    "scan",
    "scan_stage2",
    "select_ranges",
]


def scan(
    registers: RegisterValues,
    memory: PhysicalMemory,
    regime: Regime,
    *,
    ttbr: int = 0,
    pan: bool = False,
    limits: ScanLimits | None = None,
) -> TableScan:
    """Everything that TTBR0 or TTBR1 of ``regime`` maps, whether stage 1 is on or not.

    Args:
        registers: values by canonical name.
        memory: physical memory; each table is read with one call (under stage 2, one for each stage 2 page).
        regime: the stage 1 regime.
        ttbr: 0 or 1.
        pan: PSTATE.PAN; off by default, because it is the CPU's state and not the tables'.
        limits: bounds on the work, if not the default ones.

    Raises:
        RegisterUnknownError: a register that decides is unknown.
        ArchitectureError: 128-bit descriptors; or ``ttbr`` 1 in a regime with one range.
    """
    stage1 = stage1_of(registers, regime, upper=ttbr == 1)
    stage2 = stage2_of(registers) if regime is Regime.EL1_0 and stage2_enabled(registers) else None
    source = memory if stage2 is None else _ThroughStage2(stage2, memory)
    table = stage1.table
    inherited_mask = field_mask(AP_TABLE1_BIT, PXN_TABLE_BIT) if stage1.rules.hierarchical else 0
    problem = stage1.problem
    if problem is None and stage1.epd:
        text = f"{regime.facts.tcr}.EPD{ttbr} is set: walks of {stage1.ttbr} are disabled"
        problem = Cause(CauseKind.EPD, text, register=regime.facts.tcr, field=f"EPD{ttbr}")
    found = _scan(
        _Subject(
            regime=regime,
            table=table,
            base=stage1.base,
            register=stage1.ttbr,
            va_base=(1 << 64) - (1 << table.input_bits) if stage1.upper else 0,
            attribute_mask=_stage1_attribute_mask(stage1),
            inherited_mask=inherited_mask,
            attributes=lambda descriptor, inherited: _stage1_attributes(stage1, descriptor, inherited, pan),
            problem=problem,
            output_is_ipa=stage2 is not None,
            warnings=stage1.warnings,
            assumptions=stage1.assumptions,
        ),
        source,
        limits,
    )
    non_fault = stage1.non_fault_warning
    if non_fault is not None and any(item.user is not None and item.user.read for item in found.ranges):
        return replace(found, warnings=(*found.warnings, non_fault))
    return found


def scan_stage2(registers: RegisterValues, memory: PhysicalMemory, *, limits: ScanLimits | None = None) -> TableScan:
    """Everything that VTTBR_EL2 maps, whether stage 2 is on or not; ``va`` of the ranges is the IPA.

    Raises:
        RegisterUnknownError: VTCR_EL2, VTTBR_EL2, HCR_EL2 or SCTLR_EL2 is unknown.
        ArchitectureError: see :func:`kexecdbg.arm64.stage2.stage2_of`.
    """
    stage2 = stage2_of(registers)
    return _scan(
        _Subject(
            regime=None,
            table=stage2.table,
            base=stage2.base,
            register="VTTBR_EL2",
            va_base=0,
            attribute_mask=_LEAF_ATTRIBUTES & ~(1 << GP_BIT) & _without_shareability(stage2.table),
            inherited_mask=0,
            attributes=lambda descriptor, inherited: _stage2_attributes(stage2, descriptor),
            problem=stage2.problem,
            output_is_ipa=False,
            warnings=stage2.warnings,
            assumptions=stage2.assumptions,
        ),
        memory,
        limits,
    )


@dataclass(frozen=True)
class _Subject:
    """What is scanned: a table, and what its attribute bits mean."""

    regime: Regime | None
    table: TableFormat
    base: int
    register: str
    va_base: int
    attribute_mask: int
    inherited_mask: int
    attributes: Callable[[int, int], RangeAttributes]
    problem: Cause | None
    output_is_ipa: bool
    warnings: tuple[Cause, ...]
    assumptions: tuple[str, ...]


# AttrIndx or MemAttr, NS, AP, SH, AF, nG; GP, DBM, Contiguous, PXN, UXN.
_LEAF_ATTRIBUTES = field_mask(11, 2) | field_mask(54, 50)


def _without_shareability(table: TableFormat) -> int:
    """With DS = 1, bits [9:8] are address bits."""
    return ~field_mask(9, 8) if table.ds else -1


def _stage1_attribute_mask(stage1: Stage1) -> int:
    attributes = _LEAF_ATTRIBUTES & _without_shareability(stage1.table)
    if stage1.attr_index_bits == 4:
        attributes |= 1 << 59
    if stage1.rules.overlay is not None or stage1.rules.overlay_el0 is not None:
        attributes |= field_mask(62, 60)
    return attributes


def _stage1_attributes(stage1: Stage1, descriptor: int, inherited: int, pan: bool) -> RangeAttributes:
    decision = decide(stage1.rules, descriptor, inherited, pan=pan)
    memory_type = leaf_memory_type(stage1, descriptor)
    faults = not bit(descriptor, AF_BIT) and not stage1.table.hardware_af
    user = None if decision.user is None else _granted(decision.user)
    return RangeAttributes(
        descriptor=descriptor,
        inherited=inherited,
        privileged=NO_ACCESS if faults else _granted(decision.privileged),
        user=NO_ACCESS if user is not None and (faults or stage1.e0pd) else user,
        memory_type=memory_type,
        shareability=leaf_shareability(stage1, descriptor, memory_type),
        access_flag=bool(bit(descriptor, AF_BIT)),
        guarded=bool(bit(descriptor, GP_BIT)),
        contiguous=stage1.contiguous_bit and bool(bit(descriptor, CONTIGUOUS_BIT)),
        dirty_modifier=bool(bit(descriptor, DBM_BIT)),
        not_global=bool(bit(descriptor, NG_BIT)),
    )


def _granted(denials: Denials) -> AccessRights:
    return AccessRights(not denials.read, not denials.write, not denials.execute)


def _stage2_attributes(stage2: Stage2, descriptor: int) -> RangeAttributes:
    faults = not bit(descriptor, AF_BIT) and not stage2.table.hardware_af

    def rights(privileged: bool) -> AccessRights:
        if faults:
            return NO_ACCESS
        return AccessRights(
            bool(bit(descriptor, S2AP_READ_BIT)),
            writable(stage2, descriptor),
            executable(stage2, descriptor, privileged=privileged),
        )

    memory_type = combine_stages(NORMAL_WRITE_BACK, bits(descriptor, 5, 2), fwb=stage2.fwb)
    raw = stage2.shareability if stage2.table.ds else Shareability(bits(descriptor, 9, 8))
    return RangeAttributes(
        descriptor=descriptor,
        inherited=0,
        privileged=rights(privileged=True),
        user=rights(privileged=False),
        memory_type=memory_type,
        shareability=effective_shareability(memory_type, raw),
        access_flag=bool(bit(descriptor, AF_BIT)),
        guarded=False,
        contiguous=bool(bit(descriptor, CONTIGUOUS_BIT)),
        dirty_modifier=bool(bit(descriptor, DBM_BIT)),
        not_global=False,
    )


class _ThroughStage2:
    """Memory as a stage 1 table walk sees it: intermediate physical addresses."""

    def __init__(self, stage2: Stage2, memory: PhysicalMemory) -> None:
        self._stage2 = stage2
        self._memory = memory

    def read(self, address: int, size: int) -> bytes:
        """``size`` bytes from the IPA ``address``; a stage 2 fault counts as unreadable."""
        granule = 1 << self._stage2.table.granule.shift
        data = b""
        while size:
            place = locate_table(self._stage2, self._memory, address)
            if place.fault is not None:
                raise MemoryUnreadableError(address, size, f"{place.fault.text}: {place.fault.cause.text}")
            length = min(size, granule - address % granule)
            data += self._memory.read(place.physical, length)
            address += length
            size -= length
        return data


def _scan(subject: _Subject, memory: PhysicalMemory, limits: ScanLimits | None) -> TableScan:
    from kexecdbg.arm64.table_arrays import Collected, TableCollector

    table = subject.table
    problem = subject.problem
    if problem is None and not table.fits(subject.base):
        text = f"{subject.register} points to {subject.base:#x}, beyond the {table.output_bits}-bit output size"
        problem = Cause(CauseKind.TABLE_BASE_SIZE, text, register=subject.register, field="BADDR")
    if problem is not None:
        found = Collected()
    else:
        collector = TableCollector(
            table, memory, subject.attribute_mask, subject.inherited_mask, limits or ScanLimits()
        )
        found = collector.collect(subject.base, subject.va_base)
    seen: dict[tuple[int, int], RangeAttributes] = {}
    ranges = []
    for run in found.runs:
        key = (run.attributes, run.inherited)
        attributes = seen.get(key)
        if attributes is None:
            attributes = seen[key] = subject.attributes(*key)
        page_size = 1 << table.shift(run.level)
        ranges.append(MappedRange(run.va, run.va + run.pages * page_size, run.pa, page_size, run.level, attributes))
    problems = [_problem(table, subject.register, raw) for raw in found.problems]
    if problem is not None:
        problems.append(_configuration_problem(problem, subject))
    return TableScan(
        regime=subject.regime,
        root=subject.base,
        register=subject.register,
        table_format=table,
        ranges=tuple(ranges),
        entries=found.entries,
        table_places=tuple(found.tables.items()),
        problems=tuple(problems),
        problems_left_out=found.left_out,
        output_is_ipa=subject.output_is_ipa,
        warnings=subject.warnings,
        assumptions=subject.assumptions,
    )


def _configuration_problem(cause: Cause, subject: _Subject) -> ScanProblem:
    text = cause.text
    if cause.kind is not CauseKind.TABLE_BASE_SIZE:  # which names the table
        text = f"the table at {subject.base:#x} is not walked: {text}"
    level = subject.table.start_level - 1
    return ScanProblem(ProblemKind.CONFIGURATION, text, level, 0, 0, subject.va_base, subject.base)


def _problem(table: TableFormat, register: str, raw: RawProblem) -> ScanProblem:
    """A problem in words."""
    if raw.level < table.start_level:
        where = register
    else:
        where = f"{named(table, raw.level, raw.address)}, {raw.descriptor:#x},"
    texts = {
        ProblemKind.CYCLE: f"points to {raw.target:#x}, a table above itself",
        ProblemKind.UNREADABLE: f"points to a table at {raw.target:#x} that cannot be read: {raw.detail}",
        ProblemKind.TABLE_SIZE: f"points to a table at {raw.target:#x}, beyond the {table.output_bits}-bit output size",
        ProblemKind.OUTPUT_SIZE: f"maps {raw.va:#x} to {raw.target:#x}, beyond the {table.output_bits}-bit output size",
        ProblemKind.RESERVED: "is a reserved encoding, which translates like an invalid one",
        ProblemKind.RESERVED_BITS: f"has bits {_bit_list(raw.target)} set, which are RES0",
        ProblemKind.SHARED: f"points to a table at {raw.target:#x} that is shared: {raw.detail}",
        ProblemKind.LIMIT: f"is where the scan stopped: {raw.detail}",
        ProblemKind.CONFIGURATION: raw.detail,
    }
    text = f"{where} {texts[raw.kind]}"
    return ScanProblem(raw.kind, text, raw.level, raw.address, raw.descriptor, raw.va, raw.target)


def _bit_list(mask: int) -> str:
    """``12``, ``49, 48``: the positions that are set, from the highest down."""
    return ", ".join(str(position) for position in range(mask.bit_length() - 1, -1, -1) if bit(mask, position))
