"""Registers and memory of one state of a trace."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from kexecdbg.arm64.interfaces import HAVE_EL2
from kexecdbg.errors import MemoryUnreadableError
from kexecdbg.machine.memory_map import MemoryMap
from kexecdbg.machine.state import shows_no_el2
from kexecdbg.machine.word_search import FoundWords, WordPattern
from kexecdbg.trace.recorded_search import find_recorded_words
from kexecdbg.trace.step_block import DATA_UNKNOWN, PAGE_SIZE, U8, U64

if TYPE_CHECKING:
    from kexecdbg.trace.reader import Trace

_CACHED_PAGES = 256


class RecordedRegisters:
    """The registers of one state of a trace."""

    def __init__(self, numbers: dict[str, int], known: U8, values: U64) -> None:
        self._numbers = numbers
        self._known = known
        self._values = values

    def get(self, name: str, /) -> int | None:
        """The value, or ``None`` when it was not recorded."""
        number = self._numbers.get(name)
        if number is None:
            return 0 if name == HAVE_EL2 and shows_no_el2(self._numbers) else None
        return int(self._values[number]) if self._known[number] else None

    def names(self) -> tuple[str, ...]:
        """Canonical names of all registers of the recorded machine."""
        return tuple(self._numbers)


class _Page(NamedTuple):
    """A page's bytes, and a 1 for each of them that is unknown; nothing when none is."""

    data: bytes
    unknown: bytes


class RecordedMemory:
    """Physical memory in one state of a trace; what was not recorded is unreadable, never zeros."""

    def __init__(self, trace: Trace, number: int) -> None:
        self._trace = trace
        self._number = number
        self._pages: dict[int, _Page | None] = {}

    @property
    def memory_map(self) -> MemoryMap:
        """The recorded machine's memory map; empty when it was not recorded."""
        return self._trace.memory_map or MemoryMap(())

    def read(self, address: int, size: int) -> bytes:
        """Exactly ``size`` bytes from the physical ``address``.

        Raises:
            MemoryUnreadableError: a part is a hole, a device, or was not recorded.
            TraceError: the part of the file that holds it is damaged.
        """
        if self._trace.memory_map is not None:
            self._trace.memory_map.check_readable(address, size)
        data = bytearray()
        while len(data) < size:
            position = address + len(data)
            page, offset = position & -PAGE_SIZE, position % PAGE_SIZE
            length = min(PAGE_SIZE - offset, size - len(data))
            piece = self._read_in_page(page, offset, length)
            if piece is None:
                raise MemoryUnreadableError(address, size, f"not recorded in this trace (state {self._number})")
            data += piece
        return bytes(data)

    def find_words(self, patterns: Sequence[WordPattern], /) -> FoundWords | None:
        """See :class:`kexecdbg.machine.word_search.SearchableMemory`."""
        return find_recorded_words(self._trace, self._number, patterns)

    def read_device_register(self, address: int, size: int) -> int:
        """A device register as it was when the recording began, if nothing has written to that device's page since.

        Raises:
            MemoryUnreadableError: it was not read then, or has been written to.
        """
        value = self._trace.device_registers.get((address, size))
        if value is None:
            raise MemoryUnreadableError(address, size, "this device register was not recorded")
        if self._trace.first_write_to(address & -PAGE_SIZE) < self._number:
            raise MemoryUnreadableError(address, size, "the device was written to after its registers were recorded")
        return value

    def _read_in_page(self, page: int, offset: int, length: int) -> bytes | None:
        if page not in self._pages:
            if len(self._pages) >= _CACHED_PAGES:
                self._pages.clear()
            self._pages[page] = self._page(page)
        held = self._pages[page]
        if held is None or held.unknown.find(1, offset, offset + length) >= 0:
            return None
        return held.data[offset : offset + length]

    def _page(self, page: int) -> _Page | None:
        contents = self._trace.page_at(page, self._number)
        since = self._trace.version_step(page, self._number)
        if contents is None or since is None:
            return None
        block = self._trace.block_at(self._number)
        if block.first >= self._number:
            return _Page(contents, b"")
        data, unknown = bytearray(contents), bytearray(PAGE_SIZE)
        first = block.write_starts[max(since - block.first, 0)]
        last = block.write_starts[self._number - block.first]
        for place in first + np.flatnonzero(block.write_pas[first:last] // PAGE_SIZE == page // PAGE_SIZE):
            start, entry = int(block.write_pas[place]) % PAGE_SIZE, int(block.write_sizes[place])
            size, is_unknown = entry & (DATA_UNKNOWN - 1), entry & DATA_UNKNOWN != 0
            unknown[start : start + size] = bytes([is_unknown]) * size
            if not is_unknown:
                at = block.data_starts[place]
                data[start : start + size] = block.write_data[at : at + size]
        return _Page(bytes(data), bytes(unknown))
