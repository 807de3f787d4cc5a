"""What lies where in an address space, in as few blocks as a picture has room for."""

from __future__ import annotations

import enum
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise

from kexecdbg.arm64.interfaces import PhysicalMemory, RegisterValues
from kexecdbg.arm64.ranges import AccessRights, MappedRange, ProblemKind, TableScan
from kexecdbg.arm64.vectors import VECTORS_SIZE
from kexecdbg.checks.image_entry import relocation_ahead
from kexecdbg.errors import KexecdbgError
from kexecdbg.machine.state import CpuState

_ADDRESSES = 1 << 64
_MOST_BLOCKS = 18
_APART = 1 << 20
"""Ranges that differ in whether code runs in them, or in what points there, count as this many bytes further apart."""
_FEWEST, _DROP = 3, 4
"""After so many gaps, one that is so many times smaller than the one before parts nothing any more."""


class PointKind(enum.Enum):
    """What is worth seeing in an address space."""

    PC = "PC"
    VECTORS = "vectors"
    SP = "SP"
    TABLE = "table"
    DESTINATION = "destination"


_SINGLE = {PointKind.PC, PointKind.VECTORS, PointKind.SP}


@dataclass(frozen=True)
class Point:
    """Something at the input addresses ``start`` to ``end`` (exclusive).

    Attributes:
        physical: ``start`` and ``end`` are output addresses: it is wherever the tables map these.
    """

    kind: PointKind
    start: int
    end: int
    physical: bool = False


@dataclass(frozen=True)
class Part:
    """Bytes of a block that share rights and memory type."""

    privileged: AccessRights
    user: AccessRights | None
    memory_type: str | None
    size: int


@dataclass(frozen=True)
class Block:
    """Mapped addresses that are drawn as one.

    Attributes:
        start, end: input addresses, ``end`` exclusive.
        mapped: bytes in between that are mapped.
        ranges: how many ranges it stands for.
        offset: output minus input address, if it is the same all over; 0 for an identity mapping.
        parts: by rights and memory type, the largest first.
        points: what lies in it.
    """

    start: int
    end: int
    mapped: int
    ranges: int
    offset: int | None
    parts: tuple[Part, ...]
    points: tuple[Point, ...]


@dataclass(frozen=True)
class AddressMap:
    """An address space.

    Attributes:
        start, end: input addresses that the table translates, ``end`` exclusive.
        blocks: ascending; what is between them is not mapped.
        unmapped: points that no range maps; those in ``unread`` addresses are left out.
        unread: addresses, start and end (exclusive), whose tables could not be read: what they map is not known.
        complete: the blocks are all of the table, not a selection.
    """

    start: int
    end: int
    blocks: tuple[Block, ...]
    unmapped: tuple[Point, ...]
    unread: tuple[tuple[int, int], ...]
    complete: bool


def points_of(state: RegisterValues, scan: TableScan) -> tuple[Point, ...]:
    """The PC, the vectors and SP, as far as they are in ``scan``'s half of the addresses, and the tables themselves."""
    points = [Point(PointKind.TABLE, start, start + size, physical=True) for start, size in scan.table_places]
    if scan.regime is None:
        return ()  # the CPU's addresses are none of stage 2, and the tables lie behind it
    for kind, name, size in (
        (PointKind.PC, "PC", 4),
        (PointKind.VECTORS, scan.regime.facts.vbar, VECTORS_SIZE),
        (PointKind.SP, "SP", 1),
    ):
        value = state.get(name)
        if value is not None and scan.regime.facts.is_upper(value) == scan.is_upper:
            points.append(Point(kind, value, value + size))
    return tuple(points)


def destinations_of(state: CpuState, memory: PhysicalMemory) -> tuple[Point, ...]:
    """Where the relocation that the CPU is at puts its pages; none when it is elsewhere, or that cannot be told."""
    try:
        relocation = relocation_ahead(state, memory)
        ranges = () if relocation is None else relocation.destinations
    except KexecdbgError:
        return ()
    return tuple(Point(PointKind.DESTINATION, start, end, physical=True) for start, end in ranges)


def address_map(
    scan: TableScan, ranges: Sequence[MappedRange], points: Iterable[Point], most: int = _MOST_BLOCKS
) -> AddressMap:
    """``ranges`` of ``scan`` in ``most`` blocks at most, ``points`` with the blocks that they lie in."""
    placed, unmapped = _place(points, ranges)
    unread = tuple(_unread(scan))
    shift = scan.table_format.input_bits
    return AddressMap(
        start=_ADDRESSES - (1 << shift) if scan.is_upper else 0,
        end=_ADDRESSES if scan.is_upper else 1 << shift,
        blocks=tuple(_block(group, placed) for group in _groups(ranges, placed, most)),
        unmapped=tuple(
            point
            for point in unmapped
            if not (point.physical and unread) and not any(start <= point.start < end for start, end in unread)
        ),
        unread=unread,
        complete=len(ranges) == len(scan.ranges),
    )


def _unread(scan: TableScan) -> Iterator[tuple[int, int]]:
    """What the entries map whose table could not be read or was not followed; everything, if not all are listed."""
    form = scan.table_format
    for problem in scan.problems:
        if problem.kind in (ProblemKind.UNREADABLE, ProblemKind.LIMIT):
            whole = problem.level < form.start_level
            size = 1 << (form.input_bits if whole else form.shift(problem.level))
            start = problem.va - problem.va % size
            yield start, start + size
    if scan.problems_left_out:
        yield 0, _ADDRESSES


def _place(points: Iterable[Point], ranges: Sequence[MappedRange]) -> tuple[dict[int, list[Point]], tuple[Point, ...]]:
    """The points by the index of the range that maps their first byte, and those that none maps."""
    by_input = _Finder([(each.va, each.size) for each in ranges])
    by_output = _Finder([(each.pa, each.size) for each in ranges])
    placed: dict[int, list[Point]] = {}
    unmapped = []
    for point in points:
        # SP points behind what it points to: an empty stack that fills a range is at its end.
        address = point.start - 1 if point.kind is PointKind.SP and point.start else point.start
        index = (by_output if point.physical else by_input).find(address)
        if index is None:
            unmapped.append(point)
        else:
            placed.setdefault(index, []).append(point)
    return placed, tuple(unmapped)


class _Finder:
    """Finds the interval (start, size) that an address is in."""

    def __init__(self, intervals: Sequence[tuple[int, int]]) -> None:
        self._order = sorted(range(len(intervals)), key=lambda index: intervals[index])
        self._starts = [intervals[index][0] for index in self._order]
        self._ends = [sum(intervals[index]) for index in self._order]
        self._furthest = list(accumulate(self._ends, max))

    def find(self, address: int) -> int | None:
        """The index of an interval with ``address`` in it: of several that overlap, one that starts last."""
        position = bisect_right(self._starts, address) - 1
        while position >= 0 and self._furthest[position] > address:
            if self._ends[position] > address:
                return self._order[position]
            position -= 1
        return None


def _groups(
    ranges: Sequence[MappedRange], placed: dict[int, list[Point]], most: int
) -> list[list[tuple[int, MappedRange]]]:
    """Ranges, with their indices, parted where the ``most`` - 1 widest gaps are."""
    if not ranges:
        return []
    single = {index: {point.kind for point in points} & _SINGLE for index, points in placed.items()}
    apart = [
        (_distance(before, after, single.get(index, set()) != single.get(index + 1, set())), index)
        for index, (before, after) in enumerate(pairwise(ranges))
    ]
    parted = _widest(apart, most - 1)
    groups: list[list[tuple[int, MappedRange]]] = [[]]
    for index, item in enumerate(ranges):
        groups[-1].append((index, item))
        if index in parted:
            groups.append([])
    return groups


def _widest(apart: Iterable[tuple[int, int]], most: int) -> set[int]:
    """The indices of the ``most`` largest distances; fewer where those that follow are all much smaller."""
    ordered = [each for each in sorted(apart, reverse=True) if each[0]][:most]
    for number, ((before, _), (after, _)) in enumerate(pairwise(ordered), 1):
        if number >= _FEWEST and after < _APART and after * _DROP <= before:
            return {index for _, index in ordered[:number]}
    return {index for _, index in ordered}


def _distance(before: MappedRange, after: MappedRange, differ: bool) -> int:
    distance = after.va - before.end
    if before.attributes is after.attributes and before.pa - before.va == after.pa - after.va:
        return distance + _APART if differ and distance else distance
    if _look(before) != _look(after) or before.pa - before.va != after.pa - after.va:
        distance += after.page_size
    elif not distance:
        return 0
    if differ or before.privileged.execute != after.privileged.execute:
        distance += _APART
    return distance


def _look(item: MappedRange) -> tuple[AccessRights, AccessRights | None, str | None]:
    return item.privileged, item.user, None if item.memory_type is None else item.memory_type.text


@dataclass
class _Sum:
    size: int = 0
    offsets: set[int] = field(default_factory=set)


def _block(group: Sequence[tuple[int, MappedRange]], placed: dict[int, list[Point]]) -> Block:
    sums: dict[tuple[AccessRights, AccessRights | None, str | None], _Sum] = {}
    for _, item in group:
        found = sums.setdefault(_look(item), _Sum())
        found.size += item.size
        found.offsets.add(item.pa - item.va)
    offsets = {offset for each in sums.values() for offset in each.offsets}
    by_size = sorted(sums.items(), key=lambda entry: -entry[1].size)
    return Block(
        start=group[0][1].va,
        end=group[-1][1].end,
        mapped=sum(each.size for each in sums.values()),
        ranges=len(group),
        offset=offsets.pop() if len(offsets) == 1 else None,
        parts=tuple(Part(*look, found.size) for look, found in by_size),
        points=tuple(point for index, _ in group for point in placed.get(index, ())),
    )
