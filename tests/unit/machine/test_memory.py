"""Physical memory: the map, the shared RAM file, bytes, and writes that are read back."""

from __future__ import annotations

from pathlib import Path

import pytest

from kexecdbg.errors import EnvironmentProblem, MemoryUnreadableError, TargetError
from kexecdbg.machine.memory import BytesMemory, SharedRamFile, write_and_verify
from kexecdbg.machine.memory_map import MemoryMap, Region, RegionKind

RAM_LOW = Region(0x4000_0000, 0x4000_2000, RegionKind.RAM, "ram")
RAM_HIGH = Region(0x1_0000_0000, 0x1_0000_1000, RegionKind.RAM, "ram", backing_offset=0x2000)
OTHER_RAM = Region(0x5000_0000, 0x5000_1000, RegionKind.RAM, "sram")
FLASH = Region(0, 0x1000, RegionKind.ROM, "flash")
UART = Region(0x4000_2000, 0x4000_3000, RegionKind.DEVICE, "pl011")
MAP = MemoryMap([RAM_HIGH, UART, RAM_LOW, FLASH, OTHER_RAM])


@pytest.mark.parametrize(
    ("address", "region"),
    [
        (0, FLASH),
        (0xFFF, FLASH),
        (0x1000, None),
        (0x3FFF_FFFF, None),
        (0x4000_0000, RAM_LOW),
        (0x4000_1FFF, RAM_LOW),
        (0x4000_2000, UART),
        (0x1_0000_0FFF, RAM_HIGH),
        (0x1_0000_1000, None),
    ],
)
def test_find(address: int, region: Region | None) -> None:
    assert MAP.find(address) is region
    assert MAP.is_memory(address) == (region is not None and region is not UART)


@pytest.mark.parametrize(
    ("address", "size", "reason"),
    [
        (0x1000, 8, "no memory there (RAM is 0x40000000-0x40001fff, 0x50000000-0x50000fff, 0x100000000-0x100000fff)"),
        (0x1_0000_0FFC, 8, "no memory there"),
        (0x4000_1FFC, 8, "the device pl011 is there, not memory"),
    ],
)
def test_a_read_that_touches_a_hole_or_a_device_is_refused(address: int, size: int, reason: str) -> None:
    with pytest.raises(MemoryUnreadableError) as caught:
        MAP.check_readable(address, size)
    assert (caught.value.address, caught.value.size) == (address, size)
    assert caught.value.reason.startswith(reason)
    assert f"physical memory {address:#x}, {size} bytes" in str(caught.value)


def test_a_read_across_touching_regions_is_fine() -> None:
    two = MemoryMap([Region(0, 0x1000, RegionKind.RAM, "a"), Region(0x1000, 0x2000, RegionKind.ROM, "b")])
    two.check_readable(0xFF8, 16)
    with pytest.raises(MemoryUnreadableError):
        two.check_readable(0x1FF8, 16)


def test_a_machine_without_ram() -> None:
    assert MemoryMap([FLASH]).describe_ram() == "the machine lists no RAM"


@pytest.fixture
def ram_file(tmp_path: Path) -> Path:
    path = tmp_path / "ram"
    path.write_bytes(bytes(range(256)) * 32 + b"high" * 1024)
    return path


FALLBACK = {0: b"flash contents", 0x5000_0000: b"sram contents"}


def test_the_ram_file_is_read_where_each_region_lies_in_it(ram_file: Path) -> None:
    memory = SharedRamFile(ram_file, "ram", MAP, BytesMemory(FALLBACK))
    assert memory.read(0x4000_0001, 3) == bytes([1, 2, 3])
    assert memory.read(0x1_0000_0000, 4) == b"high"
    memory.close()


def test_other_memory_goes_to_the_fallback(ram_file: Path) -> None:
    fallback = BytesMemory(FALLBACK)
    memory = SharedRamFile(ram_file, "ram", MAP, fallback)
    assert (memory.read(0, 5), memory.read(0x5000_0000, 4)) == (b"flash", b"sram")
    memory.write(0x5000_0000, b"SRAM")
    assert fallback.read(0x5000_0000, 4) == b"SRAM"
    with pytest.raises(MemoryUnreadableError):
        memory.read(0x4000_1FFC, 8)  # half RAM, half device
    memory.close()


def test_writes_reach_the_file(ram_file: Path) -> None:
    memory = SharedRamFile(ram_file, "ram", MAP, BytesMemory({}))
    memory.write(0x1_0000_0FFC, b"last")
    memory.close()
    assert ram_file.read_bytes()[-4:] == b"last"


def test_what_was_never_written_is_not_populated(tmp_path: Path) -> None:
    page, sparse = 0x1000, tmp_path / "sparse"
    ram = Region(0x4000_0000, 0x4010_0000, RegionKind.RAM, "ram")
    high = Region(0x1_0000_0000, 0x1_0010_0000, RegionKind.RAM, "ram", backing_offset=0x10_0000)
    with sparse.open("wb") as file:
        file.truncate(0x20_0000)
        for offset in (0x3_0000, 0x10_0000 - page, 0x10_0000):
            file.seek(offset)
            file.write(b"\1" * page)
    memory = SharedRamFile(sparse, "ram", MemoryMap([high, ram]), BytesMemory({}))
    assert list(memory.populated_ranges()) == [
        (0x4003_0000, 0x4003_1000),
        (0x400F_F000, 0x4010_0000),
        (0x1_0000_0000, 0x1_0000_1000),
    ]
    memory.close()


def test_a_file_that_cannot_be_the_ram_is_refused(tmp_path: Path, ram_file: Path) -> None:
    short = tmp_path / "short"
    short.write_bytes(bytes(0x2000))
    with pytest.raises(EnvironmentProblem, match="8192 bytes, smaller than the machine's RAM"):
        SharedRamFile(short, "ram", MAP, BytesMemory({}))
    with pytest.raises(EnvironmentProblem, match="no RAM block called dimm"):
        SharedRamFile(ram_file, "dimm", MAP, BytesMemory({}))
    with pytest.raises(EnvironmentProblem, match="cannot map guest RAM: No such file"):
        SharedRamFile(tmp_path / "none", "ram", MAP, BytesMemory({}))


def test_bytes_memory_knows_only_what_it_was_given() -> None:
    memory = BytesMemory({0x1000: b"abcd"})
    memory.write(0x1001, b"BC")
    assert memory.read(0x1000, 4) == b"aBCd"
    assert list(memory.populated_ranges()) == [(0x1000, 0x1004)]
    for address, size in ((0xFFF, 1), (0x1004, 1), (0x1002, 4)):
        with pytest.raises(MemoryUnreadableError, match="not part of what was given"):
            memory.read(address, size)
        with pytest.raises(MemoryUnreadableError):
            memory.write(address, bytes(size))


class DropsWrites(BytesMemory):
    """As QEMU's stub does with some writes: says nothing and does nothing."""

    def write(self, address: int, data: bytes) -> None:
        pass


def test_a_dropped_write_is_noticed() -> None:
    write_and_verify(BytesMemory({0: bytes(8)}), 0, b"\1")
    with pytest.raises(TargetError, match="write of 01 to physical 0x0 did not take: it reads back 00"):
        write_and_verify(DropsWrites({0: bytes(8)}), 0, b"\1")
