"""Reads a page list the way the relocation code does, without believing anything that is in it.

The order of the tests is that of arch/arm64/kernel/relocate_kernel.S (5.3 to 6.1): the entry just loaded ends the list
if DONE is set; of the other flags SOURCE comes first, then INDIRECTION, then DESTINATION; an entry without a flag is
passed over. Importing this module imports numpy.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from kexecdbg.arm64.interfaces import PhysicalMemory
from kexecdbg.errors import MemoryUnreadableError
from kexecdbg.kexec.page_list import ALL_FLAGS, ENTRY_SIZE, PAGE_SIZE, EntryKind, PageCopy

Words = npt.NDArray[np.uint64]
Flags = npt.NDArray[np.bool_]
Indices = npt.NDArray[np.int64]

MOST_ENTRIES = 1 << 22
"""Where reading stops: 16 GiB of 4 KiB pages."""
_MAX_ADDRESS = (1 << 64) - 1


class ListEnd(enum.Enum):
    """Why reading a list came to an end."""

    DONE = "an entry with IND_DONE"
    CYCLE = "it leads back to a page that has been read"
    UNREADABLE = "it leads to memory that cannot be read"
    EMPTY_PAGE = "it leads through a whole page without a flag"
    TOO_LONG = "it has more entries than are read"


@dataclass(frozen=True)
class Copies:
    """What a page list asks for, in the order it is done: one element per page.

    Attributes:
        sources, destinations: physical addresses.
        entries: index of the SOURCE entry.
        placed: whether a DESTINATION entry came before; the relocation code starts at address 0.
    """

    sources: Words
    destinations: Words
    entries: Indices
    placed: Flags

    def __len__(self) -> int:
        return len(self.sources)

    def __iter__(self) -> Iterator[PageCopy]:
        pairs = zip(self.sources.tolist(), self.destinations.tolist(), strict=True)
        return (PageCopy(source, destination) for source, destination in pairs)


@dataclass(frozen=True)
class ListPage:
    """A page of list entries.

    Attributes:
        address: physical address.
        linked_from: index of the entry that was read before the first one of this page.
        first, last: indices of the entries read from it.
    """

    address: int
    linked_from: int
    first: int
    last: int


@dataclass(frozen=True)
class PageList:
    """A page list as far as it could be read.

    Attributes:
        head: the first entry, ``kimage->head``; it has index 0 here.
        values: all entries in the order they are read.
        pages: the pages they were read from, in the same order; the head is in none of them.
        end: why reading stopped.
        end_address: physical address of the entry that would have been next; of a cycle, the page that comes again.
        end_reason: why it cannot be read, for UNREADABLE.
        page_size: bytes of a page (the kernel's PAGE_SIZE).
    """

    head: int
    values: Words
    pages: tuple[ListPage, ...]
    end: ListEnd
    end_address: int | None
    end_reason: str
    page_size: int

    def address_of(self, index: int) -> int | None:
        """Physical address of the entry at ``index``; ``None`` for the head, which is not in a list page."""
        for page in self.pages:
            if page.first <= index <= page.last:
                return page.address + (index - page.first) * ENTRY_SIZE
        return None

    @cached_property
    def addresses(self) -> Words:
        """The page addresses in the entries."""
        return self.values & np.uint64(_MAX_ADDRESS ^ (self.page_size - 1))

    @cached_property
    def flags(self) -> npt.NDArray[np.uint8]:
        """The four flags of each entry."""
        return (self.values & np.uint64(ALL_FLAGS)).astype(np.uint8)

    @cached_property
    def copies(self) -> Copies:
        """The page copies that the list asks for, in order, whether they make sense or not."""
        live = (self.flags & EntryKind.DONE) == 0
        is_source = live & ((self.flags & EntryKind.SOURCE) != 0)
        moves = live & ((self.flags & ALL_FLAGS) == EntryKind.DESTINATION)
        size = np.uint64(self.page_size)
        done_before = np.cumsum(is_source).astype(np.uint64) - is_source.astype(np.uint64)
        # What the running destination would be at entry 0, going back from each DESTINATION entry; modulo 2^64.
        origin = np.where(moves, self.addresses - done_before * size, np.uint64(0))
        positions = np.arange(len(self.values), dtype=np.int64)
        last_move = np.maximum.accumulate(np.where(moves, positions, np.int64(-1)))
        placed = last_move >= 0
        running = np.where(placed, origin[np.maximum(last_move, 0)], np.uint64(0)) + done_before * size
        entries = np.flatnonzero(is_source)
        return Copies(self.addresses[entries], running[entries], entries, placed[entries])


def read_page_list(
    head: int, memory: PhysicalMemory, *, page_size: int = PAGE_SIZE, most_entries: int = MOST_ENTRIES
) -> PageList:
    """The list that starts with the entry ``head``.

    Args:
        head: ``kimage->head``, or the field of that name.
        memory: physical memory; each list page is read with one call.
        page_size: the kernel's PAGE_SIZE in bytes.
        most_entries: bound on the entries that are kept.
    """
    reader = _Reader(memory, page_size, most_entries)
    if not head & EntryKind.DONE:
        # Nothing but an INDIRECTION sets the list pointer, and it starts as 0.
        reader.follow(_link(head, page_size) or 0)
    values = np.concatenate([np.array([head], np.uint64), *reader.chunks])
    return PageList(head, values, tuple(reader.pages), reader.end, reader.end_address, reader.end_reason, page_size)


def _link(value: int, page_size: int) -> int | None:
    """The page that ``value`` continues the list in; ``None`` when it is not taken as an INDIRECTION."""
    if value & EntryKind.INDIRECTION and not value & (EntryKind.SOURCE | EntryKind.DONE):
        return value & ~(page_size - 1)
    return None


class _Reader:
    def __init__(self, memory: PhysicalMemory, page_size: int, most_entries: int) -> None:
        self._memory = memory
        self._page_size = page_size
        self._room = most_entries - 1
        self._count = 1
        self.chunks: list[Words] = []
        self.pages: list[ListPage] = []
        self.end = ListEnd.DONE
        self.end_address: int | None = None
        self.end_reason = ""

    def follow(self, page: int) -> None:
        """Read from the start of ``page`` to the end of the list."""
        seen: set[int] = set()
        while True:
            if page in seen:
                return self._stop(ListEnd.CYCLE, page)
            seen.add(page)
            entries, problem = self._read(page)
            flags = entries & np.uint64(ALL_FLAGS)
            ends = np.flatnonzero(
                (flags & np.uint64(EntryKind.DONE) != 0)
                | (flags & np.uint64(EntryKind.INDIRECTION | EntryKind.SOURCE) == EntryKind.INDIRECTION)
            )
            used = int(ends[0]) + 1 if len(ends) else len(entries)
            if used > self._room:
                self._keep(page, entries[: self._room])
                return self._stop(ListEnd.TOO_LONG, page + len(entries[: self._room]) * ENTRY_SIZE)
            self._keep(page, entries[:used])
            if len(ends):
                last = int(entries[used - 1])
                if last & EntryKind.DONE:
                    return None
                page = _link(last, self._page_size) or 0
            elif problem is not None:
                return self._stop(ListEnd.UNREADABLE, page + used * ENTRY_SIZE, problem)
            elif not flags.any():
                return self._stop(ListEnd.EMPTY_PAGE, page)
            else:
                page = (page + self._page_size) & _MAX_ADDRESS

    def _read(self, page: int) -> tuple[Words, str | None]:
        """The entries of a page up to the first that cannot be read, and why it cannot."""
        try:
            return _words(self._memory.read(page, self._page_size)), None
        except MemoryUnreadableError:
            pass
        data = b""
        while len(data) < self._page_size:
            try:
                data += self._memory.read(page + len(data), ENTRY_SIZE)
            except MemoryUnreadableError as error:
                return _words(data), error.reason
        return _words(data), None

    def _keep(self, page: int, entries: Words) -> None:
        if len(entries):
            self.pages.append(ListPage(page, self._count - 1, self._count, self._count + len(entries) - 1))
            self.chunks.append(entries)
            self._count += len(entries)
            self._room -= len(entries)

    def _stop(self, end: ListEnd, address: int, reason: str = "") -> None:
        self.end, self.end_address, self.end_reason = end, address, reason


def _words(data: bytes) -> Words:
    return np.frombuffer(data, "<u8").astype(np.uint64, copy=False)
