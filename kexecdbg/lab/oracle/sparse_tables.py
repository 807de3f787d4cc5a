"""Translation tables of which only the entries exist that somebody needs, wherever in RAM they happen to lie."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Protocol

from kexecdbg.arm64.bits import mask
from kexecdbg.arm64.geometry import LAST_LEVEL, TableFormat
from kexecdbg.lab.tables import encode_address

_LOW_ARENA, _HIGH_ARENA = 0x5000_0000, 0x1_4000_0000
_ARENA_SIZE = 8 << 20
_LOW_LANDING, _HIGH_LANDING = 0x6000_0000, 0x1_8000_0000
_LANDING_SIZE = 4 << 20
_VALID, _TABLE = 1, 2


class ConflictError(Exception):
    """Random choices that cannot all be had: the same entry is wanted for two things. Choose again."""


@dataclass
class Space:
    """RAM for the tables of a batch: which words are taken, and places for more.

    Attributes:
        words: contents by physical address, as a little-endian read gives them.
        taken: addresses that a case depends on, with what it expects there or with zero.
    """

    rng: random.Random
    words: dict[int, int] = field(default_factory=dict)
    taken: set[int] = field(default_factory=set)

    def table_address(self, alignment: int, output_bits: int) -> int:
        """A random place for a table, above 4 GiB if that fits in ``output_bits``, sometimes."""
        high = output_bits > 33 and self.rng.random() < 0.3
        return _place(self.rng, _HIGH_ARENA if high else _LOW_ARENA, _ARENA_SIZE, alignment)

    def landing_address(self, output_bits: int) -> int:
        """A random place for an instruction."""
        high = output_bits > 33 and self.rng.random() < 0.3
        return _place(self.rng, _HIGH_LANDING if high else _LOW_LANDING, _LANDING_SIZE, 4)


def _place(rng: random.Random, start: int, size: int, alignment: int) -> int:
    return start + rng.randrange(max(size // alignment, 1)) * alignment


@dataclass
class Entry:
    """A descriptor of a case that is being built.

    Attributes:
        table: the format of its table.
        level: its level.
        value: the descriptor.
    """

    table: TableFormat
    level: int
    value: int

    @property
    def is_leaf(self) -> bool:
        """Whether it was built as a leaf."""
        return self.level == LAST_LEVEL or not self.value & _TABLE

    @property
    def word(self) -> int:
        """What a little-endian read of it gives."""
        value = self.value & mask(64)
        if self.table.big_endian:
            return int.from_bytes(value.to_bytes(8, "big"), "little")
        return value


class TablePlaces(Protocol):
    """Where the tables of one stage go."""

    def new_table(self, alignment: int) -> int:
        """The address of a new table, as a descriptor or TTBR_ELx names it."""
        ...

    def physical(self, address: int) -> int:
        """Where the entry at such an address really is."""
        ...


class SparseTables:
    """The tables of one stage, built path by path.

    Attributes:
        table: their format.
        root: address of the first table.
        entries: by physical address.
    """

    def __init__(self, table: TableFormat, places: TablePlaces, entries: dict[int, Entry]) -> None:
        self.table = table
        self.entries = entries
        self._places = places
        self.root = places.new_table(table.base_alignment)

    def map(self, address: int, output: int, level: int, leaf_bits: int, table_bits: int) -> list[int]:
        """Map ``address`` to ``output`` with a leaf at ``level``; physical addresses of the path's entries.

        The attributes are those of the new descriptors; the path may share tables that exist.

        Raises:
            ConflictError: a leaf is in the way, or an entry is taken.
        """
        table = self.table
        base = self.root
        path: list[int] = []
        for current in range(table.start_level, level + 1):
            place = self._places.physical(base + 8 * table.index(address, current))
            path.append(place)
            found = self.entries.get(place)
            if current == level:
                if found is not None:
                    raise ConflictError
                kind = _VALID | (_TABLE if level == LAST_LEVEL else 0)
                value = encode_address(table, output >> table.shift(level) << table.shift(level)) | leaf_bits | kind
                self.entries[place] = Entry(table, level, value)
            elif found is None:
                base = self._places.new_table(1 << table.granule.shift)
                self.entries[place] = Entry(table, current, encode_address(table, base) | table_bits | _VALID | _TABLE)
            elif found.table is not table or found.level != current or found.is_leaf:
                raise ConflictError
            else:
                base = table.output_address(found.value, table.granule.shift)
        return path

    def translation(self, address: int) -> int | None:
        """What ``address`` maps to so far, or ``None``."""
        base = self.root
        for level in range(self.table.start_level, LAST_LEVEL + 1):
            found = self.entries.get(self._places.physical(base + 8 * self.table.index(address, level)))
            if found is None:
                return None
            if found.is_leaf:
                shift = self.table.shift(level)
                return self.table.output_address(found.value, shift) | address & mask(shift)
            base = self.table.output_address(found.value, self.table.granule.shift)
        return None


def leaf_levels(table: TableFormat) -> list[int]:
    """The levels at which a leaf is legal."""
    return [
        level for level in range(table.start_level, LAST_LEVEL + 1) if level == LAST_LEVEL or table.block_allowed(level)
    ]
