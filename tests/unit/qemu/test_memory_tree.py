"""QEMU's flat memory tree as QEMU 7.2 printed it (tests/data/qemu)."""

from __future__ import annotations

from pathlib import Path

import pytest

from kexecdbg.errors import TargetError
from kexecdbg.machine.memory_map import MemoryMap, Region, RegionKind
from kexecdbg.qemu.memory_tree import parse_flat_memory_tree

SAMPLE = Path(__file__).parents[2] / "data/qemu/info-mtree-f-7.2.txt"


@pytest.fixture(scope="module")
def virt() -> MemoryMap:
    return parse_flat_memory_tree(SAMPLE.read_text())


def test_every_line_of_the_system_view_is_a_region(virt: MemoryMap) -> None:
    system = SAMPLE.read_text().split("FlatView #2")[1]
    assert len(virt.regions) == sum(line.startswith("  0") for line in system.splitlines()) == 50


@pytest.mark.parametrize(
    ("address", "region"),
    [
        (0x0, Region(0, 0x400_0000, RegionKind.ROM, "virt.flash0")),
        (0x0900_0000, Region(0x0900_0000, 0x0900_1000, RegionKind.DEVICE, "pl011")),
        (0x2_3FFF_FFFF, Region(0x4000_0000, 0x2_4000_0000, RegionKind.RAM, "ram")),
        (
            0x1000_0000,
            Region(0x1000_0000, 0x3EFF_0000, RegionKind.DEVICE, "gpex_mmio_window", backing_offset=0x1000_0000),
        ),
        (0x2_4000_0000, None),
    ],
)
def test_regions(virt: MemoryMap, address: int, region: Region | None) -> None:
    assert virt.find(address) == region


def test_only_the_system_address_space_counts(virt: MemoryMap) -> None:
    """The I/O space of the first view has a region at 0 as well."""
    assert [region.name for region in virt.regions if region.start == 0] == ["virt.flash0"]


@pytest.mark.parametrize(
    ("line", "region"),
    [
        (
            "  0000000100000000-000000017fffffff (prio 0, ram): ram @00000000c0000000 KVM",
            Region(0x1_0000_0000, 0x1_8000_0000, RegionKind.RAM, "ram", 0xC000_0000),
        ),
        (
            "  0000000000000000-000000000000ffff (prio -1, rom): a rom, with blanks",
            Region(0, 0x1_0000, RegionKind.ROM, "a rom, with blanks"),
        ),
        (
            "  0000000000000000-0000000000000fff (prio 0, nv-ram): nvdimm",
            Region(0, 0x1000, RegionKind.RAM, "nvdimm"),
        ),
        (
            "  0000000000000000-0000000000000fff (prio 0, something new): x",
            None,
        ),
    ],
)
def test_other_line_forms(line: str, region: Region | None) -> None:
    text = f'FlatView #0\n AS "memory", root: system\n Root memory region: system\n{line}\n'
    assert parse_flat_memory_tree(text).regions == ((region,) if region else ())


@pytest.mark.parametrize("text", ["", "unknown command: 'info'", 'FlatView #0\n AS "I/O", root: io\n'])
def test_an_answer_that_is_not_qemus(text: str) -> None:
    with pytest.raises(TargetError, match="does not list QEMU's system memory"):
        parse_flat_memory_tree(text)
