"""Records loops that go round many times as one step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from kexecdbg.arm64.faults import Access
from kexecdbg.arm64.interfaces import PhysicalMemory
from kexecdbg.arm64.pstate import el_of
from kexecdbg.trace.recording.copies import Piece, events_of
from kexecdbg.trace.recording.log.accesses import Accesses
from kexecdbg.trace.recording.log.code import NOWHERE
from kexecdbg.trace.recording.log.columns import Writes
from kexecdbg.trace.recording.log.execution import Execution, Instructions
from kexecdbg.trace.recording.log.present import Present
from kexecdbg.trace.recording.log.rounds import LoggedLoop
from kexecdbg.trace.recording.log.states import States
from kexecdbg.trace.recording.loops import Rounds, Touched, find_loop
from kexecdbg.trace.step_block import PAGE_SIZE


class LoopFolder:
    """Adds folded loops to the trace of ``present``."""

    def __init__(self, present: Present, execution: Execution) -> None:
        self._present = present
        self._execution = execution

    def take(self, loop: LoggedLoop, states: States) -> bool:
        """Record the rounds of ``loop``, between ``states``, as one step; ``False``: it is none to fold."""
        present = self._present
        if not present.room:
            return True
        instructions = Instructions(present, states)
        el = el_of(int(states.pstates[0]))
        end = present.code.plan(loop.end | el)
        if end is None or find_loop(lambda pc: present.code.plan(pc | el), end, present.block_size) is None:
            return False
        accesses: list[Accesses] = []
        writes = self._execution.writes(states, instructions, accesses)
        on_tables_or_code = self._execution.first_on_tables_or_code(writes) is not None
        if on_tables_or_code or any(data is None for data in writes.data):
            return False
        contents = self._contents_after(writes)
        touched = tuple(_touched(access) for access in accesses)
        pstate = int(states.pstates[0])
        events = events_of(
            Rounds(loop.rounds, touched),
            loop.length,
            self._pages(touched, Access.READ, pstate),
            self._pages(touched, Access.WRITE, pstate),
            _Layered(contents, present.memory),
        )
        after = states.part(states.steps, states.steps).row()
        changes = {name: value for name, value in after.items() if present.writer.value(name) != value}
        first = instructions.of_step(0)
        present.writer.step(after["PC"], first.word if first else None, changes, events=events)
        for page, data in contents.items():
            present.writer.see(page, data)
        return True

    def _contents_after(self, writes: Writes) -> dict[int, bytes]:
        """What the pages hold afterwards that are written, of those that are memory."""
        contents: dict[int, bytearray] = {}
        for pa, data in writes.in_order():
            page, offset = pa & -PAGE_SIZE, pa % PAGE_SIZE
            if page not in contents:
                before = self._present.memory.page(page)
                if before is None:
                    continue
                contents[page] = bytearray(before)
            if data is not None:
                contents[page][offset : offset + len(data)] = data
        return {page: bytes(data) for page, data in contents.items()}

    def _pages(self, touched: Sequence[Touched], access: Access, pstate: int) -> list[Piece]:
        vas = sorted(
            {
                page
                for each in touched
                if each.access is access
                for page in range(each.start & -PAGE_SIZE, each.end, PAGE_SIZE)
            }
        )
        if not vas:
            return []
        pas = self._execution.physical(np.array(vas, np.uint64), np.full(len(vas), pstate, np.uint32))
        return [(va, pa, PAGE_SIZE) for va, pa in zip(vas, pas.tolist(), strict=True) if pa != NOWHERE]


class _Layered:
    """Memory with some pages replaced."""

    def __init__(self, pages: Mapping[int, bytes], below: PhysicalMemory) -> None:
        self._pages = pages
        self._below = below

    def read(self, address: int, size: int) -> bytes:
        """``size`` bytes, which do not cross a page's end."""
        page = self._pages.get(address & -PAGE_SIZE)
        offset = address % PAGE_SIZE
        return self._below.read(address, size) if page is None else page[offset : offset + size]


def _touched(access: Accesses) -> Touched:
    """The addresses from the lowest to the highest byte that an instruction touched."""
    kind = Access.WRITE if access.is_write else Access.READ
    distinct = len(np.unique(access.addresses)) * access.size
    return Touched(kind, int(access.addresses.min()), int(access.addresses.max()) + access.size, distinct)
