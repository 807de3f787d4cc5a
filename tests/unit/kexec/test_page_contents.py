"""Pages compared before and after a copy: what differs is named by copy, page and byte."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from kexecdbg.kexec.list_reader import PageList, read_page_list
from kexecdbg.kexec.page_contents import PageContents, PageDifference
from kexecdbg.kexec.page_list import PAGE_SIZE, PageCopy, build_page_list
from kexecdbg.machine.memory import BytesMemory

RAM = 0x4000_0000
PAGES = 64
LIST = RAM + PAGES * PAGE_SIZE


def machine(copies: list[PageCopy]) -> tuple[BytesMemory, PageList]:
    """64 pages of known data, and behind them the list that asks for ``copies``."""
    free = iter(range(LIST, LIST + 16 * PAGE_SIZE, PAGE_SIZE))
    head, pages = build_page_list(copies, lambda: next(free))
    listed = b"".join(pages[address] for address in sorted(pages))
    memory = BytesMemory({RAM: random.Random(5).randbytes(PAGES * PAGE_SIZE) + listed})
    return memory, read_page_list(head, memory)


def page(number: int) -> int:
    return RAM + number * PAGE_SIZE


def carry_out(memory: BytesMemory, copies: list[PageCopy]) -> None:
    for copy in copies:
        memory.write(copy.destination, memory.read(copy.source, PAGE_SIZE))


SOUND = [PageCopy(page(40 - number), page(number)) for number in range(10)]


def test_a_whole_copy_has_no_difference() -> None:
    memory, pages = machine(SOUND)
    contents = PageContents(pages, memory)
    carry_out(memory, SOUND)
    compared = contents.compare(memory)
    assert (compared.pages, compared.superseded, compared.differing) == (10, 0, 0)


def test_a_difference_has_both_addresses_and_the_first_byte() -> None:
    memory, pages = machine(SOUND)
    contents = PageContents(pages, memory)
    carry_out(memory, SOUND)
    expected = memory.read(page(33) + 0x123, 1)[0]
    memory.write(page(7) + 0x123, bytes([expected ^ 0x10]))
    memory.write(page(7) + 0xFFF, bytes([memory.read(page(33) + 0xFFF, 1)[0] ^ 1]))
    (difference,) = contents.compare(memory).differences
    assert difference == PageDifference(7, page(33), page(7), 0x123, expected, expected ^ 0x10, 2)
    assert (difference.source_byte, difference.destination_byte) == (page(33) + 0x123, page(7) + 0x123)


def test_a_source_that_is_overwritten_before_its_turn_shows() -> None:
    """What counts is what the source held at the start."""
    copies = [PageCopy(page(50), page(20)), PageCopy(page(20), page(21))]
    memory, pages = machine(copies)
    contents = PageContents(pages, memory)
    carry_out(memory, copies)
    compared = contents.compare(memory)
    assert (compared.pages, compared.differing) == (2, 1)
    assert (compared.differences[0].copy, compared.differences[0].source) == (1, page(20))


def test_of_two_copies_to_one_page_the_last_one_counts() -> None:
    copies = [PageCopy(page(50), page(20)), PageCopy(page(51), page(20))]
    memory, pages = machine(copies)
    contents = PageContents(pages, memory)
    carry_out(memory, copies)
    compared = contents.compare(memory)
    assert (compared.pages, compared.superseded, compared.differing) == (1, 1, 0)
    assert contents.compare(memory, copied=1).differing == 1


@given(st.integers(0, len(SOUND)))
def test_progress_is_what_has_been_copied(copied: int) -> None:
    memory, pages = machine(SOUND)
    contents = PageContents(pages, memory)
    carry_out(memory, SOUND[:copied])
    assert contents.copied(memory) == copied
    assert contents.compare(memory, copied).differing == 0


def test_all_of_many_differing_pages_are_counted() -> None:
    copies = [PageCopy(page(0), LIST + 0x10_0000 + number * PAGE_SIZE) for number in range(100)]
    free = iter(range(LIST, LIST + 4 * PAGE_SIZE, PAGE_SIZE))
    head, listed = build_page_list(copies, lambda: next(free))
    memory = BytesMemory({RAM: b"\x01" * PAGE_SIZE, LIST + 0x10_0000: bytes(100 * PAGE_SIZE), **listed})
    compared = PageContents(read_page_list(head, memory), memory).compare(memory)
    assert (compared.pages, compared.differing, len(compared.differences)) == (100, 100, 64)
