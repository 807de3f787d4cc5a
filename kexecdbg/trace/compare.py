"""Where two traces part: the first step that differs, and what differed before it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt

from kexecdbg.errors import MemoryUnreadableError
from kexecdbg.trace.reader import Trace
from kexecdbg.trace.step_block import BECOMES_UNKNOWN, PAGE_SIZE, StepBlock

_WORD = 8
_MOST_WORDS = 10_000


@dataclass(frozen=True)
class WordDifference:
    """A 64-bit word of physical memory that two traces have different contents for."""

    address: int
    first: int
    second: int


@dataclass(frozen=True)
class TraceDifference:
    """How two traces differ.

    Attributes:
        headers: fields of the headers that differ, by name: of ``cpu_model``, ``qemu_version``, ``build_id``,
            ``engine``.
        registers: registers that differ in state 0: name, value in the first and in the second (``None``: unknown).
        data_step: the first step that changes registers differently; ``None`` when none does.
        parted_step: the first step that goes on at another address, or is not in both; ``None`` when all go the same
            way.
        words: memory that differs in the state before the step where they part (at the end, if they do not), of what
            both have recorded; ascending.
        more_words: there are more than those.
    """

    headers: dict[str, tuple[str, str]]
    registers: tuple[tuple[str, int | None, int | None], ...]
    data_step: int | None
    parted_step: int | None
    words: tuple[WordDifference, ...]
    more_words: bool

    @property
    def same(self) -> bool:
        """Whether nothing differs but, perhaps, the headers."""
        return not (self.registers or self.words) and self.data_step is None and self.parted_step is None


def compare(first: Trace, second: Trace) -> TraceDifference:
    """How two traces differ.

    Raises:
        TraceError: a part of one of the files is damaged.
    """
    parted = _first_difference(first, second, _goes_elsewhere)
    if parted is None and first.steps != second.steps:
        parted = min(first.steps, second.steps)
    state = min(first.steps, second.steps) if parted is None else parted
    words = list(islice(_words(first, second, state), _MOST_WORDS + 1))
    return TraceDifference(
        headers=_headers(first, second),
        registers=_registers(first, second),
        data_step=_first_difference(first, second, _changes_differ),
        parted_step=parted,
        words=tuple(words[:_MOST_WORDS]),
        more_words=len(words) > _MOST_WORDS,
    )


def _headers(first: Trace, second: Trace) -> dict[str, tuple[str, str]]:
    names = ("cpu_model", "qemu_version", "build_id", "engine")
    pairs = {name: (getattr(first.header, name), getattr(second.header, name)) for name in names}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def _registers(first: Trace, second: Trace) -> tuple[tuple[str, int | None, int | None], ...]:
    one, other = first.state(0), second.state(0)
    names = dict.fromkeys((*first.header.registers, *second.header.registers))
    values = ((name, one.get(name), other.get(name)) for name in names)
    return tuple(row for row in values if row[1] != row[2])


@dataclass(frozen=True)
class _Overlap:
    """The same steps of two traces: ``count`` of them, from ``first`` and ``second`` of the blocks on."""

    step: int
    count: int
    block: StepBlock
    first: int
    other: StepBlock
    second: int


def _overlaps(first: Trace, second: Trace) -> Iterator[_Overlap]:
    step, steps = 0, min(first.steps, second.steps)
    while step < steps:
        block, other = first.block_at(step), second.block_at(step)
        end = min(block.first + block.count, other.first + other.count)
        yield _Overlap(step, end - step, block, step - block.first, other, step - other.first)
        step = end


def _first_difference(
    first: Trace, second: Trace, differs: Callable[[Trace, Trace, _Overlap], int | None]
) -> int | None:
    """The first step for which ``differs`` gives its place in an overlap."""
    for overlap in _overlaps(first, second):
        place = differs(first, second, overlap)
        if place is not None:
            return overlap.step + place
    return None


def _goes_elsewhere(first: Trace, second: Trace, overlap: _Overlap) -> int | None:
    one = overlap.block.pcs[overlap.first + 1 : overlap.first + 1 + overlap.count]
    other = overlap.other.pcs[overlap.second + 1 : overlap.second + 1 + overlap.count]
    found = np.flatnonzero(one != other)
    return int(found[0]) if len(found) else None


def _changes_differ(first: Trace, second: Trace, overlap: _Overlap) -> int | None:
    if first.header.registers == second.header.registers and _same_columns(overlap):
        return None
    # By name: two traces may number their registers differently.
    for place in range(overlap.count):
        one = _changes(first, overlap.block, overlap.first + place)
        if one != _changes(second, overlap.other, overlap.second + place):
            return place
    return None


def _same_columns(overlap: _Overlap) -> bool:
    return all(
        np.array_equal(one, other)
        for one, other in zip(
            _change_columns(overlap.block, overlap.first, overlap.count),
            _change_columns(overlap.other, overlap.second, overlap.count),
            strict=True,
        )
    )


def _change_columns(block: StepBlock, step: int, count: int) -> tuple[npt.NDArray[Any], ...]:
    start, end = block.change_starts[step], block.change_starts[step + count]
    counts = block.change_counts[step : step + count]
    return counts, block.change_registers[start:end], block.change_values[start:end]


def _changes(trace: Trace, block: StepBlock, step: int) -> dict[str, int]:
    start, end = block.change_starts[step], block.change_starts[step + 1]
    names = (
        trace.header.registers[entry & (BECOMES_UNKNOWN - 1)] for entry in block.change_registers[start:end].tolist()
    )
    return dict(zip(names, block.change_values[start:end].tolist(), strict=True))


def _words(first: Trace, second: Trace, state: int) -> Iterator[WordDifference]:
    one, other = first.memory(state), second.memory(state)
    for page in sorted(set(first.pages()) & set(second.pages())):
        try:
            left, right = one.read(page, PAGE_SIZE), other.read(page, PAGE_SIZE)
        except MemoryUnreadableError:
            continue
        if left != right:
            a, b = np.frombuffer(left, "<u8"), np.frombuffer(right, "<u8")
            for place in np.flatnonzero(a != b).tolist():
                yield WordDifference(page + place * _WORD, int(a[place]), int(b[place]))
