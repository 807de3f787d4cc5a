"""Reads a trace file: any state, any step, and memory as it was."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import numpy as np

from kexecdbg.errors import TraceError
from kexecdbg.machine.state import CpuState
from kexecdbg.trace.frames import FrameReader, FrameType
from kexecdbg.trace.header import TraceHeader
from kexecdbg.trace.index import TraceIndex
from kexecdbg.trace.page_frame import PageFrame
from kexecdbg.trace.recorded_state import RecordedMemory, RecordedRegisters
from kexecdbg.trace.records import Event, EventKind, ExceptionTaken, MemoryWrite, RegisterChange, TraceStep
from kexecdbg.trace.search_frame import SearchFrame
from kexecdbg.trace.step_block import (
    BECOMES_UNKNOWN,
    DATA_UNKNOWN,
    PAGE_SIZE,
    SYNDROME_FIELDS,
    WORD_KNOWN,
    StepBlock,
)

_CACHED_BLOCKS = 4
_CACHED_PAGE_FRAMES = 8
_CACHED_SEARCHES = 2
_END_SIZE = 8


class Trace:
    """A recorded run: ``steps`` steps between the states 0 to ``steps``.

    >>> with Trace.open(Path("freeze.kxt")) as trace:                                     # doctest: +SKIP
    ...     number, exception = next(trace.exceptions())
    ...     judge(situation_at(trace.state(number - 1), trace.memory(number - 1)))

    Attributes:
        path: the file.
        header: what the trace says of itself.
        steps: how many steps are intact.
        warnings: what is missing, as sentences; empty for a complete trace.
    """

    def __init__(self, reader: FrameReader) -> None:
        self.path = reader.path
        self._reader = reader
        frames = reader.frames()
        first = next(frames, None)
        if first is None or first.kind != FrameType.HEADER:
            raise TraceError(f"{self.path}: nothing in this trace is intact: its header is damaged or missing")
        self.header = TraceHeader.unpack(first.payload)
        self.memory_map = self.header.memory_map
        self._index = TraceIndex()
        intact, remark = reader.intact, ""
        try:
            for frame in frames:
                self._index.add(frame)
                intact = reader.intact
        except TraceError as error:
            remark = f"; {error}"
        self._index.sort()
        self.steps = self._index.steps
        self.warnings = self._missing(intact, remark)
        self._register_numbers = {name: number for number, name in enumerate(self.header.registers)}
        self._blocks: OrderedDict[int, StepBlock] = OrderedDict()
        self._page_frames: OrderedDict[int, bytes] = OrderedDict()
        self._searches: OrderedDict[tuple[int, int], SearchFrame] = OrderedDict()
        self._first_writes: dict[int, int] = {}

    @classmethod
    def open(cls, path: Path) -> Trace:
        """Open the trace at ``path``; what is damaged is left out, and ``warnings`` says so.

        Raises:
            TraceError: it cannot be read, is no trace or one of another version, or nothing in it is intact.
        """
        reader = FrameReader(path)
        try:
            return cls(reader)
        except BaseException:
            reader.close()
            raise

    def _missing(self, intact: int, remark: str) -> tuple[str, ...]:
        end = self._reader.last_frame(FrameType.END, _END_SIZE)
        recorded = int.from_bytes(end.payload, "little") if end else None
        size = self._reader.size
        if intact == size and recorded == self.steps and not remark:
            return ()
        damage = f"bytes {intact:,} to {size:,} of the file are damaged{remark}" if intact < size else ""
        if recorded is None:
            how = damage or "the recording was cut off"
            return (f"{self.path.name}: {how}; {self.steps:,} steps are intact, how many are missing is not known",)
        missing = max(0, recorded - self.steps)
        return (
            f"{self.path.name}: {damage or 'its end does not fit'}; {self.steps:,} of {recorded:,} steps are intact, "
            f"{missing:,} are missing",
        )

    def state(self, number: int) -> CpuState:
        """The registers in state ``number``, 0 to ``steps``; what was not recorded is unknown.

        Raises:
            TraceError: there is no such state, or the part of the file that holds it is damaged.
        """
        block = self._block_of_state(number)
        step = number - block.first
        known, values = block.state_before(step)
        pc = self._register_numbers["PC"]
        known[pc], values[pc] = 1, block.pcs[step]
        return CpuState(RecordedRegisters(self._register_numbers, known, values))

    def memory(self, number: int) -> RecordedMemory:
        """Physical memory in state ``number``, 0 to ``steps``.

        Raises:
            TraceError: there is no such state.
        """
        self._check_state(number)
        return RecordedMemory(self, number)

    def step(self, number: int) -> TraceStep:
        """What happened between states ``number`` and ``number + 1``.

        Raises:
            TraceError: there is no such step, or the part of the file that holds it is damaged.
        """
        if not 0 <= number < self.steps:
            there_are = f"steps 0 to {self.steps - 1}" if self.steps else "none"
            raise TraceError(f"{self.path}: there is no step {number}; it has {there_are}")
        block = self.block_at(number)
        step = number - block.first
        return TraceStep(
            number,
            pc=int(block.pcs[step]),
            next_pc=int(block.pcs[step + 1]),
            word=int(block.words[step]) if block.flags[step] & WORD_KNOWN else None,
            changes=self._changes(block, step),
            writes=tuple(_writes(block, step)),
            exception=next((_exception(row) for row in _rows_of(block.exceptions, step)), None),
            events=tuple(_event(row) for row in _rows_of(block.events, step)),
        )

    def _changes(self, block: StepBlock, step: int) -> tuple[RegisterChange, ...]:
        known, values = block.state_before(step)
        changes = []
        for place in range(block.change_starts[step], block.change_starts[step + 1]):
            entry = int(block.change_registers[place])
            register = entry & (BECOMES_UNKNOWN - 1)
            changes.append(
                RegisterChange(
                    self.header.registers[register],
                    int(values[register]) if known[register] else None,
                    None if entry & BECOMES_UNKNOWN else int(block.change_values[place]),
                )
            )
        return tuple(changes)

    def exceptions(self) -> Iterator[tuple[int, ExceptionTaken]]:
        """Step number and exception, for every exception taken.

        Raises:
            TraceError: a part of the file is damaged.
        """
        for block in self.blocks():
            for row in block.exceptions:
                yield block.first + int(row["step"]), _exception(row)

    def register_number(self, name: str) -> int | None:
        """The number of the register ``name`` in blocks, ``None`` when the trace does not record it."""
        return self._register_numbers.get(name)

    def blocks(self, first: int = 0, last: int | None = None, backwards: bool = False) -> Iterator[StepBlock]:
        """The blocks that hold steps ``first`` to ``last`` (exclusive; default all), in the order asked for.

        Raises:
            TraceError: a part of the file is damaged.
        """
        spans = self._index.spans(first, self.steps if last is None else last)
        for place in reversed(spans) if backwards else spans:
            yield self._block(place)

    def block_at(self, number: int) -> StepBlock:
        """The block that holds step ``number``."""
        return self._block(self._index.place_of(number))

    def _block_of_state(self, number: int) -> StepBlock:
        self._check_state(number)
        return self.block_at(number)

    def _check_state(self, number: int) -> None:
        if not self._index.places:
            raise TraceError(f"{self.path}: no state in this trace is intact")
        if not 0 <= number <= self.steps:
            raise TraceError(f"{self.path}: there is no state {number}; it has states 0 to {self.steps}")

    def _block(self, place: int) -> StepBlock:
        def read() -> StepBlock:
            return StepBlock.unpack(self._reader.read_at(*self._index.places[place]), len(self.header.registers))

        return _cached(self._blocks, place, _CACHED_BLOCKS, read)

    def page_at(self, page: int, number: int) -> bytes | None:
        """What the page at physical address ``page`` held in state ``number``, as of the last version before it.

        ``None`` when it was not recorded. Writes since then are not applied; :class:`RecordedMemory` does.
        """
        content = self._index.content_of(page, number)
        if content is None:
            return None
        place, offset = self._index.locate_content(content)

        def read() -> bytes:
            return PageFrame.read_contents(self._reader.read_at(*self._index.page_frames[place]))

        contents = _cached(self._page_frames, place, _CACHED_PAGE_FRAMES, read)
        return contents[offset : offset + PAGE_SIZE]

    def version_step(self, page: int, number: int) -> int | None:
        """Number of the state that the page's last version up to state ``number`` is of."""
        return self._index.version_step(page, number)

    @cached_property
    def device_registers(self) -> dict[tuple[int, int], int]:
        """Values of device registers when the recording began, by physical address and size."""
        return {(address, size): value for address, size, value in self.header.device_registers}

    def first_write_to(self, page: int) -> int:
        """The first step that writes to the page at physical address ``page``; ``steps`` when none does."""
        if page not in self._first_writes:
            steps = (step for block in self.blocks() if (step := _first_write(block, page)) is not None)
            self._first_writes[page] = next(steps, self.steps)
        return self._first_writes[page]

    @property
    def is_searchable(self) -> bool:
        """Whether it is known of all memory where there is what the checks search for, in the last state at least."""
        search = self.search_at(self.steps)
        return bool(search.patterns) if search is not None else self.header.whole_memory and not self.warnings

    def search_at(self, number: int) -> SearchFrame | None:
        """The last search of all memory up to state ``number``; ``None`` when there was none.

        Raises:
            TraceError: the part of the file that holds it is damaged.
        """
        place = self._index.search_at(number)
        if place is None:
            return None
        return _cached(
            self._searches, place, _CACHED_SEARCHES, lambda: SearchFrame.unpack(self._reader.read_at(*place))
        )

    def pages(self) -> list[int]:
        """Physical addresses of all pages of which anything was recorded, ascending."""
        return self._pages

    @cached_property
    def _pages(self) -> list[int]:
        return sorted(self._index.versions)

    def close(self) -> None:
        """Close the file."""
        self._reader.close()

    def __enter__(self) -> Trace:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _first_write(block: StepBlock, page: int) -> int | None:
    """Number of the first step in ``block`` that writes to the page at ``page``."""
    places = np.flatnonzero(block.write_pas // PAGE_SIZE == page // PAGE_SIZE)
    if not len(places):
        return None
    return block.first + int(np.searchsorted(block.write_starts, places[0], side="right")) - 1


def _writes(block: StepBlock, step: int) -> Iterator[MemoryWrite]:
    for place in range(block.write_starts[step], block.write_starts[step + 1]):
        size = int(block.write_sizes[place])
        start = block.data_starts[place]
        data = None if size & DATA_UNKNOWN else block.write_data[start : start + size]
        yield MemoryWrite(int(block.write_vas[place]), int(block.write_pas[place]), size & (DATA_UNKNOWN - 1), data)


def _rows_of(rows: Any, step: int) -> Any:
    return rows[rows["step"] == step]


def _exception(row: Any) -> ExceptionTaken:
    values = [int(row[name]) if int(row["known"]) >> bit & 1 else None for bit, name in enumerate(SYNDROME_FIELDS)]
    return ExceptionTaken(int(row["from_el"]), int(row["to_el"]), *values)


def _event(row: Any) -> Event:
    return Event(
        EventKind(int(row["kind"])),
        int(row["source"]),
        int(row["destination"]),
        int(row["size"]),
        int(row["instructions"]) if row["counted"] else None,
    )


KeyT = TypeVar("KeyT")
ValueT = TypeVar("ValueT")


def _cached(cache: OrderedDict[KeyT, ValueT], key: KeyT, limit: int, read: Callable[[], ValueT]) -> ValueT:
    """The value for ``key``, from the cache or by ``read``; the least recently used one goes when it is full."""
    if key not in cache:
        cache[key] = read()
        if len(cache) > limit:
            cache.popitem(last=False)
    cache.move_to_end(key)
    return cache[key]
