"""Tells whether a folded loop was a copy, by comparing what it read with what it wrote."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from kexecdbg.arm64.faults import Access
from kexecdbg.arm64.interfaces import PhysicalMemory
from kexecdbg.errors import MemoryUnreadableError
from kexecdbg.trace.recording.loops import Rounds, Touched
from kexecdbg.trace.records import Event, EventKind
from kexecdbg.trace.step_block import PAGE_SIZE

Piece = tuple[int, int, int]
"""Virtual address, physical address and size of memory within one page."""


@dataclass(frozen=True)
class _Range:
    start: int
    end: int


def events_of(
    rounds: Rounds, instructions: int, reads: Sequence[Piece], writes: Sequence[Piece], memory: PhysicalMemory
) -> tuple[Event, ...]:
    """What the loop stands for in the trace: its page copies when it was a copy, else that it ran.

    Args:
        rounds: what the loop did.
        instructions: of one round.
        reads, writes: the memory that it touched, page by page.
        memory: as it is after the loop.
    """
    total = rounds.count * instructions
    source = _contiguous([each for each in rounds.touched if each.access is Access.READ])
    target = _contiguous([each for each in rounds.touched if each.access is Access.WRITE])
    if source is not None and target is not None and source.end - source.start == target.end - target.start:
        size = target.end - target.start
        # A copy loop may store what it loaded one round before (Linux arch/arm64/lib/copy_page.S).
        for lag in (0, size // rounds.count):
            copies = tuple(_copies(source.start - lag, target.start, size, reads, writes))
            if copies and sum(copy.size for copy in copies) == size and all(_is_copied(memory, c) for c in copies):
                return (*copies, Event(EventKind.RAN, instructions=total))
    return (Event(EventKind.RAN, instructions=total),)


def _contiguous(touched: Sequence[Touched]) -> _Range | None:
    """The range that the accesses fill without gaps or overlaps, as far as their sizes tell."""
    if not touched:
        return None
    start, end = min(each.start for each in touched), max(each.end for each in touched)
    return _Range(start, end) if sum(each.size for each in touched) == end - start else None


def _copies(source: int, target: int, size: int, reads: Sequence[Piece], writes: Sequence[Piece]) -> Iterator[Event]:
    """The copy of ``size`` bytes between virtual addresses, cut so that each part lies within a page on both sides."""
    from_pages = {va // PAGE_SIZE: pa // PAGE_SIZE for va, pa, _ in reads}
    to_pages = {va // PAGE_SIZE: pa // PAGE_SIZE for va, pa, _ in writes}
    done = 0
    while done < size:
        here, there = source + done, target + done
        length = min(size - done, PAGE_SIZE - here % PAGE_SIZE, PAGE_SIZE - there % PAGE_SIZE)
        from_page, to_page = from_pages.get(here // PAGE_SIZE), to_pages.get(there // PAGE_SIZE)
        if from_page is None or to_page is None:
            return
        yield Event(
            EventKind.PAGE_COPIED,
            from_page * PAGE_SIZE + here % PAGE_SIZE,
            to_page * PAGE_SIZE + there % PAGE_SIZE,
            length,
        )
        done += length


def _is_copied(memory: PhysicalMemory, copy: Event) -> bool:
    if copy.source == copy.destination:
        return False  # changed in place, whatever it holds now
    try:
        return memory.read(copy.source, copy.size) == memory.read(copy.destination, copy.size)
    except MemoryUnreadableError:
        return False
