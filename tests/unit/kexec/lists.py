"""Page lists for the tests: sound ones, and memory that bounds what a reader may do."""

from __future__ import annotations

import struct
from collections.abc import Iterable

from hypothesis import strategies as st

from kexecdbg.kexec.list_reader import PageList, read_page_list
from kexecdbg.kexec.page_list import PAGE_SIZE, EntryKind, PageCopy, build_page_list
from kexecdbg.machine.memory import BytesMemory
from kexecdbg.machine.memory_map import MemoryMap, Region, RegionKind

LIST = 0x1_B309_0000
RAM = MemoryMap([Region(0x4000_0000, 0x2_4000_0000, RegionKind.RAM, "ram")])
DESTINATIONS = 0x1_8008_0000
SOURCES = 0x1_B320_0000


def page(number: int) -> int:
    """The address of source page ``number``."""
    return SOURCES + number * PAGE_SIZE


def target(number: int) -> int:
    """The address of destination page ``number``."""
    return DESTINATIONS + number * PAGE_SIZE


def list_page(entries: Iterable[int]) -> bytes:
    """A list page that starts with ``entries``."""
    return b"".join(struct.pack("<Q", entry) for entry in entries).ljust(PAGE_SIZE, b"\0")


def read_entries(*entries: int) -> PageList:
    """The list whose only page holds ``entries``."""
    return read_page_list(LIST | EntryKind.INDIRECTION, BytesMemory({LIST: list_page(entries)}))


def read_copies(copies: Iterable[PageCopy]) -> PageList:
    """The list that the kernel would build for ``copies``."""
    free = iter(range(LIST, LIST + (64 << 20), PAGE_SIZE))
    head, contents = build_page_list(copies, lambda: next(free))
    joined = b"".join(contents.values())
    return read_page_list(head, BytesMemory({LIST: joined}))


@st.composite
def valid_copies(draw: st.DrawFn) -> list[PageCopy]:
    """Copies as kimage_alloc_page() leaves them: a source is its own destination or nobody's."""
    count = draw(st.integers(0, 1200))
    random = draw(st.randoms(use_true_random=True))  # seeded once: thousands of drawn numbers take Hypothesis long
    targets = random.sample(range(4096), count)
    if draw(st.booleans()):
        targets.sort()
    sources = random.sample(range(4096), count)
    in_place = draw(st.integers(0, 4))
    return [
        PageCopy(target(to) if random.randrange(8) < in_place else page(source), target(to))
        for to, source in zip(targets, sources, strict=True)
    ]
