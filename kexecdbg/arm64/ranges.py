"""What a scan of whole tables finds: merged ranges, problems, and how to pick from them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from kexecdbg.arm64.faults import Cause
from kexecdbg.arm64.geometry import TableFormat
from kexecdbg.arm64.memory_types import MemoryType, Shareability
from kexecdbg.arm64.regimes import Regime


class ProblemKind(Enum):
    """What is wrong with an entry, or why it was not followed."""

    CYCLE = "cycle"
    UNREADABLE = "unreadable table"
    TABLE_SIZE = "table beyond the output size"
    OUTPUT_SIZE = "output address beyond the output size"
    RESERVED = "reserved descriptor"
    RESERVED_BITS = "reserved bits set"
    SHARED = "shared table"
    LIMIT = "scan limit"
    CONFIGURATION = "configuration"


@dataclass(frozen=True)
class ScanLimits:
    """What bounds the work on hostile tables: entries decoded, runs kept, problems kept."""

    entries: int = 1 << 25
    runs: int = 1 << 20
    problems: int = 256


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


#: No access at all.
NO_ACCESS = AccessRights(False, False, False)


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
        target: the address it points to, where that matters; of reserved bits, those that are set.
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
        table_format: granule, levels and sizes of the tables.
        ranges: by address.
        entries: valid descriptors, each counted once.
        table_places: physical address (an IPA in EL1&0 under stage 2) and size in bytes of each table read.
        problems: in the order of the levels; at most a few hundred, ``problems_left_out`` counts the others.
        output_is_ipa: the ranges' ``pa`` is subject to stage 2.
        warnings, assumptions: as in a :class:`~kexecdbg.arm64.walk.Walk`.
    """

    regime: Regime | None
    root: int
    register: str
    table_format: TableFormat
    ranges: tuple[MappedRange, ...]
    entries: int
    table_places: tuple[tuple[int, int], ...]
    problems: tuple[ScanProblem, ...]
    problems_left_out: int
    output_is_ipa: bool
    warnings: tuple[Cause, ...]
    assumptions: tuple[str, ...]

    @property
    def tables(self) -> int:
        """Tables read, each counted once."""
        return len(self.table_places)

    @property
    def is_upper(self) -> bool:
        """Whether it is the table of the upper address range, TTBR1's."""
        return self.regime is not None and self.register == self.regime.facts.ttbr1


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
            and (user is None or _matches(user, item.user or NO_ACCESS))
            and (memory_type is None or memory_type.lower() in type_text.lower())
        )

    return tuple(item for item in ranges if wanted(item))


def _matches(pattern: str, rights: AccessRights) -> bool:
    return len(pattern) == 3 and all(want in ("?", has) for want, has in zip(pattern, rights.text, strict=True))
