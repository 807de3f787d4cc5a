"""The page list: what we build is what the kernel would build, and reading it back gives the same copies."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from kexecdbg.errors import MemoryUnreadableError
from kexecdbg.kexec.list_reader import ListEnd, ListPage, read_page_list
from kexecdbg.kexec.page_list import PAGE_SIZE, EntryKind, PageCopy, build_page_list, entry
from kexecdbg.kexec.runs import CopyRun, copy_runs, destination_ranges, summarize
from kexecdbg.machine.memory import BytesMemory
from tests.unit.kexec.lists import LIST, list_page, read_copies, read_entries

pages = st.integers(1, 2**36 - 1).map(lambda number: number * PAGE_SIZE)
copies_strategy = st.lists(st.builds(PageCopy, pages, pages), max_size=1200)


def allocator() -> Iterator[int]:
    return iter(range(LIST, LIST + 64 * PAGE_SIZE, PAGE_SIZE))


def entries(contents: bytes) -> list[int]:
    return [value for (value,) in struct.iter_unpack("<Q", contents)]


def test_entries_as_the_kernel_writes_them() -> None:
    """include/linux/kexec.h: IND_DESTINATION 1, IND_INDIRECTION 2, IND_DONE 4, IND_SOURCE 8."""
    free = allocator()
    copies = [PageCopy(0xA000, 0x1000), PageCopy(0xC000, 0x2000), PageCopy(0xB000, 0x9000)]
    head, contents = build_page_list(copies, lambda: next(free))
    assert head == LIST | 2
    assert entries(contents[LIST])[:7] == [0x1001, 0xA008, 0xC008, 0x9001, 0xB008, 4, 0]
    assert len(contents[LIST]) == PAGE_SIZE


def test_a_full_page_ends_in_an_indirection() -> None:
    free = allocator()
    copies = [PageCopy(0x10_0000 + number * PAGE_SIZE, number * PAGE_SIZE) for number in range(1, 512)]
    head, contents = build_page_list(copies, lambda: next(free))
    assert list(contents) == [LIST, LIST + PAGE_SIZE]
    first, second = (entries(content) for content in contents.values())
    assert first[511] == LIST + PAGE_SIZE | EntryKind.INDIRECTION
    assert [second[1], second[2]] == [entry(EntryKind.DONE), 0]
    found = read_page_list(head, BytesMemory(contents))
    assert list(found.copies) == copies
    assert found.pages == (ListPage(LIST, 0, 1, 512), ListPage(LIST + PAGE_SIZE, 512, 513, 514))
    assert [found.address_of(index) for index in (0, 1, 512, 513)] == [None, LIST, LIST + 0xFF8, LIST + 0x1000]


@given(copies_strategy)
def test_reading_back_gives_the_copies(copies: list[PageCopy]) -> None:
    found = read_copies(copies)
    assert found.end is ListEnd.DONE
    assert list(found.copies) == copies


def test_an_empty_list_is_done_at_once() -> None:
    found = read_page_list(entry(EntryKind.DONE), BytesMemory({}))
    assert (found.end, found.values.tolist(), len(found.copies)) == (ListEnd.DONE, [4], 0)


def test_a_list_that_leads_out_of_memory_is_read_to_its_last_entry() -> None:
    memory = BytesMemory({LIST: struct.pack("<2Q", 0x1001, 0xA008)})
    found = read_page_list(LIST | EntryKind.INDIRECTION, memory)
    assert (found.end, found.end_address) == (ListEnd.UNREADABLE, LIST + 16)
    assert found.end_reason == "not part of what was given"
    assert list(found.copies) == [PageCopy(0xA000, 0x1000)]


def test_a_head_that_is_no_indirection_leads_to_address_0() -> None:
    """The list pointer of the relocation code starts as 0 and only an INDIRECTION sets it."""
    found = read_page_list(0xA008, BytesMemory({}))
    assert (found.end, found.end_address) == (ListEnd.UNREADABLE, 0)
    assert list(found.copies) == [PageCopy(0xA000, 0)]
    assert not found.copies.placed.any()


def test_a_cycle_ends_where_a_page_comes_again() -> None:
    found = read_entries(0x1001, 0xA008, LIST | EntryKind.INDIRECTION)
    assert (found.end, found.end_address) == (ListEnd.CYCLE, LIST)
    assert list(found.copies) == [PageCopy(0xA000, 0x1000)]


def test_a_page_without_a_link_runs_into_the_next_page() -> None:
    first = list_page([0x1001] + [0xA008] * 511)
    found = read_page_list(LIST | EntryKind.INDIRECTION, BytesMemory({LIST: first + list_page([0xB008, 4])}))
    assert found.end is ListEnd.DONE
    assert [each.address for each in found.pages] == [LIST, LIST + PAGE_SIZE]
    assert list(found.copies)[-1] == PageCopy(0xB000, 0x1000 + 511 * PAGE_SIZE)


def test_a_list_without_an_end_stops_at_an_empty_page() -> None:
    memory = BytesMemory({LIST: list_page([0x1001, 0xA008]) + bytes(64 * PAGE_SIZE)})
    found = read_page_list(LIST | EntryKind.INDIRECTION, memory)
    assert (found.end, found.end_address) == (ListEnd.EMPTY_PAGE, LIST + PAGE_SIZE)


def test_several_flags_are_obeyed_in_the_order_of_the_relocation_code() -> None:
    found = read_entries(0x1001, 0xA00F, 0xB008)
    assert (found.end, len(found.copies)) == (ListEnd.DONE, 0), "IND_DONE is tested first"
    found = read_entries(0x1001, 0xA00B, 0xB003, 4)
    assert found.end is ListEnd.UNREADABLE, "IND_INDIRECTION comes before IND_DESTINATION"
    assert list(found.copies) == [PageCopy(0xA000, 0x1000)], "IND_SOURCE comes before both"


def test_larger_pages() -> None:
    size = 0x1_0000
    contents = list_page([0x1_0001, 0xA_0008, 0xB_0008, 4]).ljust(size, b"\0")
    found = read_page_list(0x4_0002, BytesMemory({0x4_0000: contents}), page_size=size)
    assert list(found.copies) == [PageCopy(0xA_0000, 0x1_0000), PageCopy(0xB_0000, 0x2_0000)]


class HostileMemory:
    """Every page is readable and full of what a seed decides: flags in plenty, links to everywhere."""

    def __init__(self, seed: int, mostly: int) -> None:
        self._seed, self._mostly = seed, mostly

    def read(self, address: int, size: int) -> bytes:
        """``size`` bytes; the top of the address space is a hole."""
        if address + size > 1 << 48:
            raise MemoryUnreadableError(address, size, "beyond the end")
        source = random.Random(self._seed ^ address)
        words = [source.getrandbits(36) << 12 | self._mostly for _ in range(size // 8)]
        for index in source.sample(range(size // 8), min(3, size // 8)):
            words[index] ^= source.getrandbits(4)
        return struct.pack(f"<{size // 8}Q", *words)


@settings(max_examples=60, deadline=None)
@given(head=st.integers(0, 2**64 - 1), seed=st.integers(0, 2**32), mostly=st.sampled_from([0, 1, 2, 8, 9, 3]))
def test_hostile_lists_are_read_within_bounds(head: int, seed: int, mostly: int) -> None:
    found = read_page_list(head, HostileMemory(seed, mostly), most_entries=5000)
    assert 1 <= len(found.values) <= 5000
    assert len(found.copies) <= len(found.values)
    assert found.end is not ListEnd.DONE or found.values[-1] & np.uint64(EntryKind.DONE)
    assert len({each.address for each in found.pages}) == len(found.pages)


def test_runs_and_numbers() -> None:
    copies = [
        PageCopy(0x10_A000, 0x1000),
        PageCopy(0x10_B000, 0x2000),
        PageCopy(0x10_D000, 0x3000),
        PageCopy(0x9000, 0x9000),
    ]
    found = read_copies(copies)
    assert copy_runs(found) == (
        CopyRun(2, 0x10_A000, 0x1000, 2),
        CopyRun(4, 0x10_D000, 0x3000, 1),
        CopyRun(6, 0x9000, 0x9000, 1),
    )
    assert destination_ranges(found) == ((0x1000, 0x4000), (0x9000, 0xA000))
    summary = summarize(found)
    assert (summary.entries, summary.list_pages, summary.copies, summary.in_place) == (8, 1, 4, 1)
    assert (summary.destination_runs, summary.first, summary.last) == (2, copies[0], copies[3])


def test_numbers_of_an_empty_list() -> None:
    found = read_page_list(4, BytesMemory({}))
    summary = summarize(found)
    assert (summary.copies, summary.destination_runs, summary.first, summary.last) == (0, 0, None, None)
    assert copy_runs(found) == () and destination_ranges(found) == ()
