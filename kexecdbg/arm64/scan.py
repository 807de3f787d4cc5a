"""Everything that a translation table maps, as merged ranges.

The rights of each distinct combination of attribute bits are decided once, by the same rules as a single walk's. The
heavy work is in :mod:`kexecdbg.arm64.table_arrays`, which is imported when a scan starts, because it needs numpy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
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
    MemoryType,
    Shareability,
    combine_stages,
    effective_shareability,
)
from kexecdbg.arm64.permissions import Denials, decide
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
    from kexecdbg.arm64.table_arrays import ProblemKind, RawProblem, ScanLimits


@dataclass(frozen=True)
class AccessRights:
    """What one privilege may do with a range."""

    read: bool
    write: bool
    execute: bool

    @property
    def text(self) -> str:
        """``rwx`` with ``-`` for each right that is denied."""
        rights = ((self.read, "r"), (self.write, "w"), (self.execute, "x"))
        return "".join(letter if granted else "-" for granted, letter in rights)


_NO_ACCESS = AccessRights(False, False, False)


@dataclass(frozen=True)
class RangeAttributes:
    """Attributes that all pages of a range share.

    Attributes:
        descriptor: the attribute bits of the leaves as they are in memory, without the address and software bits.
        inherited: the attribute bits of all tables above, ORed together; 0 where they have no effect.
        privileged: rights at the regime's own exception level, without PSTATE.PAN; of EL1 in stage 2.
        user: rights of EL0, or ``None`` in a regime without EL0.
        memory_type: as in a :class:`~kexecdbg.arm64.walk.Walk`; ``None`` when MAIR_ELx is unknown.
        shareability: as it takes effect.
        access_flag: AF; without it, and without hardware management, every access faults and there are no rights.
        guarded, contiguous, dirty_modifier, not_global: the GP, Contiguous, DBM and nG bits.
    """

    descriptor: int
    inherited: int
    privileged: AccessRights
    user: AccessRights | None
    memory_type: MemoryType | None
    shareability: Shareability | None
    access_flag: bool
    guarded: bool
    contiguous: bool
    dirty_modifier: bool
    not_global: bool


@dataclass(frozen=True)
class MappedRange:
    """Addresses ``va`` to ``end`` (exclusive) that map to ``pa`` and on, in pages of ``page_size`` bytes.

    In stage 2, ``va`` is the intermediate physical address. In EL1&0 under stage 2, ``pa`` is one.
    """

    va: int
    end: int
    pa: int
    page_size: int
    level: int
    attributes: RangeAttributes

    @property
    def privileged(self) -> AccessRights:
        """Rights at the regime's own exception level."""
        return self.attributes.privileged

    @property
    def user(self) -> AccessRights | None:
        """Rights of EL0, or ``None`` in a regime without EL0."""
        return self.attributes.user

    @property
    def memory_type(self) -> MemoryType | None:
        """Memory type, or ``None`` when MAIR_ELx is unknown."""
        return self.attributes.memory_type

    @property
    def size(self) -> int:
        """Bytes."""
        return self.end - self.va


@dataclass(frozen=True)
class ScanProblem:
    """Something in the tables that cannot be right, or that was not followed.

    Attributes:
        kind: what it is.
        text: one sentence part that a user reads.
        level: of the entry. One above the first level stands for the base register.
        address: physical address of the entry; 0 for the base register.
        descriptor: value of the entry.
        va: the first address that the entry maps.
        target: the address it points to, where that matters.
    """

    kind: ProblemKind
    text: str
    level: int
    address: int
    descriptor: int
    va: int
    target: int


@dataclass(frozen=True)
class TableScan:
    """What a table maps.

    Attributes:
        regime: the stage 1 regime, or ``None`` for stage 2.
        root: physical address of the first table (an IPA in EL1&0 under stage 2).
        register: the base register.
        ranges: by address.
        entries: valid descriptors, each counted once.
        tables: tables read, each counted once.
        problems: in the order of the levels; at most a few hundred, ``problems_left_out`` counts the others.
        output_is_ipa: the ranges' ``pa`` is subject to stage 2.
        warnings, assumptions: as in a :class:`~kexecdbg.arm64.walk.Walk`.
    """

    regime: Regime | None
    root: int
    register: str
    ranges: tuple[MappedRange, ...]
    entries: int
    tables: int
    problems: tuple[ScanProblem, ...]
    problems_left_out: int
    output_is_ipa: bool
    warnings: tuple[Cause, ...]
    assumptions: tuple[str, ...]


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
    return _scan(
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
        privileged=_NO_ACCESS if faults else _granted(decision.privileged),
        user=_NO_ACCESS if user is not None and (faults or stage1.e0pd) else user,
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
            return _NO_ACCESS
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
    from kexecdbg.arm64.table_arrays import Collected, ScanLimits, TableCollector

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
        ranges=tuple(ranges),
        entries=found.entries,
        tables=found.tables,
        problems=tuple(problems),
        problems_left_out=found.left_out,
        output_is_ipa=subject.output_is_ipa,
        warnings=subject.warnings,
        assumptions=subject.assumptions,
    )


def _configuration_problem(cause: Cause, subject: _Subject) -> ScanProblem:
    from kexecdbg.arm64.table_arrays import ProblemKind

    level = subject.table.start_level - 1
    return ScanProblem(ProblemKind.CONFIGURATION, cause.text, level, 0, 0, subject.va_base, subject.base)


def _problem(table: TableFormat, register: str, raw: RawProblem) -> ScanProblem:
    """A problem in words."""
    if raw.level < table.start_level:
        where = register
    else:
        where = f"{named(table, raw.level, raw.address)}, {raw.descriptor:#x},"
    texts = {
        "CYCLE": f"points to {raw.target:#x}, a table above itself",
        "UNREADABLE": f"points to a table at {raw.target:#x} that cannot be read: {raw.detail}",
        "TABLE_SIZE": f"points to a table at {raw.target:#x}, beyond the {table.output_bits}-bit output size",
        "OUTPUT_SIZE": f"maps {raw.va:#x} to {raw.target:#x}, beyond the {table.output_bits}-bit output size",
        "RESERVED": "is a reserved encoding, which translates like an invalid one",
        "SHARED": f"points to a table at {raw.target:#x} that is shared: {raw.detail}",
        "LIMIT": f"is where the scan stopped: {raw.detail}",
        "CONFIGURATION": raw.detail,
    }
    text = f"{where} {texts[raw.kind.name]}"
    return ScanProblem(raw.kind, text, raw.level, raw.address, raw.descriptor, raw.va, raw.target)


def select_ranges(
    ranges: Iterable[MappedRange],
    *,
    within: tuple[int, int] | None = None,
    maps: tuple[int, int] | None = None,
    privileged: str | None = None,
    user: str | None = None,
    memory_type: str | None = None,
) -> tuple[MappedRange, ...]:
    """The ranges that meet every condition that is given.

    Args:
        ranges: of a :class:`TableScan`.
        within: virtual addresses ``(first, end)``, end exclusive; ranges that touch them count, whole.
        maps: the same for physical addresses.
        privileged: rights as printed, with ``?`` for either: ``r-x``, ``?w?``, ``?wx``.
        user: the same for EL0; a regime without EL0 has ``---``.
        memory_type: part of the memory type's text, in any case: ``device``, ``non-cacheable``.
    """

    def wanted(item: MappedRange) -> bool:
        type_text = item.memory_type.text if item.memory_type else "unknown"
        return (
            (within is None or (item.va < within[1] and within[0] < item.end))
            and (maps is None or (item.pa < maps[1] and maps[0] < item.pa + item.size))
            and (privileged is None or _matches(privileged, item.privileged))
            and (user is None or _matches(user, item.user or _NO_ACCESS))
            and (memory_type is None or memory_type.lower() in type_text.lower())
        )

    return tuple(item for item in ranges if wanted(item))


def _matches(pattern: str, rights: AccessRights) -> bool:
    return len(pattern) == 3 and all(want in ("?", has) for want, has in zip(pattern, rights.text, strict=True))
