"""The page list: what we build is what the kernel would build, and reading it back gives the same copies."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kexecdbg.errors import MemoryUnreadableError
from kexecdbg.kexec.page_list import PAGE_SIZE, EntryKind, PageCopy, build_page_list, entry, iterate_copies
from kexecdbg.kexec.reloc_arg import KernRelocArg
from kexecdbg.machine.memory import BytesMemory

LIST = 0x1_B309_0000
pages = st.integers(1, 2**36 - 1).map(lambda number: number * PAGE_SIZE)
copies_strategy = st.lists(st.builds(PageCopy, pages, pages), max_size=1200)


def allocator() -> Iterator[int]:
    return iter(range(LIST, LIST + 64 * PAGE_SIZE, PAGE_SIZE))


def entries(page: bytes) -> list[int]:
    return [value for (value,) in struct.iter_unpack("<Q", page)]


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
    first, second = (entries(page) for page in contents.values())
    assert first[511] == LIST + PAGE_SIZE | EntryKind.INDIRECTION
    assert [second[1], second[2]] == [entry(EntryKind.DONE), 0]
    assert list(iterate_copies(head, BytesMemory(contents).read)) == copies


@given(copies_strategy)
def test_reading_back_gives_the_copies(copies: list[PageCopy]) -> None:
    free = allocator()
    head, contents = build_page_list(copies, lambda: next(free))
    assert list(iterate_copies(head, BytesMemory(contents).read)) == copies


def test_an_empty_list_is_done_at_once() -> None:
    def read(address: int, size: int) -> bytes:
        raise AssertionError("nothing to read")

    assert list(iterate_copies(entry(EntryKind.DONE), read)) == []


def test_a_list_that_leads_out_of_memory() -> None:
    memory = BytesMemory({LIST: struct.pack("<2Q", 0x1001, 0xA008)})
    copies = iterate_copies(LIST | EntryKind.INDIRECTION, memory.read)
    assert next(copies) == PageCopy(0xA000, 0x1000)
    with pytest.raises(MemoryUnreadableError):
        next(copies)


def test_the_argument_block_of_rfc_v2() -> None:
    """Offsets of "[RFC v2 8/8]": head 0, entry_addr 8, kern_arg0 to 3 at 16 to 40, trans_table 48."""
    argument = KernRelocArg(1, 2, 3, 4, 5, 6, 0x1_B306_9000)
    packed = argument.pack()
    assert (len(packed), KernRelocArg.SIZE) == (56, 56)
    assert struct.unpack_from("<Q", packed, 48) == (0x1_B306_9000,)
    assert [struct.unpack_from("<Q", packed, offset)[0] for offset in range(0, 48, 8)] == [1, 2, 3, 4, 5, 6]
    assert KernRelocArg.unpack(packed + b"more") == argument
