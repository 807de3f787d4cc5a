"""Which physical addresses hold RAM or ROM, and which do not.

A debugger's read of a hole gives zeros on QEMU (PhyMemMode, QEMU 7.2 and 10.0), so every read is checked against this
map first.
"""

from __future__ import annotations

import enum
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from kexecdbg.errors import MemoryUnreadableError


class RegionKind(enum.Enum):
    """What answers at a physical address."""

    RAM = "RAM"
    ROM = "ROM"
    DEVICE = "device"


@dataclass(frozen=True)
class Region:
    """Physical addresses ``start`` to ``end`` (exclusive), bytes.

    ``backing_offset`` is the offset of ``start`` in the memory block called ``name``.
    """

    start: int
    end: int
    kind: RegionKind
    name: str
    backing_offset: int = 0


class MemoryMap:
    """The regions of a physical address space, without overlaps."""

    def __init__(self, regions: Iterable[Region]) -> None:
        self.regions = tuple(sorted(regions, key=lambda region: region.start))
        self._starts = [region.start for region in self.regions]

    def find(self, address: int) -> Region | None:
        """The region at ``address``, or ``None`` for a hole."""
        index = bisect_right(self._starts, address) - 1
        if index >= 0 and address < self.regions[index].end:
            return self.regions[index]
        return None

    def is_memory(self, address: int) -> bool:
        """Whether RAM or ROM answers at ``address``."""
        region = self.find(address)
        return region is not None and region.kind is not RegionKind.DEVICE

    def check_readable(self, address: int, size: int) -> None:
        """Return when all ``size`` bytes at ``address`` are RAM or ROM.

        Raises:
            MemoryUnreadableError: some of them are a hole or a device (reading a device can change it).
        """
        position = address
        while position < address + size:
            region = self.find(position)
            if region is None:
                raise MemoryUnreadableError(address, size, f"no memory there ({self.describe_ram()})")
            if region.kind is RegionKind.DEVICE:
                raise MemoryUnreadableError(address, size, f"the device {region.name} is there, not memory")
            position = region.end

    def not_memory(self, start: int, end: int) -> Iterator[tuple[int, int, Region | None]]:
        """The parts of ``start`` to ``end`` (exclusive) that are no RAM or ROM: where, and the device or ``None``."""
        position, index = start, max(0, bisect_right(self._starts, start) - 1)
        for region in self.regions[index:]:
            if region.start >= end:
                break
            if region.end <= position:
                continue
            if position < region.start:
                yield position, region.start, None
                position = region.start
            if region.kind is RegionKind.DEVICE:
                yield position, min(region.end, end), region
            position = region.end
        if position < end:
            yield position, end, None

    def describe_ram(self) -> str:
        """The RAM ranges in words, for error messages."""
        ranges = [f"{r.start:#x}-{r.end - 1:#x}" for r in self.regions if r.kind is RegionKind.RAM]
        return f"RAM is {', '.join(ranges)}" if ranges else "the machine lists no RAM"


@runtime_checkable
class MappedMemory(Protocol):
    """Physical memory that knows which addresses are memory at all."""

    @property
    def memory_map(self) -> MemoryMap | None:
        """The machine's memory map; ``None`` when the machine does not tell."""
        ...


def memory_map_of(memory: object) -> MemoryMap | None:
    """The memory map that ``memory`` knows; ``None`` when it is only bytes from somewhere."""
    return memory.memory_map if isinstance(memory, MappedMemory) else None
