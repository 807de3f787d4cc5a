"""Folded loops: which of them were copies, and what is said of those that nobody counted."""

from __future__ import annotations

from pathlib import Path

from kexecdbg.arm64.faults import Access
from kexecdbg.machine.memory import BytesMemory
from kexecdbg.trace.header import TraceHeader
from kexecdbg.trace.reader import Trace
from kexecdbg.trace.recording.copies import events_of
from kexecdbg.trace.recording.loops import Rounds, Touched
from kexecdbg.trace.records import Event, EventKind
from kexecdbg.trace.step_block import PAGE_SIZE
from kexecdbg.trace.writer import TraceWriter
from kexecdbg.ui.style import Style
from kexecdbg.ui.trace_text import overview_text

SOURCE, TARGET = 0x4000_0000, 0x4000_1000
COUNT = PAGE_SIZE // 8


def events(source: int, target: int) -> tuple[Event, ...]:
    """What a loop of four instructions is said to be that loads 8 bytes from ``source`` on and stores to ``target``."""
    touched = (
        Touched(Access.READ, source, source + PAGE_SIZE, PAGE_SIZE),
        Touched(Access.WRITE, target, target + PAGE_SIZE, PAGE_SIZE),
    )
    pieces = {address: [(address, address, PAGE_SIZE)] for address in (source, target)}
    memory = BytesMemory({SOURCE: bytes(range(256)) * (2 * PAGE_SIZE // 256)})
    return events_of(Rounds(COUNT, touched), 4, pieces[source], pieces[target], memory)


def test_a_loop_that_copies_and_one_that_changes_memory_in_place() -> None:
    ran = Event(EventKind.RAN, instructions=4 * COUNT)
    assert events(SOURCE, TARGET) == (Event(EventKind.PAGE_COPIED, SOURCE, TARGET, PAGE_SIZE), ran)
    assert events(SOURCE, SOURCE) == (ran,)


def test_instructions_that_were_not_counted_are_not_none(tmp_path: Path) -> None:
    file = tmp_path / "ran.kxt"
    header = TraceHeader(engine="stepping", registers=("PC", "PSTATE"))
    with TraceWriter(file, header, {"PC": SOURCE, "PSTATE": 0x3C9}) as writer:
        writer.step(SOURCE + 8, None, {}, events=(Event(EventKind.RAN),))
    with Trace.open(file) as trace:
        assert "1 step stands for instructions that nobody counted\n" in overview_text(trace, Style(colour=False))
