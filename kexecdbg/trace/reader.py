"""Reads a trace file: any state, any step, and memory as it was."""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from kexecdbg.arm64.interfaces import HAVE_EL2
from kexecdbg.errors import MemoryUnreadableError, TraceError
from kexecdbg.machine.memory_map import MemoryMap
from kexecdbg.machine.state import CpuState
from kexecdbg.trace.frames import Frame, FrameReader, FrameType
from kexecdbg.trace.header import TraceHeader
from kexecdbg.trace.page_frame import UNKNOWN_CONTENT, PageFrame
from kexecdbg.trace.records import Event, EventKind, ExceptionTaken, MemoryWrite, RegisterChange, TraceStep
from kexecdbg.trace.step_block import (
    BECOMES_UNKNOWN,
    DATA_UNKNOWN,
    PAGE_SIZE,
    SYNDROME_FIELDS,
    U8,
    U64,
    WORD_KNOWN,
    StepBlock,
)

_CACHED_BLOCKS = 4
_CACHED_PAGE_FRAMES = 8
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
        self._index = _Index()
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
        return WholeRecordedMemory(self, number) if self.header.whole_memory else RecordedMemory(self, number)

    def step(self, number: int) -> TraceStep:
        """What happened between states ``number`` and ``number + 1``.

        Raises:
            TraceError: there is no such step, or the part of the file that holds it is damaged.
        """
        if not 0 <= number < self.steps:
            raise TraceError(f"{self.path}: there is no step {number}; it has steps 0 to {self.steps - 1}")
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

    def populated_in(self, page: int) -> int:
        """The first state in which the page at physical address ``page`` had been written to, as far as it is recorded.

        It is that after the last state when nothing ever wrote there: the page was only read.
        """
        return self._populated.get(page, self.steps + 1)

    @cached_property
    def _populated(self) -> dict[int, int]:
        populated = self.header.populated
        starts = [start for start, _ in populated]
        states: dict[int, int] = {}
        for page in self.pages():
            place = bisect_right(starts, page) - 1
            if not populated or (place >= 0 and page < populated[place][1]):
                states[page] = 0
        for block in self.blocks():
            pages, places = np.unique(block.write_pas & np.uint64(-PAGE_SIZE & (1 << 64) - 1), return_index=True)
            steps: npt.NDArray[np.int64] = np.searchsorted(block.write_starts, np.array(places), side="right")
            for page, step in zip(pages.tolist(), steps.tolist(), strict=True):
                states.setdefault(page, block.first + step)
        for page in self.pages():
            later = self._index.first_change(page)
            if later is not None:
                states[page] = min(states.get(page, later), later)
        return states

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


class RecordedRegisters:
    """The registers of one state of a trace."""

    def __init__(self, numbers: dict[str, int], known: U8, values: U64) -> None:
        self._numbers = numbers
        self._known = known
        self._values = values

    def get(self, name: str, /) -> int | None:
        """The value, or ``None`` when it was not recorded."""
        number = self._numbers.get(name)
        if number is None:
            # As plugins/adapter.py: the CPU's own description of itself lists HCR_EL2 when it has EL2.
            absent = name == HAVE_EL2 and "SCTLR_EL1" in self._numbers and "HCR_EL2" not in self._numbers
            return 0 if absent else None
        return int(self._values[number]) if self._known[number] else None

    def names(self) -> tuple[str, ...]:
        """Canonical names of all registers of the recorded machine."""
        return tuple(self._numbers)


class RecordedMemory:
    """Physical memory in one state of a trace; what was not recorded is unreadable, never zeros."""

    def __init__(self, trace: Trace, number: int) -> None:
        self._trace = trace
        self._number = number

    @property
    def memory_map(self) -> MemoryMap:
        """The recorded machine's memory map; empty when it was not recorded."""
        return self._trace.memory_map or MemoryMap(())

    def read(self, address: int, size: int) -> bytes:
        """Exactly ``size`` bytes from the physical ``address``.

        Raises:
            MemoryUnreadableError: a part is a hole, a device, or was not recorded.
            TraceError: the part of the file that holds it is damaged.
        """
        if self._trace.memory_map is not None:
            self._trace.memory_map.check_readable(address, size)
        data = bytearray()
        while len(data) < size:
            position = address + len(data)
            page, offset = position & -PAGE_SIZE, position % PAGE_SIZE
            length = min(PAGE_SIZE - offset, size - len(data))
            piece = self._read_in_page(page, offset, length)
            if piece is None:
                raise MemoryUnreadableError(address, size, f"not recorded in this trace (state {self._number})")
            data += piece
        return bytes(data)

    def read_device_register(self, address: int, size: int) -> int:
        """A device register as it was when the recording began, if nothing has written to that device's page since.

        Raises:
            MemoryUnreadableError: it was not read then, or has been written to.
        """
        value = self._trace.device_registers.get((address, size))
        if value is None:
            raise MemoryUnreadableError(address, size, "this device register was not recorded")
        if self._trace.first_write_to(address & -PAGE_SIZE) < self._number:
            raise MemoryUnreadableError(address, size, "the device was written to after its registers were recorded")
        return value

    def _read_in_page(self, page: int, offset: int, length: int) -> bytes | None:
        contents = self._trace.page_at(page, self._number)
        since = self._trace.version_step(page, self._number)
        if contents is None or since is None:
            return None
        block = self._trace.block_at(self._number)
        if block.first >= self._number:
            return contents[offset : offset + length]
        data, unknown = bytearray(contents), bytearray(PAGE_SIZE)
        first = block.write_starts[max(since - block.first, 0)]
        last = block.write_starts[self._number - block.first]
        for place in first + np.flatnonzero(block.write_pas[first:last] // PAGE_SIZE == page // PAGE_SIZE):
            start, entry = int(block.write_pas[place]) % PAGE_SIZE, int(block.write_sizes[place])
            size, is_unknown = entry & (DATA_UNKNOWN - 1), entry & DATA_UNKNOWN != 0
            unknown[start : start + size] = bytes([is_unknown]) * size
            if not is_unknown:
                at = block.data_starts[place]
                data[start : start + size] = block.write_data[at : at + size]
        return None if any(unknown[offset : offset + length]) else bytes(data[offset : offset + length])


class WholeRecordedMemory(RecordedMemory):
    """Physical memory of a trace that has all RAM that was ever written, so that it can be searched whole."""

    def populated_ranges(self) -> Iterator[tuple[int, int]]:
        """Start and end (exclusive) of what had been written up to this state, ascending."""
        start = end = -1
        for page in self._trace.pages():
            if self._trace.populated_in(page) > self._number:
                continue
            if page != end:
                if start >= 0:
                    yield start, end
                start = page
            end = page + PAGE_SIZE
        if start >= 0:
            yield start, end


class _Index:
    """Where in the file which steps and which pages are."""

    def __init__(self) -> None:
        self.steps = 0
        self.places: list[tuple[int, int]] = []
        self.page_frames: list[tuple[int, int]] = []
        self.versions: dict[int, list[tuple[int, int]]] = {}
        self._firsts: list[int] = []
        self._first_contents: list[int] = []
        self._contents = 0

    def add(self, frame: Frame) -> None:
        """Take note of ``frame``.

        Raises:
            TraceError: it does not go on where the frames before it ended.
        """
        location = (frame.offset, len(frame.payload))
        if frame.kind == FrameType.STEPS:
            first, count = StepBlock.span(frame.payload)
            if first != self.steps:
                raise TraceError(f"a block of steps starts at {first}, the one before it ended at {self.steps}")
            self._firsts.append(first)
            self.places.append(location)
            self.steps += count
        elif frame.kind == FrameType.PAGES:
            pages = PageFrame.unpack(frame.payload)
            if pages.first_content != self._contents:
                raise TraceError(f"a frame of pages starts at content {pages.first_content}, not {self._contents}")
            self._first_contents.append(pages.first_content)
            self.page_frames.append(location)
            self._contents += pages.contents
            for version in pages.versions:
                self.versions.setdefault(version.address, []).append((version.step, version.content))

    def sort(self) -> None:
        """Put the versions of each page in order; of those for the same state, the last in the file counts."""
        for rows in self.versions.values():
            rows.sort(key=lambda row: row[0])

    def place_of(self, number: int) -> int:
        """Place of the block that holds step ``number``; for the number after the last step, of the last block."""
        return max(0, bisect_right(self._firsts, number) - 1)

    def spans(self, first: int, last: int) -> range:
        """Places of the blocks with steps of ``first`` to ``last`` (exclusive)."""
        if not self.places or first >= last:
            return range(0)
        return range(self.place_of(max(first, 0)), self.place_of(last - 1) + 1)

    def first_change(self, page: int) -> int | None:
        """State of the second version of ``page``: something wrote to it before; ``None`` when it has one only."""
        rows = self.versions.get(page, [])
        return rows[1][0] if len(rows) > 1 else None

    def version_step(self, page: int, number: int) -> int | None:
        """State of the last version of ``page`` up to state ``number``."""
        row = self._version(page, number)
        return row[0] if row else None

    def content_of(self, page: int, number: int) -> int | None:
        """Content of the last version of ``page`` up to state ``number``; ``None`` when it is not known."""
        row = self._version(page, number)
        return None if row is None or row[1] == UNKNOWN_CONTENT else row[1]

    def _version(self, page: int, number: int) -> tuple[int, int] | None:
        rows = self.versions.get(page, [])
        place = _place_after(rows, number)
        return rows[place - 1] if place else None

    def locate_content(self, content: int) -> tuple[int, int]:
        """Place of the frame that has ``content``, and its offset in the frame's contents."""
        place = bisect_right(self._first_contents, content) - 1
        return place, (content - self._first_contents[place]) * PAGE_SIZE


def _place_after(rows: list[tuple[int, int]], number: int) -> int:
    return bisect_right(rows, number, key=lambda row: row[0])


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


ValueT = TypeVar("ValueT")


def _cached(cache: OrderedDict[int, ValueT], key: int, limit: int, read: Callable[[], ValueT]) -> ValueT:
    """The value for ``key``, from the cache or by ``read``; the least recently used one goes when it is full."""
    if key not in cache:
        cache[key] = read()
        if len(cache) > limit:
            cache.popitem(last=False)
    cache.move_to_end(key)
    return cache[key]
