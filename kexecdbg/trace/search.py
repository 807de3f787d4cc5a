"""Finds steps of a trace by what they do, forwards and backwards, block by block."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kexecdbg.trace.reader import Trace
from kexecdbg.trace.step_block import BECOMES_UNKNOWN, DATA_UNKNOWN, StepBlock

_EL_SHIFT, _EL_MASK = 2, 3
"""PSTATE.EL, bits 3:2 (Arm ARM C5.2.18, SPSR_EL1.M; AArch64 state)."""

Steps = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class StepFilter:
    """Which steps are wanted; what is ``None`` or false asks for nothing, all else must hold at once.

    Attributes:
        pcs: the instruction is at one of these (virtual) addresses.
        el: it executes at this exception level.
        changes: one of these registers changes (canonical names).
        writes: one of these physical address ranges (start, end exclusive) is written.
        writes_va: the same for virtual addresses, as the instruction had them.
        exceptions: an exception is taken.
        folded: the step stands for many instructions.
    """

    pcs: Collection[int] | None = None
    el: int | None = None
    changes: Collection[str] | None = None
    writes: Collection[tuple[int, int]] | None = None
    writes_va: Collection[tuple[int, int]] | None = None
    exceptions: bool = False
    folded: bool = False


def find_steps(
    trace: Trace, wanted: StepFilter, first: int = 0, last: int | None = None, backwards: bool = False
) -> Iterator[int]:
    """Numbers of the wanted steps from ``first`` to ``last`` (exclusive; default all), in the order asked for.

    Raises:
        TraceError: a part of the file is damaged.
    """
    end = trace.steps if last is None else min(last, trace.steps)
    for block in trace.blocks(first, end, backwards):
        found = block.first + np.flatnonzero(_matches(trace, block, wanted))
        numbers: list[int] = found[(found >= first) & (found < end)].tolist()
        yield from reversed(numbers) if backwards else numbers


def _matches(trace: Trace, block: StepBlock, wanted: StepFilter) -> Steps:
    matches = np.ones(block.count, np.bool_)
    if wanted.pcs is not None:
        matches &= np.isin(block.pcs[:-1], np.array(list(wanted.pcs), np.uint64))
    if wanted.el is not None:
        matches &= _at_level(trace, block, wanted.el)
    if wanted.changes is not None:
        matches &= _changing(trace, block, wanted.changes)
    if wanted.writes is not None:
        matches &= _writing(block, block.write_pas, wanted.writes)
    if wanted.writes_va is not None:
        matches &= _writing(block, block.write_vas, wanted.writes_va)
    if wanted.exceptions:
        matches &= _steps_of(block, block.exceptions["step"])
    if wanted.folded:
        matches &= _steps_of(block, block.events["step"])
    return matches


def _steps_of(block: StepBlock, steps: npt.NDArray[np.integer]) -> Steps:
    matches = np.zeros(block.count, np.bool_)
    matches[steps] = True
    return matches


def _at_level(trace: Trace, block: StepBlock, el: int) -> Steps:
    number = trace.register_number("PSTATE")
    assert number is not None  # TraceHeader.unpack sees to it
    values, known = block.register_before_each(number)
    levels = values >> np.uint64(_EL_SHIFT) & np.uint64(_EL_MASK)
    matches: Steps = known & (levels == el)
    return matches


def _changing(trace: Trace, block: StepBlock, names: Collection[str]) -> Steps:
    numbers = [number for name in names if (number := trace.register_number(name)) is not None]
    places = np.flatnonzero(np.isin(block.change_registers & (BECOMES_UNKNOWN - 1), numbers))
    return _steps_of(block, np.searchsorted(block.change_starts, places, side="right") - 1)


def _writing(block: StepBlock, addresses: npt.NDArray[np.uint64], ranges: Collection[tuple[int, int]]) -> Steps:
    sizes = (block.write_sizes & (DATA_UNKNOWN - 1)).astype(np.uint64)
    hit = np.zeros(len(addresses), np.bool_)
    for start, end in ranges:
        # Last addresses are compared, so that a range up to 2^64 does not overflow.
        hit |= (addresses <= np.uint64(end - 1)) & (addresses + (sizes - np.uint64(1)) >= np.uint64(start))
    return _steps_of(block, np.searchsorted(block.write_starts, np.flatnonzero(hit), side="right") - 1)
