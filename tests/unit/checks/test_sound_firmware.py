"""Tables as kernels, hypervisors and firmware build them: sound, so that nothing is fatal and nothing a hazard."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from kexecdbg.checks.finding import Severity
from kexecdbg.checks.verdict import Judgement
from kexecdbg.lab.tables import TableBuilder
from kexecdbg.machine.memory_map import Region, RegionKind
from tests.unit.checks.moments import CODE, EL1, EL3, NARROW, RAM, ROOT, UXN, VECTORS, VHE, Moment

VIRT = (
    Region(0x0000_0000, 0x0800_0000, RegionKind.ROM, "virt.flash0"),
    Region(0x0800_0000, 0x0801_0000, RegionKind.DEVICE, "gic_dist"),
    Region(0x0900_0000, 0x0900_1000, RegionKind.DEVICE, "pl011"),
    RAM,
)
"""QEMU's virt machine, in excerpts, with RAM where the moments have it."""
GIB, MIB_2 = 1 << 30, 2 << 20
AF, INNER, OUTER, AP1, AP2, NG, PXN = 1 << 10, 3 << 8, 2 << 8, 1 << 6, 1 << 7, 1 << 11, 1 << 53


def index(number: int) -> int:
    """AttrIndx."""
    return number << 2


def block(level: int, address: int, attributes: int) -> Callable[[TableBuilder], None]:
    return lambda tables: tables.map_leaf(address, address, attributes, level)


def all_of(*adjusts: Callable[[TableBuilder], None]) -> Callable[[TableBuilder], None]:
    def adjust(tables: TableBuilder) -> None:
        for one in adjusts:
            one(tables)

    return adjust


def mapped_by(
    registers: dict[str, int | None], *adjusts: Callable[[TableBuilder], None], table_bits: int = 0
) -> Moment:
    """A moment whose tables are only what ``adjusts`` make."""
    return Moment(
        code=None, vectors=None, adjust=all_of(*adjusts), registers=registers, regions=VIRT, table_bits=table_bits
    )


def linux_idmap(tables: TableBuilder) -> None:
    """Linux 6.1 create_idmap(): the kernel image, 2 MiB blocks, read-only and executable, the tables writable."""
    for address in range(CODE & -MIB_2, VECTORS + MIB_2, MIB_2):
        tables.map_leaf(address, address, index(0) | AF | INNER | AP2 | UXN, 2)
    tables.map_leaf(ROOT & -MIB_2, ROOT & -MIB_2, index(0) | AF | INNER | UXN, 2)


def kvm_hyp(tables: TableBuilder) -> None:
    """KVM's hyp_pgtable: text read-only, the rest execute-never, devices execute-never; AP[1] as RES1."""
    for page in (CODE, VECTORS):
        tables.map_page(page, page, index(0) | AF | INNER | AP2 | AP1)
    for page in range(ROOT, ROOT + 0x8000, 0x1000):
        tables.map_page(page, page, index(0) | AF | INNER | AP1 | UXN)
    tables.map_page(0x0800_0000, 0x0800_0000, index(4) | AF | AP1 | UXN)


LINUX_MAIR = 0x04_00_44_FF_FF
U_BOOT_MAIR = 0xFF_44_0C_04_00
EDK2_MAIR = 0xFF_BB_44_00
XEN_MAIR = 0xFF00_0000_44EE_0400

SOUND = {
    "Linux, EL1, identity map": mapped_by({**EL1, "MAIR_EL1": LINUX_MAIR, "TCR_EL1": 0x4_B590_3510}, linux_idmap),
    "Linux, EL1, with UXNTable": mapped_by(
        {**EL1, "MAIR_EL1": LINUX_MAIR, "TCR_EL1": 0x4_B590_3510}, linux_idmap, table_bits=1 << 60
    ),
    "Linux, VHE": mapped_by({**VHE, "MAIR_EL2": LINUX_MAIR, "TCR_EL2": 0x4_B590_3510}, linux_idmap),
    "KVM's tables, EL2": mapped_by({"MAIR_EL2": LINUX_MAIR}, kvm_hyp),
    "U-Boot, EL2": mapped_by(
        {"MAIR_EL2": U_BOOT_MAIR},
        block(1, 0, index(0) | AF | PXN | UXN),
        block(1, RAM.start, index(4) | AF | INNER),
    ),
    "U-Boot, EL2, RAM Outer Shareable": mapped_by(
        {"MAIR_EL2": U_BOOT_MAIR},
        block(1, 0, index(0) | AF | PXN | UXN),
        block(1, RAM.start, index(4) | AF | OUTER),
    ),
    "U-Boot, EL3": mapped_by(
        {**EL3, "MAIR_EL3": U_BOOT_MAIR},
        block(1, 0, index(0) | AF | PXN | UXN),
        block(1, RAM.start, index(4) | AF | INNER),
    ),
    "EDK2, EL1": mapped_by(
        {**EL1, "MAIR_EL1": EDK2_MAIR, "TCR_EL1": 0x4_0080_3510},
        block(2, 0x0800_0000, index(0) | AF | PXN | UXN),
        block(2, 0x0900_0000, index(0) | AF | PXN | UXN),
        block(1, RAM.start, index(3) | AF | INNER),
    ),
    "EDK2, EL2": mapped_by(
        {"MAIR_EL2": EDK2_MAIR},
        block(2, 0x0800_0000, index(0) | AF | UXN),
        block(2, 0x0900_0000, index(0) | AF | UXN),
        block(1, RAM.start, index(3) | AF | INNER),
    ),
    "Xen, EL2, boot tables": mapped_by(
        {"MAIR_EL2": XEN_MAIR, "TCR_EL2": NARROW},
        *(
            block(2, address, index(7) | AF | INNER | AP1 | NG)
            for address in range(RAM.start, RAM.start + 4 * MIB_2, MIB_2)
        ),
    ),
}


@pytest.mark.parametrize("name", SOUND)
def test_sound_tables_are_sound(name: str) -> None:
    verdict = SOUND[name].verdict()
    assert verdict.judgement is Judgement.SOUND
    assert [finding for finding in verdict.findings if finding.severity is not Severity.NOTE] == []
