"""Writes a trace file while a machine is being recorded."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from types import TracebackType

import numpy as np

from kexecdbg.arm64.interfaces import HAVE_EL2
from kexecdbg.errors import TraceError
from kexecdbg.machine.state import shows_no_el2
from kexecdbg.machine.word_search import Ranges, WordPattern
from kexecdbg.trace.frames import FrameType, FrameWriter
from kexecdbg.trace.header import TraceHeader
from kexecdbg.trace.page_frame import UNKNOWN_CONTENT, PageVersion, pack_pages
from kexecdbg.trace.pending_steps import PendingSteps
from kexecdbg.trace.records import Event, ExceptionTaken, MemoryWrite
from kexecdbg.trace.search_frame import MAX_RANGES, pack_search
from kexecdbg.trace.step_block import DATA_UNKNOWN, PAGE_SIZE, U8, U64, StepBlock, concatenate

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
            self._known[self.number(name)] = 1
            self._values[self.number(name)] = value
        if "PC" not in state:
            raise TraceError("a recording cannot start without the PC")
        self._pages: dict[int, bytearray] = {}
        self._dirty: set[int] = set()
        self._lost: set[int] = set()
        self._content_numbers: dict[bytes, int] = {}
        self._new_contents: list[bytes] = []
        self._versions: list[PageVersion] = []
        self._version_steps: dict[int, list[int]] = {}
        self._blocks: list[StepBlock] = []
        self._written = 0
        """How many steps are in the file."""
        self._pending = PendingSteps(0, self._known.copy(), self._values.copy(), int(state["PC"]))
        self._frames = FrameWriter(path)
        self._frames.append(FrameType.HEADER, header.pack())
        # A block without steps: whatever happens next, the file has a state to start from.
        self._frames.append(FrameType.STEPS, self._pending.block().pack())

    def number(self, name: str) -> int:
        """The number of a register in the header, which blocks refer to it by.

        Raises:
            TraceError: the header does not name it.
        """
        try:
            return self._indices[name]
        except KeyError:
            raise TraceError(f"{name}: the trace's header does not name this register") from None

    @property
    def steps(self) -> int:
        """How many steps have been recorded; also the number of the present state."""
        return self._pending.first + len(self._pending)

    @property
    def pending_steps(self) -> int:
        """How many steps are collected and not written yet."""
        return self.steps - self._written

    @property
    def pc(self) -> int:
        """The PC of the present state."""
        return self._pending.pc

    def value(self, name: str) -> int | None:
        """The present value of a register, ``None`` when it is unknown."""
        if name == "PC":
            return self.pc
        index = self.number(name)
        return int(self._values[index]) if self._known[index] else None

    def values(self) -> dict[str, int]:
        """The present values of all known registers, and that the CPU has no EL2 where they show it."""
        values = {name: value for name in self.header.registers if (value := self.value(name)) is not None}
        return {**values, HAVE_EL2: 0} if shows_no_el2(self._indices) else values

    def has_seen(self, page: int) -> bool:
        """Whether the contents of the page at physical address ``page`` are known at present."""
        return page in self._pages and page not in self._lost

    def page(self, address: int) -> bytes | None:
        """The present contents of the page at physical ``address``; ``None`` when they are not known."""
        return bytes(self._pages[address]) if self.has_seen(address) else None

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
        self._add_version(step, page, self._content_number(data))

    def _add_version(self, step: int, page: int, content: int) -> None:
        self._versions.append(PageVersion(step, page, content))
        self._version_steps.setdefault(page, []).append(step)

    def distrust(self, address: int) -> None:
        """What was recorded of the page at physical ``address`` is wrong from some state on that nobody knows.

        It becomes unknown in all states but the first one that it was seen in.
        """
        self.flush()
        steps = sorted(self._version_steps.get(address, ()))
        for step in {steps[0] + 1, *steps[1:]} if steps else ():
            self._add_version(step, address, UNKNOWN_CONTENT)
        self._lost.add(address)

    def searched(self, patterns: Sequence[WordPattern], occupied: Ranges) -> None:
        """Record that all memory was searched in the present state for words of ``patterns``; none: nothing is known.

        Every page that holds one has been seen (:meth:`see`), and so will be every page that is written to from now on.

        Args:
            occupied: where RAM holds anything but zeros, in whole pages.
        """
        if len(occupied) > MAX_RANGES:
            patterns, occupied = (), ()
        self._write_versions()  # first: cut off between the two, the file does not claim what it has not got
        self._frames.append(FrameType.SEARCH, pack_search(self.steps, patterns, occupied))

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
        indexed = {self.number(name): value for name, value in changes.items() if name != "PC"}
        self._pending.add(next_pc, word, indexed, writes, exception, events)
        for index, value in indexed.items():
            self._known[index] = value is not None
            self._values[index] = value or 0
        for write in writes:
            self._apply(write.pa, write.size, write.data)
        if self.pending_steps >= STEPS_PER_BLOCK:
            self.flush()

    def amend(self, values: Mapping[str, int]) -> None:
        """Registers were found to hold ``values`` now, though no step says so; then everything is written.

        In the steps that were pending they become unknown.
        """
        indexed = {self.number(name): value for name, value in values.items()}
        self._collect()
        self._blocks = [block.without(indexed) for block in self._blocks]
        self.flush()
        for index, value in indexed.items():
            self._known[index], self._values[index] = 1, value
        if indexed:
            self._start_collecting(self.steps, self.pc)
            self._frames.append(FrameType.STEPS, self._pending.block().pack())

    def keyframe(self) -> tuple[U8, U64]:
        """The present registers as a block of steps wants them: which are known, and their values."""
        return self._known.copy(), self._values.copy()

    def append(self, block: StepBlock) -> None:
        """Record a whole block of steps at once; it starts from the present state (:meth:`keyframe`)."""
        self._collect()
        if block.first != self.steps or int(block.pcs[0]) != self.pc:
            raise TraceError(f"a block from step {block.first} does not follow step {self.steps}")
        self._known, self._values = block.state_before(block.count)
        starts = block.data_starts.tolist()
        for index, (pa, size) in enumerate(zip(block.write_pas.tolist(), block.write_sizes.tolist(), strict=True)):
            data = None if size & DATA_UNKNOWN else block.write_data[starts[index] : starts[index + 1]]
            self._apply(pa, size & (DATA_UNKNOWN - 1), data)
        self._blocks.append(block)
        self._start_collecting(block.first + block.count, int(block.pcs[-1]))
        if self.pending_steps >= STEPS_PER_BLOCK:
            self.flush()

    def _collect(self) -> None:
        """Put the steps that came one by one with the blocks that wait to be written."""
        if len(self._pending):
            self._blocks.append(self._pending.block())
            self._start_collecting(self.steps, self.pc)

    def _start_collecting(self, first: int, pc: int) -> None:
        self._pending = PendingSteps(first, self._known.copy(), self._values.copy(), pc)

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
        self._collect()
        if not self._blocks:
            self._write_versions()
            return
        # The pages come first: a file cut off between the two has versions for states that it does not have, which is
        # harmless; the other way round it would show stale memory.
        for page in sorted(self._dirty):
            content = UNKNOWN_CONTENT if page in self._lost else self._content_number(bytes(self._pages[page]))
            self._add_version(self.steps, page, content)
        self._dirty.clear()
        self._write_versions()
        self._frames.append(FrameType.STEPS, concatenate(self._blocks).pack())
        self._blocks.clear()
        self._written = self.steps

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
