"""The kexec page list: ``kimage->head`` and the pages it leads to.

Format: Linux include/linux/kexec.h (IND_* flags) and kernel/kexec_core.c, kimage_add_entry(). An entry is 8 bytes: a
page-aligned physical address, with one of four flags in the low bits. :mod:`kexecdbg.kexec.list_reader` reads a list.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable
from dataclasses import dataclass

PAGE_SIZE = 4096
ENTRY_SIZE = 8


class EntryKind(enum.IntFlag):
    """What an entry of the page list tells the relocation code to do (the kernel's IND_* flags)."""

    DESTINATION = 1
    """Following source pages go here, one after the other."""
    INDIRECTION = 2
    """The list goes on in this page."""
    DONE = 4
    """End of the list."""
    SOURCE = 8
    """Copy this page to the running destination."""


ALL_FLAGS = EntryKind.DESTINATION | EntryKind.INDIRECTION | EntryKind.DONE | EntryKind.SOURCE


@dataclass(frozen=True)
class PageCopy:
    """One page the relocation copies: physical addresses of source and destination."""

    source: int
    destination: int


def entry(kind: EntryKind, address: int = 0) -> int:
    """The 64-bit entry for the page at physical ``address`` (a multiple of 4096)."""
    return address | kind


def list_entries(copies: Iterable[PageCopy]) -> list[int]:
    """The entries that make ``copies`` in their order, DONE included, without the links from page to page."""
    entries: list[int] = []
    expected = None
    for copy in copies:
        if copy.destination != expected:
            entries.append(entry(EntryKind.DESTINATION, copy.destination))
        entries.append(entry(EntryKind.SOURCE, copy.source))
        expected = copy.destination + PAGE_SIZE
    return [*entries, entry(EntryKind.DONE)]


def place_entries(entries: list[int], allocate_page: Callable[[], int]) -> tuple[int, dict[int, bytes]]:
    """``entries`` in list pages, as kimage_add_entry() would fill them.

    ``allocate_page`` gives the physical address of a fresh page for list entries.
    Returns the head entry, and the list pages' contents by physical address.
    """
    usable = PAGE_SIZE // ENTRY_SIZE - 1
    chunks = [entries[start : start + usable] for start in range(0, len(entries), usable)]
    addresses = [allocate_page() for _ in chunks]
    pages = {}
    for number, (address, chunk) in enumerate(zip(addresses, chunks, strict=True)):
        if number + 1 < len(addresses):
            chunk = [*chunk, entry(EntryKind.INDIRECTION, addresses[number + 1])]
        pages[address] = b"".join(value.to_bytes(ENTRY_SIZE, "little") for value in chunk).ljust(PAGE_SIZE, b"\0")
    return entry(EntryKind.INDIRECTION, addresses[0]), pages


def build_page_list(copies: Iterable[PageCopy], allocate_page: Callable[[], int]) -> tuple[int, dict[int, bytes]]:
    """A page list that makes ``copies`` in their order; see :func:`place_entries`."""
    return place_entries(list_entries(copies), allocate_page)
