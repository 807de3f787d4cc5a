"""Reading a register of a device: only on purpose, and only one whose read changes nothing.

:meth:`PhysicalMemory.read` refuses devices, because a read can acknowledge an interrupt or empty a FIFO.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from kexecdbg.errors import MemoryUnreadableError
from kexecdbg.machine.memory_map import MemoryMap, RegionKind

_SIZES = (1, 2, 4, 8)


@runtime_checkable
class DeviceRegisters(Protocol):
    """A machine whose device registers can be read."""

    def read_device_register(self, address: int, size: int) -> int:
        """The register of ``size`` bytes (1, 2, 4 or 8, aligned) at the physical address, little-endian.

        Raises:
            MemoryUnreadableError: no device is there, or it cannot be read this way.
        """
        ...


def read_register_of(memory: object, address: int, size: int) -> int:
    """A device register through ``memory``, if it can do that.

    Raises:
        MemoryUnreadableError: it cannot, or no device is at ``address``.
    """
    if not isinstance(memory, DeviceRegisters):
        raise MemoryUnreadableError(address, size, "device registers can only be read on a running machine")
    return memory.read_device_register(address, size)


def check_is_register(memory_map: MemoryMap, address: int, size: int) -> None:
    """Return when a device has an aligned register of ``size`` bytes at ``address``.

    Raises:
        MemoryUnreadableError: otherwise.
    """
    region = memory_map.find(address)
    if region is None or region.kind is not RegionKind.DEVICE or address + size > region.end:
        raise MemoryUnreadableError(address, size, "no device register is there")
    if size not in _SIZES or address % size:
        raise MemoryUnreadableError(address, size, "device registers are read whole and aligned")
