"""Devices that master the bus: what their registers say, read from a machine with just those registers."""

from __future__ import annotations

import pytest

from kexecdbg.errors import MemoryUnreadableError
from kexecdbg.machine.bus_masters import BusMasters, find_bus_masters
from kexecdbg.machine.device_registers import check_is_register, read_register_of
from kexecdbg.machine.memory import BytesMemory
from kexecdbg.machine.memory_map import MemoryMap, Region, RegionKind

REDISTRIBUTORS = 0x080A_0000
ITS = 0x0808_0000
SMMU = 0x0905_0000
VIRTIO = 0x0A00_0000
ECAM = 0x40_1000_0000
RAM = Region(0x4000_0000, 0x8000_0000, RegionKind.RAM, "ram")


def device(name: str, start: int, size: int) -> Region:
    return Region(start, start + size, RegionKind.DEVICE, name)


class Registers:
    """A machine with these registers by address, and no others: a read of any other one is a test failure."""

    def __init__(self, values: dict[int, int], *regions: Region) -> None:
        self.values = values
        self.memory_map = MemoryMap([RAM, *regions])

    def read_device_register(self, address: int, size: int) -> int:
        """The register, checked as the real providers do."""
        check_is_register(self.memory_map, address, size)
        return self.values[address]

    def survey(self) -> BusMasters:
        """What is found."""
        return find_bus_masters(self, self.memory_map)


def test_two_redistributors_of_which_one_has_lpis_enabled() -> None:
    second = REDISTRIBUTORS + 0x2_0000
    machine = Registers(
        {
            REDISTRIBUTORS: 0,
            REDISTRIBUTORS + 8: 0x1,
            second: 1,
            second + 8: 0x0100_0000_0000_0111,
            second + 0x70: 0x4_5678_078F,
            second + 0x78: 0x4_1234_0780,
        },
        device("gicv3_redist_region[0]", REDISTRIBUTORS, 0xF6_0000),
    )
    pending, configuration = machine.survey().buffers
    assert (pending.device, pending.what) == ("the GIC redistributor at 0x80c0000", "LPI pending table")
    assert (pending.start, pending.end, pending.writes) == (0x4_1234_0000, 0x4_1234_2000, True)
    assert (configuration.start, configuration.end) == (0x4_5678_0000, 0x4_5678_E000)
    assert not configuration.writes
    assert pending.registers == {"GICR_CTLR": 1, "GICR_PROPBASER": 0x4_5678_078F, "GICR_PENDBASER": 0x4_1234_0780}


def test_frames_are_twice_as_long_with_virtual_lpis() -> None:
    second = REDISTRIBUTORS + 0x4_0000
    machine = Registers(
        {REDISTRIBUTORS: 0, REDISTRIBUTORS + 8: 2, second: 0, second + 8: 0x12},
        device("gicv3_redist_region[0]", REDISTRIBUTORS, 0x8_0000),
    )
    assert machine.survey() == BusMasters((), ())


def test_the_translation_service() -> None:
    tables = {ITS + 0x100 + 8 * number: 0 for number in range(8)}
    tables[ITS + 0x100] = 1 << 63 | 1 << 56 | 0x4123_4000 | 0b00 << 8 | 3
    tables[ITS + 0x108] = 1 << 63 | 4 << 56 | 0x4567_0000 | 0b10 << 8 | 0
    regions = device("control", ITS, 0x1_0000), device("translation", ITS + 0x1_0000, 0x1_0000)
    found = Registers({ITS: 0x8000_0001, **tables}, *regions).survey().buffers
    assert [(each.what, each.start, each.end) for each in found] == [
        ("device table", 0x4123_4000, 0x4123_8000),
        ("collection table", 0x4567_0000, 0x4568_0000),
    ]
    assert Registers({ITS: 0x8000_0000}, *regions).survey().buffers == ()
    assert Registers({}, device("control", ITS, 0x1_0000)).survey() == BusMasters((), ()), "some other control"


def test_the_smmu_queues_that_are_on() -> None:
    queues = {SMMU + 0xA0: 0x4100_0000 | 7, SMMU + 0xC0: 0x4200_0000 | 3}
    regions = device("arm-smmuv3", SMMU, 0x2_0000)
    found = Registers({SMMU + 0x20: 0b0100, **queues}, regions).survey().buffers
    assert [(each.what, each.start, each.end) for each in found] == [("event queue", 0x4100_0000, 0x4100_1000)]
    assert Registers({SMMU + 0x20: 1}, regions).survey().buffers == ()


def virtio(version: int, status: int, frame: int = 0) -> Registers:
    values = {0: 0x7472_6976, 4: version, 8: 2, 0x70: status, 0x34: 256, 0x40: frame}
    return Registers({VIRTIO + offset: value for offset, value in values.items()}, device("virtio-mmio", VIRTIO, 0x200))


def test_a_legacy_virtio_device_says_where_its_selected_queue_is() -> None:
    found = virtio(1, 7, 0x4_1234).survey()
    (queue,) = found.buffers
    # 256 descriptors and the available ring take 4614 bytes, the used ring 2054 from the next page on.
    assert (queue.device, queue.start, queue.end) == ("the virtio device 2 at 0xa000000", 0x4123_4000, 0x4123_6806)
    assert len(found.unseen) == 1 and "selected last" in found.unseen[0]


def test_what_a_virtio_device_does_not_say() -> None:
    assert virtio(1, 3, 0x4_1234).survey() == BusMasters((), ()), "without DRIVER_OK it is not in use"
    modern = virtio(2, 0xF).survey()
    assert modern.buffers == () and "write-only" in modern.unseen[0]
    absent = Registers({VIRTIO: 0x7472_6976, VIRTIO + 8: 0}, device("virtio-mmio", VIRTIO, 0x200))
    assert absent.survey() == BusMasters((), ())


def test_pci_functions_that_may_master_the_bus() -> None:
    values = {ECAM + (number << 15): 0xFFFF_FFFF for number in range(32)}
    values |= {ECAM: 0x0008_1B36, ECAM + 0xC: 0, ECAM + 4: 0}
    two = ECAM + (2 << 15)
    values |= {two: 0x1000_1AF4, two + 0xC: 1 << 23, two + 4: 0b110, two + 0x1000: 0xFFFF_FFFF}
    found = Registers(values, device("pcie-mmcfg-mmio", ECAM, 0x1000_0000)).survey()
    assert found.buffers == ()
    assert found.unseen == ("the PCI function 00:02.0 (1af4:1000) may master the bus; where it writes is not visible",)


def test_memory_without_device_registers_says_what_it_cannot_see() -> None:
    region = device("gicv3_redist_region[0]", REDISTRIBUTORS, 0x2_0000)
    found = find_bus_masters(BytesMemory({}), MemoryMap([RAM, region]))
    assert found.buffers == ()
    assert found.unseen == (
        "gicv3_redist_region[0] at 0x80a0000: device registers can only be read on a running machine",
    )


@pytest.mark.parametrize(
    ("address", "size"), [(0x4000_0000, 4), (0x3000_0000, 4), (VIRTIO + 2, 4), (VIRTIO, 3), (VIRTIO + 0x1FC, 8)]
)
def test_what_is_no_register_is_not_read(address: int, size: int) -> None:
    with pytest.raises(MemoryUnreadableError, match="register"):
        read_register_of(virtio(1, 7), address, size)
