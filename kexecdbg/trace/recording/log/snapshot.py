"""A copy of the guest's RAM as it was when a recording began; the guest runs on while its log is read."""

from __future__ import annotations

from bisect import bisect_right

from kexecdbg.arm64.interfaces import PhysicalMemory
from kexecdbg.errors import EnvironmentProblem, MemoryUnreadableError
from kexecdbg.machine.memory import PopulatedMemory
from kexecdbg.machine.memory_map import MemoryMap, RegionKind, memory_map_of
from kexecdbg.trace.step_block import PAGE_SIZE


class RamSnapshot:
    """All RAM that was ever written, copied; the rest of RAM is zeros. ROM is copied if the CPU is in it.

    Args:
        memory: the guest's memory, stopped; it is not read any more afterwards.
        pc: where the CPU is.

    Raises:
        EnvironmentProblem: what was ever written cannot be told, so that all of RAM would have to be copied.
    """

    def __init__(self, memory: PhysicalMemory, pc: int) -> None:
        memory_map = memory_map_of(memory)
        if not isinstance(memory, PopulatedMemory) or memory_map is None:
            raise EnvironmentProblem(
                "QEMU's log can only be recorded with guest RAM in a shared file (QEMU: -object "
                "memory-backend-file,id=ram,size=...,mem-path=FILE,share=on -machine memory-backend=ram), on this "
                "host; record with --engine stepping"
            )
        self.memory_map: MemoryMap = memory_map
        ranges = _page_ranges(memory)
        here = memory_map.find(pc)
        if here is not None and here.kind is RegionKind.ROM:
            ranges.append((here.start, here.end))
        self._ranges = {start: memory.read(start, end - start) for start, end in ranges}
        self._starts = sorted(self._ranges)

    def pages(self) -> list[int]:
        """Physical addresses of the pages that were ever written, ascending."""
        return [page for start in self._starts for page in range(start, start + len(self._ranges[start]), PAGE_SIZE)]

    def page(self, address: int) -> bytes | None:
        """The page at physical ``address``; ``None`` where no memory is, or ROM that was not copied."""
        try:
            self.memory_map.check_readable(address, PAGE_SIZE)
        except MemoryUnreadableError:
            return None
        place = bisect_right(self._starts, address) - 1
        if place >= 0:
            start, data = self._starts[place], self._ranges[self._starts[place]]
            if address < start + len(data):
                return data[address - start : address - start + PAGE_SIZE]
        region = self.memory_map.find(address)
        return bytes(PAGE_SIZE) if region is not None and region.kind is RegionKind.RAM else None


def _page_ranges(memory: PopulatedMemory) -> list[tuple[int, int]]:
    """The populated ranges in whole pages, joined where they touch."""
    joined: list[tuple[int, int]] = []
    for start, end in memory.populated_ranges():
        start, end = start & -PAGE_SIZE, (end + PAGE_SIZE - 1) & -PAGE_SIZE
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return joined
