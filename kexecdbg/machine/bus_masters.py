"""Devices that write into memory by themselves, as far as their registers tell where.

Everything read here is a control or base address register, whose reads have no side effects: Arm IHI 0069 (GICv3), 12.9
and 12.11; Arm IHI 0070 (SMMUv3), 6.3; virtio 1.2, 4.2.2; PCI configuration space. The devices are found by the names
that QEMU gives their regions (``info mtree``).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from kexecdbg.arm64.bits import bit, bits
from kexecdbg.errors import MemoryUnreadableError
from kexecdbg.machine.device_registers import read_register_of
from kexecdbg.machine.memory_map import MemoryMap, Region, RegionKind


@dataclass(frozen=True)
class DeviceBuffer:
    """Memory that a device uses.

    Attributes:
        device: which device, by name and address.
        what: what the memory is to it.
        start, end: physical addresses; ``end`` is exclusive.
        writes: whether the device itself writes there; if not, ``consequence`` says what the memory is used for.
        registers: the register values that say so, by name.
        consequence: what happens when something else comes to lie there, as a clause.
    """

    device: str
    what: str
    start: int
    end: int
    writes: bool
    registers: Mapping[str, int] = field(hash=False)
    consequence: str


@dataclass(frozen=True)
class BusMasters:
    """What is known about devices that access memory.

    Attributes:
        buffers: memory of devices that are switched on.
        unseen: devices that are switched on, or cannot be asked, and whose memory is not visible; one clause each.
    """

    buffers: tuple[DeviceBuffer, ...]
    unseen: tuple[str, ...]


def find_bus_masters(memory: object, memory_map: MemoryMap) -> BusMasters:
    """Ask every device of ``memory_map`` that we know how to ask, through ``memory``."""
    devices = (region for region in memory_map.regions if region.kind is RegionKind.DEVICE)
    found = [each for region in devices for each in _asked(memory, memory_map, region)]
    return BusMasters(
        tuple(each for each in found if isinstance(each, DeviceBuffer)),
        tuple(each for each in found if isinstance(each, str)),
    )


def _asked(memory: object, memory_map: MemoryMap, region: Region) -> Iterator[DeviceBuffer | str]:
    """What the device of ``region`` says, if it is one that we know how to ask; text is of what cannot be seen."""
    for pattern, ask in _DEVICES:
        if pattern.fullmatch(region.name):
            try:
                yield from ask(_Device(memory, memory_map, region))
            except MemoryUnreadableError as error:
                yield f"{region.name} at {region.start:#x}: {error.reason}"


@dataclass(frozen=True)
class _Device:
    memory: object
    memory_map: MemoryMap
    region: Region

    def read(self, offset: int, size: int = 4) -> int:
        return read_register_of(self.memory, self.region.start + offset, size)

    @property
    def address(self) -> int:
        return self.region.start


_Found = Iterator[DeviceBuffer | str]

# GICv3 redistributor (Arm IHI 0069, 12.11). With EnableLPIs set, it reads the configuration table and writes the
# pending table; an implementation need not let EnableLPIs be cleared again.
_GICR_CTLR, _GICR_TYPER, _GICR_PROPBASER, _GICR_PENDBASER = 0x0, 0x8, 0x70, 0x78
_GICR_CTLR_ENABLE_LPIS = 0
_GICR_TYPER_VLPIS, _GICR_TYPER_LAST = 1, 4
_GICR_FRAMES, _GICR_FRAMES_WITH_VLPIS = 0x2_0000, 0x4_0000
_FIRST_LPI = 8192
_FEWEST_ID_BITS = 14


def _redistributors(device: _Device) -> _Found:
    offset = 0
    while device.address + offset < device.region.end:
        kind = device.read(offset + _GICR_TYPER, 8)
        control = device.read(offset + _GICR_CTLR)
        if bit(control, _GICR_CTLR_ENABLE_LPIS):
            yield from _lpi_tables(device, offset, control)
        if bit(kind, _GICR_TYPER_LAST):
            return
        offset += _GICR_FRAMES_WITH_VLPIS if bit(kind, _GICR_TYPER_VLPIS) else _GICR_FRAMES


def _lpi_tables(device: _Device, offset: int, control: int) -> _Found:
    properties, pending = device.read(offset + _GICR_PROPBASER, 8), device.read(offset + _GICR_PENDBASER, 8)
    registers = {"GICR_CTLR": control, "GICR_PROPBASER": properties, "GICR_PENDBASER": pending}
    name = f"the GIC redistributor at {device.address + offset:#x}"
    interrupts = 1 << max(bits(properties, 4, 0) + 1, _FEWEST_ID_BITS)
    start = bits(pending, 51, 16) << 16
    yield DeviceBuffer(
        name,
        "LPI pending table",
        start,
        start + interrupts // 8,
        True,
        registers,
        "it sets and clears pending bits there when a message-signalled interrupt arrives",
    )
    start = bits(properties, 51, 12) << 12
    yield DeviceBuffer(
        name,
        "LPI configuration table",
        start,
        start + max(interrupts - _FIRST_LPI, 0),
        False,
        registers,
        "it takes what lies there for priorities and enable bits; a Linux that boots with LPIs on and finds the table "
        "in memory it has reserved, its own image, adopts it and fills 64 KiB there with 0xa2",
    )


# GICv3 Interrupt Translation Service (12.19). QEMU calls its two frames "control" and "translation".
_GITS_CTLR, _GITS_BASER, _GITS_BASERS = 0x0, 0x100, 8
_GITS_TYPES = {1: "device table", 2: "vPE table", 4: "collection table"}
_GITS_PAGE_SIZES = (0x1000, 0x4000, 0x1_0000, 0x1_0000)


def _translation_services(device: _Device) -> _Found:
    neighbour = device.memory_map.find(device.region.end)
    if neighbour is None or neighbour.name != "translation":
        return
    control = device.read(_GITS_CTLR)
    if not bit(control, 0):
        return
    for number in range(_GITS_BASERS):
        value = device.read(_GITS_BASER + 8 * number, 8)
        if not bit(value, 63):
            continue
        page_size = _GITS_PAGE_SIZES[bits(value, 9, 8)]
        start = bits(value, 47, 12) << 12
        if page_size == 0x1_0000:
            # With 64 KiB pages bits [15:12] hold address bits [51:48].
            start = bits(value, 47, 16) << 16 | bits(value, 15, 12) << 48
        what = _GITS_TYPES.get(bits(value, 58, 56), "table")
        yield DeviceBuffer(
            f"the GIC ITS at {device.address:#x}",
            what,
            start,
            start + (bits(value, 7, 0) + 1) * page_size,
            True,
            {"GITS_CTLR": control, f"GITS_BASER{number}": value},
            "it keeps its tables there, and reads them for every message-signalled interrupt",
        )


# SMMUv3 (Arm IHI 0070, 6.3.9 and on).
_SMMU_CR0, _SMMU_EVENTQ_BASE, _SMMU_PRIQ_BASE = 0x20, 0xA0, 0xC0
_SMMU_QUEUES = ((2, _SMMU_EVENTQ_BASE, "EVENTQ", "event queue", 32), (1, _SMMU_PRIQ_BASE, "PRIQ", "PRI queue", 16))


def _smmus(device: _Device) -> _Found:
    control = device.read(_SMMU_CR0)
    for enable, offset, name, what, entry in _SMMU_QUEUES:
        if not bit(control, enable):
            continue
        value = device.read(offset, 8)
        start = bits(value, 51, 5) << 5
        yield DeviceBuffer(
            f"the SMMU at {device.address:#x}",
            what,
            start,
            start + (entry << bits(value, 4, 0)),
            True,
            {"SMMU_CR0": control, f"SMMU_{name}_BASE": value},
            "it writes a record there for every fault that a device takes",
        )


# virtio over MMIO (virtio 1.2, 4.2.2 and, legacy, 4.2.4). Ring addresses are write-only from version 2 on; a legacy
# device says where the ring is that was selected last.
_VIRTIO_MAGIC, _VIRTIO_VERSION, _VIRTIO_DEVICE, _VIRTIO_STATUS = 0x0, 0x4, 0x8, 0x70
_VIRTIO_QUEUE_NUM_MAX, _VIRTIO_QUEUE_PFN = 0x34, 0x40
_VIRTIO_MAGIC_VALUE = 0x7472_6976
_VIRTIO_DRIVER_OK = 2
_LEGACY_PAGE = 0x1000


def _virtio(device: _Device) -> _Found:
    if device.read(_VIRTIO_MAGIC) != _VIRTIO_MAGIC_VALUE or not device.read(_VIRTIO_DEVICE):
        return
    status = device.read(_VIRTIO_STATUS)
    if not bit(status, _VIRTIO_DRIVER_OK):
        return
    name = f"the virtio device {device.read(_VIRTIO_DEVICE)} at {device.address:#x}"
    if device.read(_VIRTIO_VERSION) != 1:
        yield f"{name} is in use (DRIVER_OK): the addresses of its rings are write-only registers"
        return
    frame = device.read(_VIRTIO_QUEUE_PFN)
    if frame:
        start = frame * _LEGACY_PAGE
        yield DeviceBuffer(
            name,
            "virtqueue",
            start,
            start + _legacy_ring_size(device.read(_VIRTIO_QUEUE_NUM_MAX)),
            True,
            {"Status": status, "QueuePFN": frame},
            "it writes into the used ring, and into the buffers that the ring lists",
        )
    yield f"{name} is in use (DRIVER_OK): only the queue that was selected last says where it is"


def _legacy_ring_size(entries: int) -> int:
    """Bytes of a legacy virtqueue with as many entries as there can be, in pages of 4 KiB (virtio 1.2, 2.7.2)."""
    available = 16 * entries + 6 + 2 * entries
    return -(-available // _LEGACY_PAGE) * _LEGACY_PAGE + 6 + 8 * entries


# PCI configuration space of bus 0 (ECAM): which functions may master the bus at all.
_PCI_DEVICES, _PCI_FUNCTIONS = 32, 8
_PCI_COMMAND_BUS_MASTER = 2


def _pci(device: _Device) -> _Found:
    for number in range(_PCI_DEVICES):
        functions = _PCI_FUNCTIONS
        for function in range(_PCI_FUNCTIONS):
            if function >= functions:
                break
            offset = number << 15 | function << 12
            identity = device.read(offset)
            if identity & 0xFFFF == 0xFFFF:
                break
            if not function and not bit(device.read(offset + 0xC), 23):
                functions = 1
            if bit(device.read(offset + 4), _PCI_COMMAND_BUS_MASTER):
                yield (
                    f"the PCI function 00:{number:02x}.{function} ({identity & 0xFFFF:04x}:{identity >> 16:04x}) may "
                    "master the bus; where it writes is not visible"
                )


_DEVICES: tuple[tuple[re.Pattern[str], Callable[[_Device], _Found]], ...] = (
    (re.compile(r"gicv3_redist_region\[\d+]"), _redistributors),
    (re.compile(r"control"), _translation_services),
    (re.compile(r"arm-smmuv3"), _smmus),
    (re.compile(r"virtio-mmio"), _virtio),
    (re.compile(r"pcie-mmcfg-mmio"), _pci),
)
