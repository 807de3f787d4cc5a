"""The kexec page list: ``kimage->head`` and the pages it leads to.

Format: Linux include/linux/kexec.h (IND_* flags) and kernel/kexec_core.c, kimage_add_entry(). An entry is 8 bytes: a
page-aligned physical address, with one of four flags in the low bits.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

PAGE_SIZE = 4096
ENTRY_SIZE = 8
_FLAGS_MASK = PAGE_SIZE - 1


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


@dataclass(frozen=True)
class PageCopy:
    """One page the relocation copies: physical addresses of source and destination."""

    source: int
    destination: int


def entry(kind: EntryKind, address: int = 0) -> int:
    """The 64-bit entry for the page at physical ``address`` (a multiple of 4096)."""
    return address | kind


def build_page_list(copies: Iterable[PageCopy], allocate_page: Callable[[], int]) -> tuple[int, dict[int, bytes]]:
    """A page list that makes ``copies`` in their order, as kimage_add_entry() would build it.

    ``allocate_page`` gives the physical address of a fresh page for list entries.
    Returns the head entry, and the list pages' contents by physical address.
    """
    entries: list[int] = []
    expected = None
    for copy in copies:
        if copy.destination != expected:
            entries.append(entry(EntryKind.DESTINATION, copy.destination))
        entries.append(entry(EntryKind.SOURCE, copy.source))
        expected = copy.destination + PAGE_SIZE
    entries.append(entry(EntryKind.DONE))
    usable = PAGE_SIZE // ENTRY_SIZE - 1
    chunks = [entries[start : start + usable] for start in range(0, len(entries), usable)]
    addresses = [allocate_page() for _ in chunks]
    pages = {}
    for number, (address, chunk) in enumerate(zip(addresses, chunks, strict=True)):
        if number + 1 < len(addresses):
            chunk = [*chunk, entry(EntryKind.INDIRECTION, addresses[number + 1])]
        pages[address] = b"".join(value.to_bytes(ENTRY_SIZE, "little") for value in chunk).ljust(PAGE_SIZE, b"\0")
    return entry(EntryKind.INDIRECTION, addresses[0]), pages


def iterate_copies(head: int, read: Callable[[int, int], bytes]) -> Iterator[PageCopy]:
    """The page copies that the list starting with entry ``head`` asks for, in order.

    ``read`` reads physical memory and raises MemoryUnreadableError where there is none. A list that loops is the
    caller's to bound.
    """
    current, next_entry, destination = head, 0, 0
    while not current & EntryKind.DONE:
        address = current & ~_FLAGS_MASK
        if current & EntryKind.SOURCE:
            yield PageCopy(address, destination)
            destination += PAGE_SIZE
        elif current & EntryKind.INDIRECTION:
            next_entry = address
        elif current & EntryKind.DESTINATION:
            destination = address
        current = int.from_bytes(read(next_entry, ENTRY_SIZE), "little")
        next_entry += ENTRY_SIZE
