"""M07, M09, M17, M27, M30, M31: what is wrong with a register, the evidence, the repair, and sound twins."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from kexecdbg.arm64.geometry import GRANULE_4K
from kexecdbg.checks.finding import DescriptorRepair, Finding, RegisterRepair, Severity
from kexecdbg.checks.judging import judge
from kexecdbg.checks.situation import Situation
from kexecdbg.checks.verdict import Judgement
from kexecdbg.lab.tables import TableBuilder, table_format
from kexecdbg.machine.state import CpuState
from tests.unit.checks.moments import (
    CODE,
    EL1,
    EL3,
    EXEC,
    MAX_CPU,
    NARROW,
    ROOT,
    SCTLR,
    SITE,
    UXN,
    VECTORS,
    VHE,
    WIDE,
    Moment,
    repaired,
)

ONES = 0xFFFF_FFFF << 32
DS_NARROW, DS_WIDE = 1 << 32, 1 << 59
FATAL, HAZARD, NOTE = Severity.FATAL, Severity.HAZARD, Severity.NOTE
MSR_SCTLR_EL1_X14, MSR_SCTLR_EL3_X14, MSR_SCTLR_EL12_X14 = 0xD518_100E, 0xD51E_100E, 0xD51D_100E
MSR_TTBR0_EL2_X3, MSR_TCR_EL2_X2 = 0xD51C_2003, 0xD51C_2042
LPA2_48BIT = table_format(GRANULE_4K, 48, wide=True)
LPA2_52BIT = table_format(GRANULE_4K, 52, wide=True)
NO_SHAREABILITY = EXEC & ~(3 << 8)
PS = 7 << 16


def ps(value: int) -> int:
    """TCR_EL2 with another PS."""
    return NARROW & ~PS | value << 16


def ips(value: int) -> dict[str, int]:
    """TCR_EL2 of VHE with another IPS."""
    return {**VHE, "TCR_EL2": WIDE & ~(7 << 32) | value << 32}


@dataclass(frozen=True)
class Case:
    """A moment, and what its rule must say: severity, evidence, and the register's value after the repair."""

    moment: Moment
    severity: Severity
    evidence: dict[str, int | str | None]
    repaired: int | None = None
    others: frozenset[str] = field(default_factory=frozenset)


WRONG = {
    "M07 the bits have no meaning on this CPU": Case(
        Moment(registers={"TCR_EL2": NARROW | ONES}),
        HAZARD,
        {"register": "TCR_EL2", "field": "bits 63:32", "value": NARROW | ONES},
        NARROW,
    ),
    "M07 DS counts": Case(
        Moment(registers={"TCR_EL2": NARROW | ONES, **MAX_CPU}),
        FATAL,
        {"register": "TCR_EL2", "field": "bits 63:32", "value": NARROW | ONES},
        NARROW,
    ),
    "M07 IPS 7 at EL2&0": Case(
        Moment(registers={**VHE, **MAX_CPU, "TCR_EL2": 0xB510_3510 | ONES}),
        FATAL,
        {"register": "TCR_EL2", "field": "bits 63:32", "value": 0xB510_3510 | ONES},
        0x5_B510_3510,
    ),
    "M07 at EL3": Case(
        Moment(registers={**EL3, "TCR_EL3": NARROW | ONES}),
        HAZARD,
        {"register": "TCR_EL3", "field": "bits 63:32", "value": NARROW | ONES},
        NARROW,
    ),
    "M09 more than PARange": Case(
        Moment(registers={"TCR_EL2": ps(5)}),
        HAZARD,
        {"register": "TCR_EL2", "field": "PS", "value": 5, "PARange": 4},
        ps(4),
    ),
    "M09 52 bits without their descriptors": Case(
        Moment(registers={"TCR_EL2": ps(6), **MAX_CPU}),
        HAZARD,
        {"register": "TCR_EL2", "field": "PS", "value": 6, "PARange": 6},
        ps(5),
    ),
    "M09 reserved": Case(
        Moment(registers={"TCR_EL2": ps(7), **MAX_CPU}),
        HAZARD,
        {"register": "TCR_EL2", "field": "PS", "value": 7, "PARange": 6},
        ps(5),
    ),
    "M09 IPS at EL2&0": Case(
        Moment(registers=ips(5)),
        HAZARD,
        {"register": "TCR_EL2", "field": "IPS", "value": 5, "PARange": 4},
        WIDE,
    ),
    "M09 52 bits, ID register unknown": Case(
        Moment(registers={"TCR_EL2": ps(6), "ID_AA64MMFR0_EL1": None}),
        HAZARD,
        {"register": "TCR_EL2", "field": "PS", "value": 6, "PARange": None},
        ps(5),
    ),
    "M17 low bits set": Case(
        Moment(registers={"TTBR0_EL2": ROOT | 0x840}),
        HAZARD,
        {"register": "TTBR0_EL2", "field": "BADDR", "value": ROOT | 0x840, "address": ROOT, "alignment": 0x1000},
        ROOT,
    ),
    "M17 at EL1, TTBR1": Case(
        Moment(registers={**EL1, "TTBR1_EL1": ROOT | 0x40}),
        HAZARD,
        {"register": "TTBR1_EL1", "field": "BADDR", "value": ROOT | 0x40, "address": ROOT, "alignment": 0x1000},
        ROOT,
    ),
    "M17 CnP without FEAT_TTCNP": Case(
        Moment(registers={"TTBR0_EL2": ROOT | 1}),
        HAZARD,
        {"register": "TTBR0_EL2", "field": "CnP", "bit": 0, "value": ROOT | 1},
        ROOT,
    ),
    "M17 an ASID at EL2": Case(
        Moment(registers={"TTBR0_EL2": ROOT | 7 << 48}),
        HAZARD,
        {"register": "TTBR0_EL2", "field": "bits 63:48", "value": ROOT | 7 << 48},
        ROOT,
    ),
    "M27 TTBR0 of EL1": Case(
        Moment(registers={"TTBR0_EL2": 0, "TTBR0_EL1": ROOT}, extra={0: bytes(4096)}),
        FATAL,
        {"register": "TTBR0_EL2", "value": 0, "other": "TTBR0_EL1", "other_value": ROOT, "el": 2},
        ROOT,
    ),
    "M27 MAIR of EL1": Case(
        Moment(registers={"MAIR_EL2": 0}),
        HAZARD,
        {
            "register": "MAIR_EL2",
            "value": 0,
            "other": "MAIR_EL1",
            "other_value": 0xBBFF_440C_0400,
            "el": 2,
        },
        0xBBFF_440C_0400,
        frozenset({"M32"}),
    ),
    "M27 VBAR of EL1": Case(
        Moment(registers={"VBAR_EL2": 0}),
        HAZARD,
        {"register": "VBAR_EL2", "value": 0, "other": "VBAR_EL1", "other_value": VECTORS, "el": 2},
        VECTORS,
        frozenset({"M05"}),
    ),
    "M31 DS set, tables without": Case(
        Moment(registers={"TCR_EL2": NARROW | DS_NARROW, **MAX_CPU}),
        FATAL,
        {"register": "TCR_EL2", "field": "DS", "bit": 32, "value": 1},
        NARROW,
    ),
    "M31 DS set at EL2&0, 52 bits": Case(
        Moment(registers={**VHE, "TCR_EL2": WIDE | 6 << 32 | DS_WIDE, **MAX_CPU}),
        FATAL,
        {"register": "TCR_EL2", "field": "DS", "bit": 59, "value": 1},
        WIDE & ~(7 << 32) | 5 << 32,
    ),
    "M31 DS clear, tables with": Case(
        Moment(
            code=NO_SHAREABILITY,
            vectors=NO_SHAREABILITY,
            table=LPA2_52BIT,
            registers={"TCR_EL2": ps(5) - 4, **MAX_CPU},
        ),
        FATAL,
        {"register": "TCR_EL2", "field": "DS", "bit": 32, "value": 0},
        ps(5) - 4 | DS_NARROW,
    ),
    "M31 level -1 on a CPU that has none": Case(
        Moment(registers={"TCR_EL2": NARROW - 2 | DS_NARROW}, table=LPA2_52BIT),
        FATAL,
        {"register": "TCR_EL2", "field": "T0SZ", "value": 14, "bit": 32},
        None,
    ),
    "M31 DS without FEAT_LPA2": Case(
        Moment(registers={"TCR_EL2": NARROW | DS_NARROW}),
        HAZARD,
        {"register": "TCR_EL2", "field": "DS", "bit": 32, "value": 1},
        NARROW,
    ),
}

SOUND = {
    "M07: bit 31 alone": Moment(registers={"TCR_EL2": NARROW}),
    "M07: TBI and HPD at EL2&0": Moment(registers={**VHE, "TCR_EL2": WIDE | 3 << 37 | 3 << 41}),
    "M09: 52 bits with DS": Moment(
        code=NO_SHAREABILITY,
        vectors=NO_SHAREABILITY,
        table=LPA2_48BIT,
        registers={"TCR_EL2": ps(6) | DS_NARROW, **MAX_CPU},
    ),
    "M09: less than PARange": Moment(registers={"TCR_EL2": ps(2)}),
    "M09: 48 bits, ID register unknown": Moment(registers={"TCR_EL2": ps(5), "ID_AA64MMFR0_EL1": None}),
    "M17: CnP with FEAT_TTCNP": Moment(registers={"TTBR0_EL2": ROOT | 1, "ID_AA64MMFR2_EL1": 1}),
    "M17: an ASID at EL1": Moment(registers={**EL1, "TTBR0_EL1": ROOT | 7 << 48}),
    "M17: an ASID at EL2&0": Moment(registers={**VHE, "TTBR0_EL2": ROOT | 7 << 48}),
    "M17: TTBR1 when it is not walked": Moment(
        registers={**EL1, "TTBR1_EL1": ROOT | 0x40, "TCR_EL1": 0x4_B510_3510 | 1 << 23}
    ),
    "M27: nothing in the other level's registers": Moment(registers={"TTBR0_EL1": 0, "MAIR_EL1": 0}),
    "M30: off before": Moment(),
    "M31: DS and its tables": Moment(
        code=NO_SHAREABILITY,
        vectors=NO_SHAREABILITY,
        table=LPA2_52BIT,
        registers={"TCR_EL2": ps(6) - 4 | DS_NARROW, **MAX_CPU},
    ),
    "at EL3": Moment(registers=EL3),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_register_is_reported_with_its_evidence(name: str) -> None:
    case, rule = WRONG[name], name[:3]
    (finding,) = case.moment.findings(rule)
    assert finding.severity is case.severity
    assert finding.evidence == case.evidence
    assert finding.text.endswith(".")
    others = {f.id for f in case.moment.verdict().findings if f.severity is not NOTE and not f.is_consequence}
    assert others - {rule} == case.others


@pytest.mark.parametrize("name", [name for name, case in WRONG.items() if case.repaired is not None])
def test_the_repair_leaves_nothing_to_report(name: str) -> None:
    case, rule = WRONG[name], name[:3]
    (finding,) = case.moment.findings(rule)
    assert isinstance(finding.repair, RegisterRepair)
    assert (finding.repair.register, finding.repair.new) == (finding.evidence["register"], case.repaired)
    verdict = repaired(case.moment.situation(), [finding.repair])
    assert verdict.findings == ()
    assert verdict.judgement is Judgement.SOUND


@pytest.mark.parametrize("name", SOUND)
def test_a_sound_register_is_left_alone(name: str) -> None:
    assert SOUND[name].verdict().findings == ()


def test_m17_the_tables_are_where_the_cpu_does_not_look() -> None:
    def move(tables: TableBuilder) -> None:
        tables.set_descriptor(CODE, 0, 0)

    moment = Moment(adjust=move)
    level1 = moment.tables().pages()
    unaligned = ROOT + 0x8_0800
    original = Moment().tables().pages()[ROOT]
    moment = Moment(adjust=move, registers={"TTBR0_EL2": unaligned}, extra={ROOT + 0x8_0000: bytes(0x800) + original})
    assert level1[ROOT] == bytes(4096)
    (finding,) = moment.findings("M17")
    assert (finding.severity, finding.repair) == (FATAL, None)
    assert finding.evidence == {
        "register": "TTBR0_EL2",
        "field": "BADDR",
        "value": unaligned,
        "address": unaligned & ~0xFFF,
        "alignment": 0x1000,
    }
    assert moment.findings("M11") == []


UNDEFINED = {
    "EL2 register at EL1": (Moment(registers=EL1, instructions={SITE: 0xD51C_100E}), "SCTLR_EL2", 1),
    "EL3 register at EL2": (Moment(instructions={SITE: MSR_SCTLR_EL3_X14}), "SCTLR_EL3", 2),
    "EL12 name without E2H": (Moment(instructions={SITE: MSR_SCTLR_EL12_X14}), "SCTLR_EL12", 2),
}


@pytest.mark.parametrize("name", UNDEFINED)
def test_m27_a_write_that_is_undefined(name: str) -> None:
    moment, register, el = UNDEFINED[name]
    (finding,) = moment.findings("M27")
    assert (finding.severity, finding.repair) == (FATAL, None)
    assert finding.evidence == {"register": register, "el": el, "intended": f"SCTLR_EL{el}"}


def test_m27_the_mmu_of_another_level() -> None:
    moment = Moment(instructions={SITE: MSR_SCTLR_EL1_X14})
    (finding,) = moment.verdict().findings
    assert (finding.id, finding.severity, finding.repair) == ("M27", HAZARD, None)
    assert finding.evidence == {"register": "SCTLR_EL1", "field": "M", "el": 2, "intended": "SCTLR_EL2"}


def test_m27_el12_reaches_the_other_level_with_e2h() -> None:
    moment = Moment(registers=VHE, instructions={SITE: MSR_SCTLR_EL12_X14})
    assert moment.findings("M27")[0].evidence["register"] == "SCTLR_EL1"
    assert Moment(registers=VHE, instructions={SITE: MSR_SCTLR_EL1_X14}).findings("M27") == []


def test_m27_a_hypervisor_that_prepares_a_guest_is_only_noted() -> None:
    moment = Moment(instructions={SITE: MSR_SCTLR_EL1_X14}, registers={"SCTLR_EL2": SCTLR})
    assert [finding.severity for finding in moment.findings("M27")] == [NOTE]


def test_m30_only_other_bits_change() -> None:
    (finding,) = Moment(registers={"SCTLR_EL2": SCTLR | 1 << 19 ^ 1 << 19}).verdict().findings
    assert (finding.id, finding.severity) == ("M30", NOTE)
    assert finding.evidence == {"register": "SCTLR_EL2", "field": "M", "value": 1, "TTBR0_EL2": ROOT}


def test_m30_the_set_up_was_done_live() -> None:
    words = {SITE - 12: MSR_TCR_EL2_X2, SITE - 8: MSR_TTBR0_EL2_X3}
    (finding,) = Moment(registers={"SCTLR_EL2": SCTLR}, instructions=words).findings("M30")
    assert finding.severity is HAZARD
    assert finding.evidence["instruction"] == SITE - 12
    assert "TCR_EL2 and TTBR0_EL2" in finding.text
    assert Moment(instructions=words).findings("M30") == []


def test_m30_an_assumed_switch_has_no_before() -> None:
    moment = Moment()
    state = CpuState(moment.values()).with_values({"SCTLR_EL2": SCTLR, "PC": CODE})
    situation = Situation(state, state, moment.memory(), CODE, CODE)
    assert [finding for finding in judge(situation).findings if finding.id == "M30"] == []


def test_m32_and_its_repairs() -> None:
    """An index that leads to Device memory: another index; no better one in MAIR: another byte."""
    moment = Moment(code=EXEC & ~(7 << 2))
    (finding,) = moment.findings("M32")
    address = moment.tables().descriptor_address(CODE)
    assert finding.severity is HAZARD
    assert finding.evidence == {
        "address": address,
        "level": 3,
        "descriptor": CODE | EXEC & ~(7 << 2),
        "register": "MAIR_EL2",
        "field": "Attr0",
        "value": 0,
    }
    assert finding.repair == DescriptorRepair(
        address, CODE | EXEC & ~(7 << 2), CODE | EXEC, "sets AttrIndx to 4, Normal Write-Back"
    )
    assert repaired(moment.situation(), [finding.repair]).findings == ()
    assert mair_repair(Moment(registers={"MAIR_EL2": 0x4400})) == 0xFF << 32 | 0x4400


def mair_repair(moment: Moment) -> int:
    codes: list[Finding] = moment.findings("M32")
    assert isinstance(codes[0].repair, RegisterRepair)
    return codes[0].repair.new


def test_m32_a_reserved_byte_and_the_orders_of_linux() -> None:
    (finding, _) = Moment(registers={"MAIR_EL2": 0xBB02_440C_0400}).findings("M32")
    assert "reserved memory type" in finding.text
    (finding, _) = Moment(registers={"MAIR_EL2": 0x04_00_44_FF_FF}).findings("M32")
    assert "MT_NORMAL in Linux 5.3, but MT_DEVICE_nGnRE in 6.1" in finding.text
    assert Moment(code=EXEC | UXN, registers=EL1).findings("M32") == []
