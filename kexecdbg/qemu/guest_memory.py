"""A guest's physical memory, found through QEMU's monitor: the file it shares its RAM in, or the gdbstub."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from kexecdbg.arm64.interfaces import RegisterValues
from kexecdbg.errors import EnvironmentProblem, TargetError
from kexecdbg.machine.cpu_view_memory import CpuViewMemory
from kexecdbg.machine.memory import SharedRamFile, WritablePhysicalMemory
from kexecdbg.machine.memory_map import MemoryMap
from kexecdbg.machine.replayed_memory import replayed_memory
from kexecdbg.machine.stub_memory import StubMemory, StubPackets
from kexecdbg.qemu.memory_tree import parse_flat_memory_tree

_COMPARED = ("PC", "VBAR_EL1", "VBAR_EL2", "TTBR0_EL1", "TTBR1_EL1", "TTBR0_EL2")
_PAGE_ADDRESS = 0x0000_FFFF_FFFF_F000


class QemuStub(StubPackets, Protocol):
    """QEMU's gdbstub."""

    def monitor(self, command: str, /) -> str:
        """What QEMU's monitor answers to ``command``."""
        ...


def guest_memory(stub: QemuStub, registers: RegisterValues) -> WritablePhysicalMemory:
    """The guest's memory by the fastest way there is.

    Args:
        stub: the machine, stopped.
        registers: as they are now; where they point to, a RAM file is compared with what the stub reads.

    Raises:
        TargetError: the monitor is not QEMU's.
    """
    memory_map = parse_flat_memory_tree(stub.monitor("info mtree -f"))
    return replayed_memory(stub, memory_map) or _shared_ram_file(stub, memory_map, registers)


def any_memory(stub: QemuStub, registers: Callable[[], RegisterValues]) -> WritablePhysicalMemory:
    """Physical memory behind any gdbstub, as far as it gives it; ``memory_map`` is ``None`` where it tells of none.

    Args:
        stub: the machine, stopped.
        registers: gives the registers of the CPU that the stub's memory packets are about, as they are then.
    """
    try:
        memory_map = parse_flat_memory_tree(stub.monitor("info mtree -f"))
    except TargetError:  # no monitor, or another debugger's
        memory_map = None
    if not StubMemory.is_possible(stub):
        return CpuViewMemory(stub, registers, memory_map)
    return StubMemory(stub, None) if memory_map is None else guest_memory(stub, registers())


def _shared_ram_file(stub: QemuStub, memory_map: MemoryMap, registers: RegisterValues) -> WritablePhysicalMemory:
    """The file QEMU shares its RAM in, when there is one that we can open; else the stub.

    The file is compared with what the stub reads, so that a file of the same name in another container is not used.
    """
    fallback = StubMemory(stub, memory_map)
    block = stub.monitor("qom-get /machine memory-backend").strip().strip('"')
    name = block.rsplit("/", 1)[-1]
    if not block.startswith("/") or stub.monitor(f"qom-get {block} share").strip() != "true":
        return fallback
    path = Path(stub.monitor(f"qom-get {block} mem-path").strip().strip('"'))
    if not path.is_file() or not os.access(path, os.R_OK | os.W_OK):
        return fallback
    try:
        shared = SharedRamFile(path, name, memory_map, fallback)
    except EnvironmentProblem:
        return fallback
    if _same_memory(shared, fallback, memory_map, registers):
        return shared
    shared.close()
    return fallback


def _same_memory(shared: SharedRamFile, stub: StubMemory, memory_map: MemoryMap, registers: RegisterValues) -> bool:
    """Whether the file and the stub show the same RAM, compared where the CPU is working."""
    values = (registers.get(name) for name in _COMPARED)
    samples = {value & _PAGE_ADDRESS for value in values if value is not None}
    readable = [address for address in samples if memory_map.is_memory(address)]
    with stub.many_reads():
        return all(shared.read(address, 64) == stub.read(address, 64) for address in readable)
