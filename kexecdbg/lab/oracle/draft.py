"""A random case in the making."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field

from kexecdbg.arm64.geometry import TableFormat
from kexecdbg.arm64.regimes import Regime
from kexecdbg.lab.oracle.cases import RAM_END, RESERVED_END, SCR_EL3, Case, Operation
from kexecdbg.lab.oracle.random_registers import chance
from kexecdbg.lab.oracle.sparse_tables import ConflictError, Entry, Space, leaf_levels


@dataclass
class Draft:
    """A case in the making.

    Attributes:
        rng: source of all choices.
        identity: the CPU's ID registers.
        registers: by name.
        regime, operation, va, pan: as in the case.
        entries: descriptors by physical address; ``path`` those of the tested address, ``path2`` of its stage 2.
        instructions: words that are no descriptors.
    """

    rng: random.Random
    identity: Mapping[str, int]
    space: Space
    registers: dict[str, int]
    regime: Regime
    operation: Operation
    va: int = 0
    pan: bool = False
    entries: dict[int, Entry] = field(default_factory=dict)
    path: list[int] = field(default_factory=list)
    path2: list[int] = field(default_factory=list)
    instructions: dict[int, int] = field(default_factory=dict)

    @property
    def all_registers(self) -> dict[str, int]:
        """What a walk may ask for."""
        return {**self.identity, "SCR_EL3": SCR_EL3, **self.registers}

    def case(self, cpu: str, seed: str) -> Case:
        """The finished case.

        Raises:
            ConflictError: another case of the batch depends on one of its addresses.
        """
        memory = {address: entry.word for address, entry in self.entries.items()} | self.instructions
        if not self.space.taken.isdisjoint(memory):
            raise ConflictError
        if any(not RESERVED_END <= address < RAM_END for address in memory):
            raise ConflictError
        registers = dict(self.registers)
        return Case(cpu, self.regime, self.operation, self.va, registers, memory, self.pan, seed)


def random_above(rng: random.Random, unit: int, limit: int) -> int:
    """A random multiple of ``unit`` below ``1 << limit``; small ones and large ones alike."""
    width = limit if chance(rng, 0.6) else rng.randrange(unit.bit_length() - 1, limit + 1)
    return rng.getrandbits(width) // unit * unit if width else 0


def random_level(rng: random.Random, table: TableFormat, limit: int) -> int:
    """A level for a leaf that maps at most ``1 << limit`` bytes; pages more often than blocks."""
    levels = [level for level in leaf_levels(table) if table.shift(level) <= limit]
    if not levels:
        raise ConflictError
    return levels[-1] if chance(rng, 0.5) else rng.choice(levels)
