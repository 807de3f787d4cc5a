"""M13, M18, M22 to M25: what is wrong in the tables, the evidence, the repair, and sound twins."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from kexecdbg.checks.finding import DescriptorRepair, RegisterRepair, Severity
from kexecdbg.checks.verdict import Judgement
from kexecdbg.lab.device_tree import Node, flattened
from kexecdbg.lab.tables import TableBuilder
from kexecdbg.machine.memory_map import Region, RegionKind
from tests.unit.checks.moments import (
    AF,
    CODE,
    DEVICE_PAGE,
    EL1,
    EXEC,
    MACHINE,
    NARROW,
    PXN,
    RAM,
    ROOT,
    SCTLR,
    TWIN,
    UART,
    UXN,
    VHE,
    Moment,
    repaired,
)

FATAL, HAZARD, NOTE = Severity.FATAL, Severity.HAZARD, Severity.NOTE
DATA = 0x0048_0000_0000_0713
"""Normal Write-Back (AttrIndx 4), Inner Shareable, XN."""
NON_CACHEABLE, WRITE_THROUGH, NORMAL = 3 << 2, 5 << 2, 4 << 2
ATTR_INDX, SHAREABILITY = 7 << 2, 3 << 8
OTHER_VA = 0x2_0000_0000
HOLE = 0x7_0000_0000
"""In the range that the tables can map, but neither RAM nor a device."""

LOWER_EL1 = {**EL1, "TCR_EL1": 0x4_B590_3510}
"""EL1 with EPD1 set: TTBR1 is not walked."""

Adjust = Callable[[TableBuilder], None]


def mapping(va: int, pa: int, attributes: int) -> Adjust:
    return lambda tables: tables.map_page(va, pa, attributes)


def descriptor(va: int, level: int, value: int) -> Adjust:
    return lambda tables: tables.set_descriptor(va, level, value)


def both(*adjusts: Adjust) -> Adjust:
    def adjust(tables: TableBuilder) -> None:
        for one in adjusts:
            one(tables)

    return adjust


def own_tables(attributes: int) -> Adjust:
    """The tables' own memory, mapped where it is."""

    def adjust(tables: TableBuilder) -> None:
        for page in range(ROOT, ROOT + 0x10_000, 0x1000):
            tables.map_page(page, page, attributes)

    return adjust


@dataclass(frozen=True)
class Case:
    """A moment; severity and some of the evidence; the descriptor (by address) or register value after the repair."""

    moment: Moment
    severity: Severity
    evidence: dict[str, int | str | None]
    repaired: int | None = None


def address_of(moment: Moment, va: int, level: int = 3) -> int:
    return moment.tables().descriptor_address(va, level)


WRONG = {
    "M13 on the path": Case(
        Moment(adjust=descriptor(CODE, 0, 0x701)), FATAL, {"level": 0, "descriptor": 0x701, "address": ROOT}
    ),
    "M13 elsewhere": Case(
        Moment(adjust=descriptor(5 << 39, 0, 0x701)),
        HAZARD,
        {"level": 0, "address": ROOT + 40, "va": 5 << 39, "count": 1},
    ),
    "M13 at EL1": Case(
        Moment(registers=EL1, adjust=descriptor(5 << 39, 0, 0x701)), HAZARD, {"level": 0, "address": ROOT + 40}
    ),
    "M18 a table where there is no RAM": Case(
        Moment(adjust=descriptor(OTHER_VA, 1, HOLE | 3), regions=MACHINE),
        HAZARD,
        {"level": 1, "descriptor": HOLE | 3, "va": OTHER_VA, "target": HOLE, "count": 1},
        0,
    ),
    "M18 a table beyond the output size": Case(
        Moment(adjust=descriptor(OTHER_VA, 1, 1 << 46 | 3)), HAZARD, {"level": 1, "target": 1 << 46, "count": 1}, 0
    ),
    "M18 a page beyond the output size": Case(
        Moment(adjust=mapping(OTHER_VA, 1 << 46, DATA)), HAZARD, {"level": 3, "target": 1 << 46, "count": 1}, 0
    ),
    "M18 RES0 bits": Case(
        Moment(adjust=mapping(OTHER_VA, TWIN, DATA | 1 << 49)), HAZARD, {"level": 3, "target": 1 << 49, "count": 1}, 0
    ),
    "M18 a type that level 3 does not have": Case(
        Moment(adjust=descriptor(OTHER_VA, 3, 0x1001)), HAZARD, {"level": 3, "descriptor": 0x1001, "count": 1}, 0
    ),
    "M18 the walk of the code leaves RAM": Case(
        Moment(adjust=descriptor(CODE, 1, HOLE | 3), regions=MACHINE),
        FATAL,
        {"level": 1, "descriptor": HOLE | 3, "target": HOLE + 8 * (CODE >> 21 & 511)},
    ),
    "M18 TTBR points out of RAM": Case(
        Moment(registers={"TTBR0_EL2": HOLE, "TTBR0_EL1": 0}, regions=MACHINE),
        FATAL,
        {"register": "TTBR0_EL2", "value": HOLE, "target": HOLE},
    ),
    "M22 tables mapped Non-cacheable": Case(
        Moment(adjust=own_tables(DATA & ~ATTR_INDX | NON_CACHEABLE)),
        HAZARD,
        {"va": ROOT, "table": ROOT, "register": "TCR_EL2", "IRGN0": 1, "ORGN0": 1, "SH0": 3},
        NARROW & ~0x3F00 | 0x2000,
    ),
    "M22 walks Non-cacheable": Case(
        Moment(adjust=own_tables(DATA), registers={"TCR_EL2": NARROW & ~0xF00}),
        HAZARD,
        {"table": ROOT, "IRGN0": 0, "ORGN0": 0, "SH0": 3},
        NARROW,
    ),
    "M22 walks Non-shareable, EL1": Case(
        Moment(adjust=own_tables(DATA), registers={**EL1, "TCR_EL1": 0x4_B590_0510}),
        HAZARD,
        {"table": ROOT, "register": "TCR_EL1", "IRGN0": 1, "ORGN0": 1, "SH0": 0},
        0x4_B590_3510,
    ),
    "M22 Outer and Inner Shareable": Case(
        Moment(adjust=own_tables(DATA ^ 1 << 8)), NOTE, {"table": ROOT, "SH0": 3}, NARROW & ~0x3000 | 0x2000
    ),
    "M22 tables mapped as Device": Case(
        Moment(adjust=own_tables(DEVICE_PAGE)), HAZARD, {"table": ROOT, "level": 3}, None
    ),
    "M23 one page": Case(
        Moment(adjust=mapping(UART.start, UART.start, DEVICE_PAGE & ~UXN)),
        HAZARD,
        {"va": UART.start, "bit": 54, "name": "XN", "ranges": 1, "level": 3},
        UART.start | DEVICE_PAGE,
    ),
    "M23 PXN clear at EL1": Case(
        Moment(registers=LOWER_EL1, adjust=mapping(UART.start, UART.start, DEVICE_PAGE)),
        HAZARD,
        {"va": UART.start, "bit": 53, "name": "PXN"},
        UART.start | DEVICE_PAGE | PXN,
    ),
    "M23 UXN clear at EL2&0": Case(
        Moment(registers=VHE, adjust=mapping(UART.start, UART.start, DEVICE_PAGE & ~UXN | PXN)),
        NOTE,
        {"va": UART.start, "bit": 54, "name": "UXN"},
    ),
    "M24 a device": Case(
        Moment(adjust=mapping(UART.start, UART.start, DATA), regions=MACHINE),
        HAZARD,
        {"va": UART.start, "pa": UART.start, "end": UART.end, "region": "pl011"},
        0,
    ),
    "M24 a hole": Case(
        Moment(adjust=mapping(OTHER_VA, HOLE, DATA), regions=MACHINE),
        HAZARD,
        {"va": OTHER_VA, "pa": HOLE, "end": HOLE + 0x1000, "region": "hole"},
        0,
    ),
    "M24 the end of RAM inside a block": Case(
        Moment(
            adjust=descriptor(0x1_7FE0_0000, 2, 0x1_7FE0_0000 | DATA & ~2),
            regions=(Region(RAM.start, 0x1_7FF0_0000, RegionKind.RAM, "ram"),),
        ),
        HAZARD,
        {"va": 0x1_7FF0_0000, "pa": 0x1_7FF0_0000, "end": 0x1_8000_0000, "level": 2},
    ),
    "M25 Device and Normal": Case(
        Moment(adjust=both(mapping(OTHER_VA, TWIN, DATA), mapping(OTHER_VA + (5 << 39), TWIN, DEVICE_PAGE))),
        HAZARD,
        {"pa": TWIN, "end": TWIN + 0x1000, "va": OTHER_VA, "other_va": OTHER_VA + (5 << 39)},
    ),
    "M25 cacheable and not": Case(
        Moment(adjust=mapping(OTHER_VA, CODE, DATA & ~ATTR_INDX | NON_CACHEABLE)),
        HAZARD,
        {"pa": CODE, "end": CODE + 0x1000, "va": CODE, "other_va": OTHER_VA},
    ),
    "M25 a page inside a block": Case(
        Moment(
            adjust=both(
                descriptor(TWIN, 2, TWIN & ~0x1F_FFFF | DATA & ~2),
                mapping(OTHER_VA, TWIN + 0x5000, DATA & ~ATTR_INDX | WRITE_THROUGH),
            )
        ),
        HAZARD,
        {"pa": TWIN + 0x5000, "end": TWIN + 0x6000, "va": TWIN + 0x5000, "level": 2, "other_va": OTHER_VA},
    ),
    "M25 shareable and not": Case(
        Moment(adjust=mapping(OTHER_VA, CODE, DATA & ~SHAREABILITY)), HAZARD, {"pa": CODE, "other_va": OTHER_VA}
    ),
    "M25 nGnRE and nGnRnE": Case(
        Moment(
            adjust=both(
                mapping(UART.start, UART.start, DEVICE_PAGE), mapping(OTHER_VA, UART.start, DEVICE_PAGE & ~ATTR_INDX)
            )
        ),
        NOTE,
        {"pa": UART.start, "va": UART.start, "other_va": OTHER_VA},
    ),
}

SOUND = {
    "M13: blocks where they are legal": Moment(adjust=descriptor(TWIN, 2, TWIN & ~0x1F_FFFF | DATA & ~2)),
    "M18: invalid descriptors may hold anything": Moment(adjust=descriptor(OTHER_VA, 3, ~1 & (1 << 64) - 1)),
    "M18: software bits": Moment(adjust=mapping(OTHER_VA, TWIN, DATA | 0xF << 55)),
    "M18: nT": Moment(adjust=descriptor(TWIN, 2, TWIN & ~0x1F_FFFF | DATA & ~2 | 1 << 16)),
    "M22: mapped as walks are": Moment(adjust=own_tables(DATA)),
    "M22: neither cacheable, C = 0": Moment(
        adjust=own_tables(DATA & ~ATTR_INDX | NON_CACHEABLE), registers={"X14": SCTLR & ~4}
    ),
    "M22: mapped twice, both alike": Moment(adjust=both(own_tables(DATA), mapping(OTHER_VA, ROOT, DATA))),
    "M23: execute-never": Moment(adjust=mapping(UART.start, UART.start, DEVICE_PAGE), regions=MACHINE),
    "M23: execute-never by the tables above": Moment(
        code=EXEC,
        adjust=both(
            mapping(UART.start, UART.start, DEVICE_PAGE & ~UXN),
            lambda tables: tables.change_descriptor(UART.start, 1, set_bits=1 << 60),
        ),
    ),
    "M23: at EL1, for both levels": Moment(
        registers=EL1, adjust=mapping(UART.start, UART.start, DEVICE_PAGE | PXN), regions=MACHINE
    ),
    "M23: RAM as Device memory": Moment(adjust=mapping(TWIN, TWIN, DEVICE_PAGE & ~UXN), regions=MACHINE),
    "M24: Device memory where nothing is": Moment(adjust=mapping(OTHER_VA, HOLE, DEVICE_PAGE), regions=MACHINE),
    "M24: no Access flag, no access": Moment(adjust=mapping(OTHER_VA, HOLE, DATA & ~AF), regions=MACHINE),
    "M24: without a memory map": Moment(adjust=mapping(OTHER_VA, HOLE, DATA)),
    "M25: the same twice, other rights": Moment(adjust=mapping(OTHER_VA, CODE, DATA)),
    "M25: hints do not matter": Moment(
        adjust=mapping(OTHER_VA, CODE, DATA & ~ATTR_INDX | 6 << 2), registers={"MAIR_EL2": 0x77_BBFF_440C_0400}
    ),
    "M25: neighbours": Moment(adjust=mapping(CODE + 0x1000, CODE + 0x1000, DEVICE_PAGE)),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_in_the_tables_is_reported_with_its_evidence(name: str) -> None:
    case, rule = WRONG[name], name[:3]
    (finding,) = case.moment.findings(rule)
    assert finding.severity is case.severity
    assert case.evidence.items() <= finding.evidence.items()
    va, level = finding.evidence.get("va"), finding.evidence.get("level")
    if isinstance(va, int) and isinstance(level, int):
        assert finding.evidence["address"] == address_of(case.moment, va, level)
        assert finding.evidence["descriptor"] == case.moment.tables().descriptor(va, level)
    assert finding.text.endswith(".")
    others = {f.id for f in case.moment.verdict().findings if f.severity is not NOTE and not f.is_consequence} - {rule}
    assert others == set()


@pytest.mark.parametrize("name", WRONG)
def test_the_repair_is_the_one_write_that_cures_or_there_is_none(name: str) -> None:
    case, rule = WRONG[name], name[:3]
    (finding,) = case.moment.findings(rule)
    if case.repaired is None:
        assert finding.repair is None
        return
    assert finding.repair is not None
    assert finding.repair.new == case.repaired
    if isinstance(finding.repair, DescriptorRepair):
        assert finding.repair.address == finding.evidence["address"]
        assert finding.repair.old == finding.evidence["descriptor"]
    else:
        assert isinstance(finding.repair, RegisterRepair)
        assert finding.repair.register == finding.evidence["register"]
    verdict = repaired(case.moment.situation(), [finding.repair])
    assert [f.id for f in verdict.findings if f.id == rule and f.severity is not NOTE] == []
    assert verdict.judgement is Judgement.SOUND


@pytest.mark.parametrize("name", SOUND)
def test_sound_tables_are_left_alone(name: str) -> None:
    assert SOUND[name].verdict().findings == ()


def test_m18_a_table_page_that_was_not_cleared() -> None:
    """Garbage in a level 3 table: one finding, with the number of entries that cannot be right."""
    garbage = [((0x9E37_79B9_7F4A_7C15 * number) & (1 << 64) - 1) | 3 for number in range(1, 101)]

    def fill(tables: TableBuilder) -> None:
        for number, value in enumerate(garbage):
            tables.set_descriptor(OTHER_VA + 0x1000 * number, 3, value)

    moment = Moment(adjust=fill, registers={"MAIR_EL2": 0xFFFF_FFFF_FFFF_FFFF})
    (finding,) = moment.findings("M18")
    wrong = sum(bool(value & (3 << 48) or value >> 44 & 0xF) for value in garbage)
    count = finding.evidence["count"]
    assert isinstance(count, int) and count >= wrong > 50
    assert (finding.severity, finding.repair) == (HAZARD, None)
    assert "in 1 table:" in finding.text


def test_m18_tables_that_were_not_given_are_only_noted() -> None:
    moment = Moment(adjust=descriptor(OTHER_VA, 1, HOLE | 3))
    (finding,) = moment.verdict().findings
    assert (finding.id, finding.severity) == ("M18", NOTE)
    assert finding.evidence["target"] == HOLE


def test_a_wrong_register_is_not_blamed_on_the_tables() -> None:
    """Tables walked with the wrong granule look like garbage: that is M12's, and nobody else's."""
    verdict = Moment(adjust=own_tables(DATA), registers={"TCR_EL2": NARROW | 1 << 14}, regions=MACHINE).verdict()
    assert [f.id for f in verdict.findings if not f.is_consequence] == ["M12"]


def test_m23_several_ranges_are_one_finding_without_a_repair() -> None:
    pages = [mapping(UART.start + 0x2000 * n, UART.start + 0x2000 * n, DEVICE_PAGE & ~UXN) for n in range(3)]
    (finding,) = Moment(adjust=both(*pages)).findings("M23")
    assert (finding.evidence["ranges"], finding.repair) == (3, None)


def test_m24_reserved_memory_of_the_device_tree() -> None:
    """Mapped Normal although the device tree says no-map, with a memory map and without."""
    reserved = TWIN
    mapped = mapping(reserved, reserved, DATA)
    for regions in ((), MACHINE):
        moment = Moment(adjust=mapped, regions=regions, registers={"X0": DTB}, extra={DTB: device_tree(reserved)})
        (finding,) = moment.verdict().findings
        assert (finding.id, finding.severity) == ("M24", HAZARD)
        assert (finding.evidence["pa"], finding.evidence["end"]) == (reserved, reserved + 0x1000)
        assert finding.evidence["region"] == "secret@0"
        repair = finding.repair
        assert isinstance(repair, DescriptorRepair) and repair.new == 0
    allowed = Moment(adjust=mapped, registers={"X0": DTB}, extra={DTB: device_tree(reserved, no_map=False)})
    assert allowed.verdict().findings == ()


def test_m24_a_broken_device_tree_is_no_device_tree() -> None:
    blob = device_tree(TWIN)
    for broken in (blob[:50] + bytes(len(blob) - 50), b"\0" + blob[1:], blob[: len(blob) // 2]):
        moment = Moment(adjust=mapping(TWIN, TWIN, DATA), registers={"X0": DTB}, extra={DTB: broken})
        assert moment.verdict().findings == ()


DTB = 0x1_4100_0000


def device_tree(reserved: int, no_map: bool = True) -> bytes:
    """A flattened device tree with one page of reserved memory."""
    cells = {"#address-cells": (2,), "#size-cells": (2,)}
    no_map_property: dict[str, tuple[int, ...]] = {"no-map": ()} if no_map else {}
    page = Node("secret@0", {"reg": (reserved >> 32, reserved & 0xFFFF_FFFF, 0, 0x1000), **no_map_property})
    return flattened(Node("", cells, (Node("reserved-memory", cells, (page,)),)))
