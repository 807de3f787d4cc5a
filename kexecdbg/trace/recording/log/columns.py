"""Puts decoded steps together as a block of a trace."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from kexecdbg.trace.recording.log.states import COLUMN_NAMES, States, Steps
from kexecdbg.trace.recording.plan import Plan
from kexecdbg.trace.step_block import (
    BECOMES_UNKNOWN,
    DATA_UNKNOWN,
    EVENT,
    EXCEPTION,
    U64,
    WORD_KNOWN,
    StepBlock,
)
from kexecdbg.trace.writer import TraceWriter


@dataclass
class SystemChanges:
    """System registers that steps change, ascending by step."""

    steps: list[int] = field(default_factory=list)
    registers: list[int] = field(default_factory=list)
    values: list[int] = field(default_factory=list)

    def add(self, step: int, register: int, value: int | None) -> None:
        """Step ``step`` gives register number ``register`` a value; ``None`` for one that is not known."""
        self.steps.append(step)
        self.registers.append(register if value is not None else register | BECOMES_UNKNOWN)
        self.values.append(value or 0)


@dataclass
class Writes:
    """Memory that steps write: parallel columns, in any order of steps; the parts of one step in theirs."""

    steps: list[Steps] = field(default_factory=list)
    vas: list[U64] = field(default_factory=list)
    pas: list[U64] = field(default_factory=list)
    sizes: list[npt.NDArray[np.uint32]] = field(default_factory=list)
    data: list[bytes | None] = field(default_factory=list)

    def in_order(self) -> Iterator[tuple[int, bytes | None]]:
        """Physical address and data of each, in the order of the steps."""
        order, _ = _order(self.steps)
        for place, pa in zip(order.tolist(), _joined(self.pas, np.uint64)[order].tolist(), strict=True):
            yield pa, self.data[place]

    def up_to(self, count: int) -> Writes:
        """Those of the first ``count`` steps."""
        kept = Writes()
        place = 0
        for steps, vas, pas, sizes in zip(self.steps, self.vas, self.pas, self.sizes, strict=True):
            inside = steps < count
            kept.steps.append(steps[inside])
            kept.vas.append(vas[inside])
            kept.pas.append(pas[inside])
            kept.sizes.append(sizes[inside])
            kept.data += [self.data[place + row] for row in np.flatnonzero(inside).tolist()]
            place += len(steps)
        return kept

    def add(self, steps: Steps, vas: U64, pas: U64, size: int, data: npt.NDArray[np.uint8] | None) -> None:
        """``size`` bytes in each of ``steps``; one row of ``data`` for each, ``None`` when it is not known."""
        self.steps.append(steps)
        self.vas.append(vas)
        self.pas.append(pas)
        self.sizes.append(np.full(len(steps), size | (DATA_UNKNOWN if data is None else 0), np.uint32))
        if data is None:
            self.data += [None] * len(steps)
        else:
            blob = np.ascontiguousarray(data).tobytes()
            self.data += [blob[start : start + size] for start in range(0, len(blob), size)]


def make_block(
    writer: TraceWriter,
    states: States,
    plans: Sequence[Plan | None],
    inverse: npt.NDArray[np.intp],
    system: SystemChanges,
    writes: Writes,
) -> StepBlock:
    """The block of the steps in ``states``, which start from the present state of ``writer``.

    Args:
        plans: the distinct instructions.
        inverse: for each step, the place of its instruction in ``plans``.
        system: what they change beside the general registers and PSTATE.
        writes: what they store.
    """
    count = states.steps
    known, values = writer.keyframe()
    words = np.array([0 if plan is None else plan.word for plan in plans], np.uint32)
    flags = np.array([0 if plan is None else WORD_KNOWN for plan in plans], np.uint8)
    change_steps, change_registers, change_values = _changes(writer, states, system)
    order, write_steps = _order(writes.steps)
    data = writes.data
    return StepBlock(
        first=writer.steps,
        known=known,
        values=values,
        pcs=states.pcs,
        words=words[inverse],
        flags=flags[inverse],
        change_counts=np.bincount(change_steps, minlength=count).astype(np.uint16),
        change_registers=change_registers,
        change_values=change_values,
        write_counts=np.bincount(write_steps, minlength=count).astype(np.uint16),
        write_vas=_joined(writes.vas, np.uint64)[order],
        write_pas=_joined(writes.pas, np.uint64)[order],
        write_sizes=_joined(writes.sizes, np.uint32)[order],
        write_data=b"".join(piece for piece in (data[place] for place in order.tolist()) if piece is not None),
        exceptions=np.empty(0, EXCEPTION),
        events=np.empty(0, EVENT),
    )


def _changes(
    writer: TraceWriter, states: States, system: SystemChanges
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint16], U64]:
    """Step, register and value of every change, ascending by step and register."""
    numbers = np.array([writer.number(name) for name in COLUMN_NAMES], np.uint16)
    after = states.registers[1:]
    differs = after != states.registers[:-1]
    steps, columns = np.nonzero(differs)
    pstate_steps = np.flatnonzero(states.pstates[1:] != states.pstates[:-1])
    all_steps = np.concatenate((steps, pstate_steps, np.array(system.steps, np.int64)))
    registers = np.concatenate(
        (
            numbers[columns],
            np.full(len(pstate_steps), writer.number("PSTATE"), np.uint16),
            np.array(system.registers, np.uint16),
        )
    )
    values = np.concatenate(
        (after[differs], states.pstates[1:][pstate_steps].astype(np.uint64), np.array(system.values, np.uint64))
    )
    order = np.lexsort((registers & (BECOMES_UNKNOWN - 1), all_steps))
    return all_steps[order], registers[order], values[order]


def _order(parts: Sequence[Steps]) -> tuple[npt.NDArray[np.intp], Steps]:
    steps = _joined(parts, np.int64)
    order = np.argsort(steps, kind="stable")
    return order, steps[order]


def _joined(parts: Sequence[npt.NDArray[Any]], kind: type[np.generic]) -> npt.NDArray[Any]:
    return np.concatenate(parts) if parts else np.empty(0, kind)
