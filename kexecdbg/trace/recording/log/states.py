"""Logged states as arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kexecdbg.qemu.cpu_log import COLUMNS, LoggedStates
from kexecdbg.trace.recording.core_registers import GENERAL
from kexecdbg.trace.step_block import U64

Steps = npt.NDArray[np.int64]
"""Numbers of steps, counted from the first of some states."""

COLUMN_NAMES = (*(f"X{number}" for number in range(GENERAL)), "SP")
"""What the columns of logged registers are."""
assert len(COLUMN_NAMES) == COLUMNS


@dataclass(frozen=True)
class States:
    """Consecutive states; step n leads from row n to row n + 1.

    Attributes:
        pcs: the PC of each.
        registers: X0 to X30 and SP of each, one row a state.
        pstates: PSTATE of each.
    """

    pcs: U64
    registers: npt.NDArray[np.uint64]
    pstates: npt.NDArray[np.uint32]

    @property
    def steps(self) -> int:
        """How many steps."""
        return len(self.pcs) - 1

    def part(self, first: int, last: int) -> States:
        """The states that steps ``first`` to ``last`` (exclusive) lead from and to; one when they are the same."""
        return States(self.pcs[first : last + 1], self.registers[first : last + 1], self.pstates[first : last + 1])

    def followed_by(self, other: States | LoggedStates) -> States:
        """These states and then those."""
        return States(
            np.concatenate((self.pcs, other.pcs)),
            np.concatenate((self.registers, other.registers)),
            np.concatenate((self.pstates, other.pstates)),
        )

    def row(self) -> dict[str, int]:
        """The first state's general registers, SP, PC and PSTATE by name."""
        named = dict(zip(COLUMN_NAMES, self.registers[0].tolist(), strict=True))
        return {**named, "PC": int(self.pcs[0]), "PSTATE": int(self.pstates[0])}


def one_state(values: Mapping[str, int]) -> States:
    """The state with these registers."""
    return States(
        np.array([values["PC"]], np.uint64),
        np.array([[values.get(name, 0) for name in COLUMN_NAMES]], np.uint64),
        np.array([values.get("PSTATE", 0)], np.uint32),
    )


def state_of_core(core: Sequence[int]) -> States:
    """The state with these X0 to X30, SP, PC and PSTATE."""
    return one_state(dict(zip((*COLUMN_NAMES, "PC", "PSTATE"), core, strict=True)))


def without_repetitions(states: States) -> tuple[States, int]:
    """The states that differ from the one before, and how many at the end were left out.

    QEMU logs a block before it looks whether it has to stop instead of executing it; then the same state comes again.
    """
    same = (
        (states.pcs[1:] == states.pcs[:-1])
        & (states.pstates[1:] == states.pstates[:-1])
        & (states.registers[1:] == states.registers[:-1]).all(axis=1)
    )
    if not same.any():
        return states, 0
    kept = np.concatenate(([True], ~same))
    last_change = np.flatnonzero(~same)
    at_end = len(same) - (int(last_change[-1]) + 1 if len(last_change) else 0)
    return States(states.pcs[kept], states.registers[kept], states.pstates[kept]), at_end
