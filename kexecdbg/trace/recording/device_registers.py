"""Reads the device registers that an analysis of the recorded machine will ask for."""

from __future__ import annotations

from kexecdbg.machine.bus_masters import find_bus_masters
from kexecdbg.machine.memory_map import MemoryMap
from kexecdbg.machine.stub_memory import StubMemory, StubPackets


def read_device_registers(stub: StubPackets, memory_map: MemoryMap) -> tuple[tuple[int, int, int], ...]:
    """Address, bytes and value of the registers that say which memory devices use; reading them changes nothing."""
    memory = _Remembered(StubMemory(stub, memory_map))
    find_bus_masters(memory, memory_map)
    return tuple((address, size, value) for (address, size), value in memory.values.items())


class _Remembered:
    """A machine's memory that remembers which device registers were read."""

    def __init__(self, memory: StubMemory) -> None:
        self.values: dict[tuple[int, int], int] = {}
        self._memory = memory

    def read(self, address: int, size: int) -> bytes:
        """See :class:`StubMemory`."""
        return self._memory.read(address, size)

    def read_device_register(self, address: int, size: int) -> int:
        """See :class:`StubMemory`."""
        value = self._memory.read_device_register(address, size)
        self.values[address, size] = value
        return value
