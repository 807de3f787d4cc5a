"""Writes a trace file while a machine is being recorded."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Container, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from types import TracebackType

import numpy as np

from kexecdbg.errors import TraceError
from kexecdbg.trace.frames import FrameType, FrameWriter
from kexecdbg.trace.header import TraceHeader
from kexecdbg.trace.page_frame import UNKNOWN_CONTENT, PageVersion, pack_pages
from kexecdbg.trace.records import Event, ExceptionTaken, MemoryWrite
from kexecdbg.trace.step_block import (
    BECOMES_UNKNOWN,
    DATA_UNKNOWN,
    EVENT,
    EXCEPTION,
    PAGE_SIZE,
    SYNDROME_FIELDS,
    U8,
    U64,
    WORD_KNOWN,
    StepBlock,
)

STEPS_PER_BLOCK = 4096
"""A block is written when it has so many steps; what was not written is lost when the recorder is killed."""
_CONTENTS_PER_FRAME = 256


class TraceWriter:
    """A trace that is being recorded (use as a context manager; leaving it marks the trace as complete).

    Memory: :meth:`see` gives the contents of pages as they are read; writes that follow are applied to them. A page
    that was never seen is "not recorded" in the trace, whatever was written there.

    >>> with TraceWriter(path, header, {"PC": 0x4000, "PSTATE": 0x3c9}) as writer:          # doctest: +SKIP
    ...     writer.see(0x4000, page)
    ...     writer.step(0x4004, word=0xd2800000, changes={"X0": 0})

    Args:
        path: the file, which must not exist.
        header: what the trace says of itself; ``header.registers`` names every register that is ever recorded.
        state: the state before the first step by canonical name; what is not in it is unknown.

    Raises:
        TraceError: the file exists or cannot be written, or a register is not named in the header.
    """

    def __init__(self, path: Path, header: TraceHeader, state: Mapping[str, int]) -> None:
        self.header = header
        self._indices = {name: index for index, name in enumerate(header.registers)}
        self._known = np.zeros(len(header.registers), np.uint8)
        self._values = np.zeros(len(header.registers), np.uint64)
        for name, value in state.items():
            self._known[self._index(name)] = 1
            self._values[self._index(name)] = value
        if "PC" not in state:
            raise TraceError("a recording cannot start without the PC")
        self._pages: dict[int, bytearray] = {}
        self._dirty: set[int] = set()
        self._lost: set[int] = set()
        self._content_numbers: dict[bytes, int] = {}
        self._new_contents: list[bytes] = []
        self._versions: list[PageVersion] = []
        self._pending = _PendingSteps(0, self._known.copy(), self._values.copy(), int(state["PC"]))
        self._frames = FrameWriter(path)
        self._frames.append(FrameType.HEADER, header.pack())
        # A block without steps: whatever happens next, the file has a state to start from.
        self._frames.append(FrameType.STEPS, self._pending.block().pack())

    def _index(self, name: str) -> int:
        try:
            return self._indices[name]
        except KeyError:
            raise TraceError(f"{name}: the trace's header does not name this register") from None

    @property
    def steps(self) -> int:
        """How many steps have been recorded; also the number of the present state."""
        return self._pending.first + len(self._pending.words)

    @property
    def pending_steps(self) -> int:
        """How many steps are collected and not written yet."""
        return len(self._pending.words)

    @property
    def pc(self) -> int:
        """The PC of the present state."""
        return self._pending.pcs[-1]

    def value(self, name: str) -> int | None:
        """The present value of a register, ``None`` when it is unknown."""
        if name == "PC":
            return self.pc
        index = self._index(name)
        return int(self._values[index]) if self._known[index] else None

    def has_seen(self, page: int) -> bool:
        """Whether the contents of the page at physical address ``page`` are known at present."""
        return page in self._pages and page not in self._lost

    def see(self, address: int, data: bytes, since: int | None = None) -> None:
        """Record that the whole pages from physical ``address`` on hold ``data``.

        Args:
            address: a multiple of 4096, as is the length of ``data``.
            since: number of the first state that this holds in, when nothing can have written there since then; the
                present state by default.
        """
        if address % PAGE_SIZE or len(data) % PAGE_SIZE:
            raise TraceError(f"page contents at {address:#x}, {len(data)} bytes: not whole pages")
        for offset in range(0, len(data), PAGE_SIZE):
            self._see_page(address + offset, data[offset : offset + PAGE_SIZE], since)

    def _see_page(self, page: int, data: bytes, since: int | None) -> None:
        if self.has_seen(page) and self._pages[page] == data:
            return
        step = self.steps if since is None or page in self._pages else since
        self._pages[page] = bytearray(data)
        self._lost.discard(page)
        self._versions.append(PageVersion(step, page, self._content_number(data)))

    def _content_number(self, data: bytes) -> int:
        digest = blake2b(data, digest_size=16).digest()
        number = self._content_numbers.get(digest)
        if number is None:
            number = self._content_numbers[digest] = len(self._content_numbers)
            self._new_contents.append(data)
            if len(self._new_contents) >= _CONTENTS_PER_FRAME:
                self._write_pages(())
        return number

    def step(
        self,
        next_pc: int,
        word: int | None,
        changes: Mapping[str, int | None],
        writes: Collection[MemoryWrite] = (),
        exception: ExceptionTaken | None = None,
        events: Sequence[Event] = (),
    ) -> None:
        """Record one step from the present state.

        Args:
            next_pc: the PC after it.
            word: the instruction, ``None`` when it could not be fetched.
            changes: the other registers that changed; ``None`` for one that is not known any more.
            writes: memory written, none of them across a page's end.
            exception: the exception taken.
            events: not empty for a folded step; the pages that it changed are given by :meth:`see` afterwards.
        """
        indexed = {self._index(name): value for name, value in changes.items() if name != "PC"}
        self._pending.add(next_pc, word, indexed, writes, exception, events)
        for index, value in indexed.items():
            self._known[index] = value is not None
            self._values[index] = value or 0
        for write in writes:
            self._apply(write.pa, write.size, write.data)
        if len(self._pending.words) >= STEPS_PER_BLOCK:
            self.flush()

    def amend(self, values: Mapping[str, int]) -> None:
        """Registers were found to hold ``values`` now, though no step says so; then everything is written.

        In the steps that were pending they become unknown.
        """
        indexed = {self._index(name): value for name, value in values.items()}
        self._pending.forget(indexed)
        self.flush()
        for index, value in indexed.items():
            self._known[index], self._values[index] = 1, value
        if indexed:
            self._pending = _PendingSteps(self.steps, self._known.copy(), self._values.copy(), self.pc)
            self._frames.append(FrameType.STEPS, self._pending.block().pack())

    def append(self, block: StepBlock) -> None:
        """Record a whole block of steps at once; it starts from the present state.

        Pages that it writes to must have been seen before, or never.
        """
        self.flush()
        if block.first != self.steps or int(block.pcs[0]) != self.pc:
            raise TraceError(f"a block from step {block.first} does not follow step {self.steps}")
        self._known, self._values = block.state_before(block.count)
        starts = block.data_starts
        for index, (pa, size) in enumerate(zip(block.write_pas.tolist(), block.write_sizes.tolist(), strict=True)):
            data = None if size & DATA_UNKNOWN else block.write_data[starts[index] : starts[index + 1]]
            self._apply(pa, size & (DATA_UNKNOWN - 1), data)
        self._write_block(block)

    def _apply(self, pa: int, size: int, data: bytes | None) -> None:
        page, offset = pa & -PAGE_SIZE, pa % PAGE_SIZE
        if page not in self._pages:
            return
        self._dirty.add(page)
        if data is None:
            self._lost.add(page)
        else:
            self._pages[page][offset : offset + size] = data

    def flush(self) -> None:
        """Write what has been collected; from then on it survives a kill."""
        if self._pending.words:
            self._write_block(self._pending.block())
        else:
            self._write_versions()

    def _write_block(self, block: StepBlock) -> None:
        # The pages come first: a file cut off between the two has versions for states that it does not have, which is
        # harmless; the other way round it would show stale memory.
        end = block.first + block.count
        for page in sorted(self._dirty):
            content = UNKNOWN_CONTENT if page in self._lost else self._content_number(bytes(self._pages[page]))
            self._versions.append(PageVersion(end, page, content))
        self._dirty.clear()
        self._write_versions()
        self._frames.append(FrameType.STEPS, block.pack())
        self._pending = _PendingSteps(end, self._known.copy(), self._values.copy(), int(block.pcs[-1]))

    def _write_versions(self) -> None:
        if self._versions or self._new_contents:
            self._write_pages(self._versions)
            self._versions = []

    def _write_pages(self, versions: Sequence[PageVersion]) -> None:
        first = len(self._content_numbers) - len(self._new_contents)
        self._frames.append(FrameType.PAGES, pack_pages(first, self._new_contents, versions))
        self._new_contents = []

    def close(self) -> None:
        """Write the rest and the mark that the trace is complete."""
        self.flush()
        self._frames.append(FrameType.END, self.steps.to_bytes(8, "little"))
        self._frames.close()

    def abandon(self) -> None:
        """Write the rest and close the file without the mark, as a recording that ended before its time."""
        with contextlib.suppress(TraceError):
            self.flush()
        self._frames.close()

    def __enter__(self) -> TraceWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abandon()


class _PendingSteps:
    """The steps of the block that is being filled."""

    def __init__(self, first: int, known: U8, values: U64, pc: int) -> None:
        self.first = first
        self.words: list[int] = []
        self.pcs = [pc]
        self._known, self._values = known, values
        self._flags: list[int] = []
        self._change_counts: list[int] = []
        self._change_registers: list[int] = []
        self._change_values: list[int] = []
        self._writes: list[MemoryWrite] = []
        self._write_counts: list[int] = []
        self._exceptions: list[tuple[int, ...]] = []
        self._events: list[tuple[int, ...]] = []

    def add(
        self,
        next_pc: int,
        word: int | None,
        changes: Mapping[int, int | None],
        writes: Collection[MemoryWrite],
        exception: ExceptionTaken | None,
        events: Sequence[Event],
    ) -> None:
        """One step more; ``changes`` by register index."""
        step = len(self.words)
        self.words.append(word or 0)
        self._flags.append(0 if word is None else WORD_KNOWN)
        self.pcs.append(next_pc)
        self._change_counts.append(len(changes))
        for index, value in changes.items():
            self._change_registers.append(index if value is not None else index | BECOMES_UNKNOWN)
            self._change_values.append(value or 0)
        self._write_counts.append(len(writes))
        self._writes.extend(writes)
        if exception is not None:
            self._exceptions.append(_exception_row(step, exception))
        self._events.extend(_event_row(step, event) for event in events)

    def forget(self, indices: Container[int]) -> None:
        """Make registers unknown in all of these steps."""
        for index in range(len(self._known)):
            if index in indices:
                self._known[index] = 0
        self._change_registers = [
            entry | BECOMES_UNKNOWN if entry & (BECOMES_UNKNOWN - 1) in indices else entry
            for entry in self._change_registers
        ]

    def block(self) -> StepBlock:
        """The steps so far as columns."""
        return StepBlock(
            first=self.first,
            known=self._known,
            values=self._values,
            pcs=np.array(self.pcs, np.uint64),
            words=np.array(self.words, np.uint32),
            flags=np.array(self._flags, np.uint8),
            change_counts=np.array(self._change_counts, np.uint16),
            change_registers=np.array(self._change_registers, np.uint16),
            change_values=np.array(self._change_values, np.uint64),
            write_counts=np.array(self._write_counts, np.uint16),
            write_vas=np.array([write.va for write in self._writes], np.uint64),
            write_pas=np.array([write.pa for write in self._writes], np.uint64),
            write_sizes=np.array(
                [write.size | (DATA_UNKNOWN if write.data is None else 0) for write in self._writes], np.uint32
            ),
            write_data=b"".join(write.data for write in self._writes if write.data is not None),
            exceptions=np.array(self._exceptions, EXCEPTION),
            events=np.array(self._events, EVENT),
        )


def _exception_row(step: int, exception: ExceptionTaken) -> tuple[int, ...]:
    values = [getattr(exception, name) for name in SYNDROME_FIELDS]
    known = sum(1 << bit for bit, value in enumerate(values) if value is not None)
    return (step, exception.from_el, exception.to_el, known, 0, *(value or 0 for value in values))


def _event_row(step: int, event: Event) -> tuple[int, ...]:
    counted = event.instructions is not None
    return (
        step, event.kind, counted, 0, event.source, event.destination, event.size, event.instructions or 0,
    )  # fmt: skip
