"""Whole translation tables as numpy arrays: all tables of one level are decoded in one go.

Importing this module imports numpy; only :mod:`kexecdbg.arm64.scan` does so, when a scan is asked for.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from kexecdbg.arm64.bits import field_mask
from kexecdbg.arm64.geometry import LAST_LEVEL, TableFormat
from kexecdbg.arm64.interfaces import PhysicalMemory
from kexecdbg.arm64.ranges import ProblemKind, ScanLimits
from kexecdbg.errors import MemoryUnreadableError

Words = npt.NDArray[np.uint64]
Flags = npt.NDArray[np.bool_]

# How often a table is expanded that many entries point to; a kernel with KASAN has one that is reached a million times.
MAX_VISITS_OF_ONE_TABLE = 64
_ENTRIES_AT_A_TIME = 1 << 20


@dataclass(frozen=True)
class RawProblem:
    """A problem with one entry: the entry's level, physical address and value, and the first address it maps."""

    kind: ProblemKind
    level: int
    address: int
    descriptor: int
    va: int
    target: int
    detail: str = ""


class Run(NamedTuple):
    """Leaves in a row: ``pages`` entries of ``level`` with the same attributes, contiguous in both address spaces."""

    va: int
    pa: int
    pages: int
    level: int
    attributes: int
    inherited: int


@dataclass
class Collected:
    """What a scan found so far.

    Attributes:
        runs: leaves, by address once the scan is done.
        entries: valid descriptors, counted once for a table that is reached by several paths.
        tables: address and size in bytes of the tables read.
        problems: the first problems; ``left_out`` counts the others.
    """

    runs: list[Run] = field(default_factory=list)
    entries: int = 0
    tables: dict[int, int] = field(default_factory=dict)
    problems: list[RawProblem] = field(default_factory=list)
    left_out: int = 0


@dataclass(frozen=True)
class _Tables:
    """The tables of one level that are still to be decoded, in the order of the addresses they map.

    ``ancestors`` has one row per table: the physical addresses of the tables above it and its own.
    """

    address: Words
    va: Words
    inherited: Words
    ancestors: Words
    entry_address: Words
    entry: Words

    def select(self, chosen: Flags | slice) -> _Tables:
        return _Tables(
            self.address[chosen],
            self.va[chosen],
            self.inherited[chosen],
            self.ancestors[chosen],
            self.entry_address[chosen],
            self.entry[chosen],
        )


@dataclass
class _Leaves:
    """Merged leaves of several batches, as parallel arrays."""

    va: list[Words] = field(default_factory=list)
    pa: list[Words] = field(default_factory=list)
    count: list[npt.NDArray[np.int64]] = field(default_factory=list)
    level: list[npt.NDArray[np.int64]] = field(default_factory=list)
    attributes: list[Words] = field(default_factory=list)
    inherited: list[Words] = field(default_factory=list)


class TableCollector:
    """Reads all tables under a base address, level by level.

    Args:
        table: the format of the tables.
        memory: where the tables are.
        attribute_mask: bits of a leaf that distinguish ranges.
        inherited_mask: bits of a table descriptor that leaves below it inherit.
        limits: bounds on the work.
    """

    def __init__(
        self, table: TableFormat, memory: PhysicalMemory, attribute_mask: int, inherited_mask: int, limits: ScanLimits
    ) -> None:
        self._table = table
        self._memory = memory
        self._attribute_mask = np.uint64(attribute_mask)
        self._inherited_mask = np.uint64(inherited_mask)
        self._limits = limits
        self._found = Collected()
        self._leaves = _Leaves()
        self._decoded = 0

    def collect(self, base: int, va_base: int) -> Collected:
        """Everything below the first table at ``base``, which maps addresses from ``va_base`` up."""
        one = np.array([base], np.uint64)
        nothing = np.zeros(1, np.uint64)
        tables = _Tables(one, np.array([va_base], np.uint64), nothing, one.reshape(1, 1), nothing, nothing)
        for level in range(self._table.start_level, LAST_LEVEL + 1):
            tables = self._decode_level(self._without_excess_visits(tables, level), level)
            if not len(tables.address):
                break
        self._found.runs = self._merged_runs()
        return self._found

    # One level.

    def _decode_level(self, tables: _Tables, level: int) -> _Tables:
        """Decode all tables of ``level``; the tables of the next one."""
        entries = 1 << self._table.index_bits(level)
        per_batch = max(1, _ENTRIES_AT_A_TIME // entries)
        below: list[_Tables] = []
        for start in range(0, len(tables.address), per_batch):
            batch = tables.select(slice(start, start + per_batch))
            if self._decoded + len(batch.address) * entries > self._limits.entries:
                self._problem(
                    ProblemKind.LIMIT, level, batch, 0, f"{len(tables.address) - start} tables are left undecoded"
                )
                break
            self._decoded += len(batch.address) * entries
            below.append(self._decode_batch(batch, level, entries))
        return _joined(below) if below else tables.select(slice(0, 0))

    def _decode_batch(self, tables: _Tables, level: int, entries: int) -> _Tables:
        tables, words = self._read(tables, level, entries)
        if not len(words):
            return tables.select(slice(0, 0))
        table = self._table
        one, two = np.uint64(1), np.uint64(2)
        shift = np.uint64(table.shift(level))
        # Empty entries are most entries: everything from here on is about the valid ones only.
        flat = np.flatnonzero(words & one)
        found = words.ravel()[flat]
        row = flat >> table.index_bits(level)
        column = (flat & (entries - 1)).astype(np.uint64)
        place = _Entries(row, found, tables.address[row] + np.uint64(8) * column, tables.va[row] + (column << shift))
        has_table_bit = (found & two) != 0
        if level == LAST_LEVEL:
            is_table, is_leaf = np.zeros_like(has_table_bit), has_table_bit
        else:
            is_table = has_table_bit
            is_leaf = ~has_table_bit if table.block_allowed(level) else np.zeros_like(has_table_bit)
        if not is_leaf.all():
            self._problems_of(ProblemKind.RESERVED, level, place, ~(is_table | is_leaf), np.zeros_like(found))
        self._report_reserved_bits(level, place, is_leaf, is_table=False)
        self._report_reserved_bits(level, place, is_table, is_table=True)
        if is_leaf.any():
            self._keep_leaves(tables, place if is_leaf.all() else place.select(is_leaf), level)
        return self._tables_below(tables, place.select(is_table), level)

    def _read(self, tables: _Tables, level: int, entries: int) -> tuple[_Tables, Words]:
        """The descriptors, one row per table; tables that cannot be read are reported and dropped."""
        distinct, which = np.unique(tables.address, return_inverse=True)
        which = which.reshape(-1)
        readable = np.ones(len(distinct), np.bool_)
        chunks: list[bytes] = []
        reasons: dict[int, str] = {}
        row_of = np.zeros(len(distinct), np.int64)
        for index, address in enumerate(distinct.tolist()):
            try:
                chunks.append(self._memory.read(address, 8 * entries))
            except MemoryUnreadableError as error:
                readable[index] = False
                reasons[index] = error.reason
                continue
            row_of[index] = len(chunks) - 1
        for index in np.nonzero(~readable[which])[0].tolist():
            reason = reasons[int(which[index])]
            self._problem(ProblemKind.UNREADABLE, level - 1, tables, index, reason, int(tables.address[index]))
        order = ">u8" if self._table.big_endian else "<u8"
        words = np.frombuffer(b"".join(chunks), order).astype(np.uint64, copy=False).reshape(-1, entries)
        for address in distinct[readable].tolist():
            # A table that is reached as the first one and from below counts once, with its larger size.
            self._found.tables[address] = max(8 * entries, self._found.tables.get(address, 0))
        self._found.entries += int(np.count_nonzero(words & np.uint64(1)))
        kept = readable[which]
        return tables.select(kept), words[row_of[which[kept]]]

    def _tables_below(self, tables: _Tables, place: _Entries, level: int) -> _Tables:
        """The tables that table descriptors point to, without those that must not be followed."""
        address = self._output(place.descriptor, self._table.granule.shift)
        too_big = (address >> np.uint64(self._table.output_bits)) != 0
        self._problems_of(ProblemKind.TABLE_SIZE, level, place, too_big, address)
        ancestors = tables.ancestors[place.row]
        is_ancestor = (ancestors == address[:, None]).any(axis=1)
        self._problems_of(ProblemKind.CYCLE, level, place, is_ancestor & ~too_big, address)
        follow = ~(too_big | is_ancestor)
        inherited = tables.inherited[place.row] | (place.descriptor & self._inherited_mask)
        below = _Tables(
            address, place.va, inherited, np.hstack([ancestors, address[:, None]]), place.address, place.descriptor
        )
        return below.select(follow)

    def _keep_leaves(self, tables: _Tables, place: _Entries, level: int) -> None:
        pa = self._output(place.descriptor, self._table.shift(level))
        too_big = (pa >> np.uint64(self._table.output_bits)) != 0
        if too_big.any():
            self._problems_of(ProblemKind.OUTPUT_SIZE, level, place, too_big, pa)
            place, pa = place.select(~too_big), pa[~too_big]
            if not len(pa):
                return
        attributes = place.descriptor & self._attribute_mask
        inherited = tables.inherited[place.row]
        size = np.uint64(1 << self._table.shift(level))
        starts = np.ones(len(pa), np.bool_)
        starts[1:] = (
            (place.va[1:] != place.va[:-1] + size)
            | (pa[1:] != pa[:-1] + size)
            | (attributes[1:] != attributes[:-1])
            | (inherited[1:] != inherited[:-1])
        )
        first = np.nonzero(starts)[0]
        leaves = self._leaves
        leaves.va.append(place.va[first])
        leaves.pa.append(pa[first])
        leaves.count.append(np.diff(first, append=len(pa)))
        leaves.level.append(np.full(len(first), level, np.int64))
        leaves.attributes.append(attributes[first])
        leaves.inherited.append(inherited[first])

    # Descriptors.

    def _output(self, descriptor: Words, low_bit: int) -> Words:
        """:meth:`TableFormat.output_address` of many descriptors."""
        address = descriptor & np.uint64(field_mask(47, low_bit))
        if self._table.ds:
            address |= (descriptor & np.uint64(field_mask(49, 48))) | (
                (descriptor & np.uint64(field_mask(9, 8))) << np.uint64(42)
            )
        elif self._table.lpa:
            address |= (descriptor & np.uint64(field_mask(15, 12))) << np.uint64(36)
        return address

    def _without_excess_visits(self, tables: _Tables, level: int) -> _Tables:
        """Drop further visits of a table that very many entries point to."""
        _, which, visits = np.unique(tables.address, return_inverse=True, return_counts=True)
        if visits.max() <= MAX_VISITS_OF_ONE_TABLE:
            return tables
        which = which.reshape(-1)
        order = np.argsort(which, kind="stable")
        group_start = np.cumsum(visits) - visits
        visit = np.empty(len(which), np.int64)
        visit[order] = np.arange(len(which)) - group_start[which[order]]
        for group in np.nonzero(visits > MAX_VISITS_OF_ONE_TABLE)[0].tolist():
            index = int(np.nonzero((which == group) & (visit == MAX_VISITS_OF_ONE_TABLE))[0][0])
            detail = f"{visits[group]} entries point to it; the first {MAX_VISITS_OF_ONE_TABLE} are shown"
            self._problem(ProblemKind.SHARED, level - 1, tables, index, detail, int(tables.address[index]))
        return tables.select(visit < MAX_VISITS_OF_ONE_TABLE)

    # Problems.

    def _report_reserved_bits(self, level: int, place: _Entries, chosen: Flags, *, is_table: bool) -> None:
        """Descriptors of one kind with RES0 bits set; ``target`` of the problem is those bits."""
        found = place.descriptor & np.uint64(self._table.reserved_bits(level, is_table=is_table))
        if found.any():
            self._problems_of(ProblemKind.RESERVED_BITS, level, place, chosen & (found != 0), found)

    def _problems_of(self, kind: ProblemKind, level: int, place: _Entries, chosen: Flags, target: Words) -> None:
        if not chosen.any():
            return
        where = np.nonzero(chosen)[0]
        room = max(0, self._limits.problems - len(self._found.problems))
        self._found.left_out += max(0, len(where) - room)
        self._found.problems += [
            RawProblem(
                kind,
                level,
                int(place.address[index]),
                int(place.descriptor[index]),
                int(place.va[index]),
                int(target[index]),
            )
            for index in where[:room].tolist()
        ]

    def _problem(
        self, kind: ProblemKind, level: int, tables: _Tables, index: int, detail: str, target: int = 0
    ) -> None:
        """A problem with a table as a whole; it is reported at the entry that points to it."""
        if len(self._found.problems) >= self._limits.problems:
            self._found.left_out += 1
            return
        self._found.problems.append(
            RawProblem(
                kind,
                level,
                int(tables.entry_address[index]),
                int(tables.entry[index]),
                int(tables.va[index]),
                target,
                detail,
            )
        )

    # The result.

    def _merged_runs(self) -> list[Run]:
        """All leaves by address, merged across the tables and batches they come from."""
        leaves = self._leaves
        if not leaves.va:
            return []
        va = np.concatenate(leaves.va)
        order = np.argsort(va, kind="stable")
        va = va[order]
        pa = np.concatenate(leaves.pa)[order]
        count = np.concatenate(leaves.count)[order]
        level = np.concatenate(leaves.level)[order]
        attributes = np.concatenate(leaves.attributes)[order]
        inherited = np.concatenate(leaves.inherited)[order]
        shifts = np.array([self._table.shift(LAST_LEVEL - above) for above in range(LAST_LEVEL + 2)], np.uint64)
        size = count.astype(np.uint64) << shifts[LAST_LEVEL - level]
        starts = np.ones(len(va), np.bool_)
        starts[1:] = (
            (va[1:] != va[:-1] + size[:-1])
            | (pa[1:] != pa[:-1] + size[:-1])
            | (level[1:] != level[:-1])
            | (attributes[1:] != attributes[:-1])
            | (inherited[1:] != inherited[:-1])
        )
        first = np.nonzero(starts)[0]
        if len(first) > self._limits.runs:
            dropped = len(first) - self._limits.runs
            self._found.problems.append(
                RawProblem(
                    ProblemKind.LIMIT, LAST_LEVEL, 0, 0, int(va[first[self._limits.runs]]), 0,
                    f"{dropped} further ranges are left out",
                )
            )  # fmt: skip
        counts = np.add.reduceat(count, first)[: self._limits.runs]
        first = first[: self._limits.runs]
        columns = (va[first], pa[first], counts, level[first], attributes[first], inherited[first])
        return [Run._make(row) for row in zip(*(column.tolist() for column in columns), strict=True)]


@dataclass(frozen=True)
class _Entries:
    """Valid entries of a batch: the row of their table, their value and address, and the first address they map."""

    row: npt.NDArray[np.int64]
    descriptor: Words
    address: Words
    va: Words

    def select(self, chosen: Flags) -> _Entries:
        return _Entries(self.row[chosen], self.descriptor[chosen], self.address[chosen], self.va[chosen])


def _joined(parts: list[_Tables]) -> _Tables:
    if len(parts) == 1:
        return parts[0]
    return _Tables(
        np.concatenate([part.address for part in parts]),
        np.concatenate([part.va for part in parts]),
        np.concatenate([part.inherited for part in parts]),
        np.concatenate([part.ancestors for part in parts]),
        np.concatenate([part.entry_address for part in parts]),
        np.concatenate([part.entry for part in parts]),
    )
