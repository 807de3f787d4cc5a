"""Physical memory of a stopped machine, and the file that QEMU shares its RAM in."""

from __future__ import annotations

import errno
import mmap
import os
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol, runtime_checkable

from kexecdbg.errors import EnvironmentProblem, MemoryUnreadableError, TargetError
from kexecdbg.machine.device_registers import read_register_of
from kexecdbg.machine.memory_map import MemoryMap, RegionKind


class WritablePhysicalMemory(Protocol):
    """Physical memory that can also be written; writing into a guest is only done when the user asked for it."""

    def read(self, address: int, size: int) -> bytes:
        """Exactly ``size`` bytes; raises MemoryUnreadableError, never returns zeros for a hole."""
        ...

    def write(self, address: int, data: bytes) -> None:
        """Write ``data``; raises MemoryUnreadableError for a hole, a device or ROM, TargetError if it did not take."""
        ...


@runtime_checkable
class PopulatedMemory(Protocol):
    """Physical memory that knows which parts of it were ever written, so that all of it can be searched."""

    def populated_ranges(self) -> Iterator[tuple[int, int]]:
        """Start and end (exclusive) of what was written, ascending; RAM outside reads as zeros."""
        ...


class SharedRamFile:
    """Guest RAM in the file of a ``memory-backend-file,share=on``: memory speed, no privileges.

    It is read with pread(2): reading a hole through a mapping would make the file system allocate it, and what was only
    looked at would count as written (:meth:`populated_ranges`). Memory that the file does not hold (flash, ROM) is read
    through ``fallback``.
    """

    def __init__(self, path: Path, block_name: str, memory_map: MemoryMap, fallback: WritablePhysicalMemory) -> None:
        self.path = path
        self.memory_map = memory_map
        self._regions = tuple(
            region for region in memory_map.regions if region.kind is RegionKind.RAM and region.name == block_name
        )
        if not self._regions:
            raise EnvironmentProblem(f"{path}: the machine has no RAM block called {block_name}")
        self._fallback = fallback
        try:
            descriptor = os.open(path, os.O_RDWR)
        except OSError as error:
            raise EnvironmentProblem(f"{path}: cannot map guest RAM: {error.strerror}") from error
        try:
            size = os.fstat(descriptor).st_size
            if size < max(region.backing_offset + region.end - region.start for region in self._regions):
                raise EnvironmentProblem(f"{path}: {size} bytes, smaller than the machine's RAM")
            self._map = mmap.mmap(descriptor, size, mmap.MAP_SHARED)
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor
        self._close = weakref.finalize(self, os.close, descriptor)

    def _offset(self, address: int, size: int) -> int | None:
        for region in self._regions:
            if region.start <= address and address + size <= region.end:
                return address - region.start + region.backing_offset
        return None

    def read(self, address: int, size: int) -> bytes:
        """Exactly ``size`` bytes at the physical address; MemoryUnreadableError as the fallback raises it."""
        offset = self._offset(address, size)
        if offset is None:
            return self._fallback.read(address, size)
        data = os.pread(self._descriptor, size, offset)
        while len(data) < size:  # Linux reads 2 GiB at once at most
            more = os.pread(self._descriptor, size - len(data), offset + len(data))
            if not more:
                raise TargetError(f"{self.path}: guest RAM became smaller; has the machine ended?")
            data += more
        return data

    def write(self, address: int, data: bytes) -> None:
        """Write into the live guest's RAM."""
        offset = self._offset(address, len(data))
        if offset is None:
            self._fallback.write(address, data)
            return
        self._map[offset : offset + len(data)] = data

    def read_device_register(self, address: int, size: int) -> int:
        """A device register, through the fallback; MemoryUnreadableError where that cannot read one."""
        return read_register_of(self._fallback, address, size)

    def populated_ranges(self) -> Iterator[tuple[int, int]]:
        """The parts of the guest's RAM that the file has data for (lseek(2), SEEK_DATA), ascending."""
        descriptor = self._descriptor
        for region in sorted(self._regions, key=lambda region: region.start):
            end = region.backing_offset + region.end - region.start
            position = region.backing_offset
            while (position := _seek(descriptor, position, os.SEEK_DATA, end)) < end:
                hole = _seek(descriptor, position, os.SEEK_HOLE, end)
                first = region.start - region.backing_offset
                yield first + position, first + hole
                position = hole

    def close(self) -> None:
        """Unmap and close the file."""
        self._map.close()
        self._close()


def _seek(descriptor: int, position: int, what: int, end: int) -> int:
    """The first offset from ``position`` up that is data or a hole; ``end`` when there is none before it."""
    try:
        return min(os.lseek(descriptor, position, what), end)
    except OSError as error:
        if error.errno == errno.ENXIO:  # no data after position
            return end
        raise


class BytesMemory:
    """Physical memory given as bytes by start address: lab images, tests, values pasted out of a mail."""

    def __init__(self, contents: dict[int, bytes]) -> None:
        self._contents = {start: bytearray(data) for start, data in contents.items()}

    def _locate(self, address: int, size: int) -> tuple[bytearray, int]:
        for start, data in self._contents.items():
            if start <= address and address + size <= start + len(data):
                return data, address - start
        raise MemoryUnreadableError(address, size, "not part of what was given")

    def read(self, address: int, size: int) -> bytes:
        """Exactly ``size`` bytes; MemoryUnreadableError outside what was given."""
        data, offset = self._locate(address, size)
        return bytes(data[offset : offset + size])

    def populated_ranges(self) -> Iterator[tuple[int, int]]:
        """What was given, ascending."""
        return iter(sorted((start, start + len(data)) for start, data in self._contents.items()))

    def write(self, address: int, data: bytes) -> None:
        """Replace bytes of what was given."""
        target, offset = self._locate(address, len(data))
        target[offset : offset + len(data)] = data


def write_and_verify(memory: WritablePhysicalMemory, address: int, data: bytes) -> None:
    """Write ``data`` at the physical ``address`` and read it back.

    Raises:
        TargetError: it reads back differently (QEMU's stub answers OK to writes that it drops).
    """
    memory.write(address, data)
    found = memory.read(address, len(data))
    if found != data:
        raise TargetError(f"write of {data.hex()} to physical {address:#x} did not take: it reads back {found.hex()}")
