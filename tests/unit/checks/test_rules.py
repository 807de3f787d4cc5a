"""Every rule of the catalogue: a machine that it must report, and one nearly the same that it must leave alone."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from kexecdbg.checks.finding import Finding, Severity
from kexecdbg.checks.rules import all_rules
from kexecdbg.checks.verdict import Judgement
from kexecdbg.lab.tables import TableBuilder
from tests.unit.checks.moments import (
    AF,
    AP1,
    AP2,
    CODE,
    EE,
    EL1,
    EXEC,
    NARROW,
    OTHER,
    PXN,
    PXN_TABLE,
    SCTLR,
    TWIN,
    UXN,
    VHE,
    WIDE,
    WXN,
    XN_TABLE,
    ZEROS,
    Moment,
    repaired,
)


def leaf_of_type_01(tables: TableBuilder) -> None:
    tables.set_descriptor(CODE, 3, tables.descriptor(CODE) & ~0b10)


def two_mib_block(tables: TableBuilder) -> None:
    tables.set_descriptor(CODE, 2, (CODE & ~0x1F_FFFF | EXEC) & ~0b10)


def pointer_as_block(tables: TableBuilder) -> None:
    tables.set_descriptor(CODE, 1, tables.descriptor(CODE, 1) & ~0b10)


def block_without_access_flag(tables: TableBuilder) -> None:
    tables.set_descriptor(CODE, 2, (CODE & ~0x1F_FFFF | EXEC) & ~(0b10 | AF))


def unmapped_at_level_0(tables: TableBuilder) -> None:
    tables.set_descriptor(CODE, 0, 0)


@dataclass(frozen=True)
class Case:
    """A moment and the fatal findings it must have, consequences left out."""

    moment: Moment
    ids: tuple[str, ...]


WRONG = {
    "M01 bit 54 at EL2": Case(Moment(code=EXEC | UXN), ("M01",)),
    "M01 bit 53 at EL1": Case(Moment(code=EXEC | PXN, registers=EL1), ("M01",)),
    "M01 bit 53 at EL2&0": Case(Moment(code=EXEC | PXN, registers=VHE), ("M01",)),
    "M01 big-endian tables": Case(Moment(code=EXEC | UXN, registers={"X14": SCTLR | EE}, big_endian=True), ("M01",)),
    "M02 bit 60 at EL2": Case(Moment(table_bits=XN_TABLE), ("M02", "M02", "M02", "M05")),
    "M02 bit 59 at EL1": Case(Moment(table_bits=PXN_TABLE, registers=EL1), ("M02", "M02", "M02", "M05")),
    "M01 and M02": Case(Moment(code=EXEC | UXN, table_bits=XN_TABLE), ("M01", "M02", "M02", "M02", "M05")),
    "M03 writable at EL0, EL1": Case(Moment(code=EXEC | AP1, registers=EL1), ("M03",)),
    "M03 writable at EL0, EL2&0": Case(Moment(code=EXEC | AP1, registers=VHE), ("M03",)),
    "M04 writable under WXN": Case(Moment(registers={"X14": SCTLR | WXN}), ("M04", "M05")),
    "M05 vectors not mapped": Case(Moment(code=EXEC | UXN, vectors=None), ("M01", "M05")),
    "M05 vectors execute-never": Case(Moment(code=EXEC | UXN, vectors=EXEC | UXN), ("M01", "M05")),
    "M05 after an undefined instruction": Case(Moment(to=ZEROS, vectors=None), ("M16", "M05")),
    "M06 narrow value under E2H": Case(Moment(registers={**VHE, "TCR_EL2": NARROW}), ("M06", "M08", "M05")),
    "M06 wide value without E2H": Case(Moment(registers={"TCR_EL2": WIDE}), ("M06", "M08", "M05")),
    "M08 32 bits, tables above": Case(Moment(registers={"TCR_EL2": NARROW & ~(7 << 16)}), ("M08", "M05")),
    "M10 T0SZ 25": Case(Moment(registers={"TCR_EL2": NARROW + 9}), ("M10", "M05")),
    "M10 T0SZ 0": Case(Moment(registers={"TCR_EL2": NARROW - 16}), ("M10", "M05")),
    "M11 not mapped": Case(Moment(code=None), ("M11",)),
    "M11 not mapped from the root": Case(Moment(adjust=unmapped_at_level_0), ("M11", "M05")),
    "M12 64 KiB": Case(Moment(registers={"TCR_EL2": NARROW | 1 << 14}), ("M12", "M05")),
    "M12 64 KiB, where bits 15:12 are address bits": Case(
        Moment(registers={"TCR_EL2": NARROW | 1 << 14, "ID_AA64MMFR0_EL1": 0x1126}), ("M12", "M05", "M08")
    ),
    "M14 page of type 01": Case(Moment(adjust=leaf_of_type_01), ("M14",)),
    "M14 table pointer of type 01": Case(Moment(adjust=pointer_as_block), ("M14", "M05")),
    "M15 page": Case(Moment(code=EXEC & ~AF), ("M15",)),
    "M15 block": Case(Moment(adjust=block_without_access_flag), ("M15",)),
    "M16 no instruction there": Case(Moment(to=ZEROS), ("M16",)),
    "M16 other code there": Case(Moment(to=OTHER), ("M16",)),
    "M34 big-endian walks": Case(Moment(registers={"X14": SCTLR | EE}), ("M34", "M05")),
    "M34 little-endian walks": Case(Moment(big_endian=True), ("M34", "M05")),
    "M35 EPD0 at EL1": Case(Moment(registers={**EL1, "TCR_EL1": 0x4_B510_3590}), ("M35", "M05")),
    "M35 EPD0 at EL2&0": Case(Moment(registers={**VHE, "TCR_EL2": WIDE | 1 << 7}), ("M35", "M05")),
}
NOT_CURED = {"M11 not mapped", "M11 not mapped from the root"}
"""No single write maps a page."""

SOUND = {
    "nothing special": Moment(),
    "nothing special at EL1": Moment(registers=EL1),
    "nothing special at EL2&0": Moment(registers=VHE),
    "M01: bit 53 at EL2 without E2H": Moment(code=EXEC | PXN),
    "M01: bit 54 at EL1, where it is UXN": Moment(code=EXEC | UXN, registers=EL1),
    "M01: bit 54 at EL2&0": Moment(code=EXEC | UXN, registers=VHE),
    "M02: bit 59 at EL2": Moment(table_bits=PXN_TABLE),
    "M02: bit 60 at EL1": Moment(table_bits=XN_TABLE, registers=EL1),
    "M02: bit 60 switched off by HPD": Moment(
        table_bits=XN_TABLE, registers={"TCR_EL2": NARROW | 1 << 24, "ID_AA64MMFR1_EL1": 1 << 12}
    ),
    "M03: AP[1] at EL2 without EL0": Moment(code=EXEC | AP1),
    "M03: readable at EL0 only": Moment(code=EXEC | AP1 | AP2, registers=EL1),
    "M04: read-only under WXN": Moment(code=EXEC | AP2, vectors=EXEC | AP2, registers={"X14": SCTLR | WXN}),
    "M04: writable without WXN": Moment(registers={"X14": SCTLR & ~WXN}),
    "M05: vectors of SP_EL0": Moment(registers={"PSTATE": 0x3C8}),
    "M06: each layout in its place": Moment(registers={**VHE, "TCR_EL2": WIDE}),
    "M08: 36 bits are enough": Moment(registers={"TCR_EL2": NARROW & ~(7 << 16) | 1 << 16}),
    "M10: T0SZ 20 starts at level 0 too": Moment(registers={"TCR_EL2": NARROW + 4}),
    "M11: mapped from another page with the same code": Moment(to=TWIN),
    "M12: 4 KiB, TG1 whatever": Moment(registers={**EL1, "TCR_EL1": 0x4_7510_3510}),
    "M14: a block has type 01": Moment(adjust=two_mib_block),
    "M15: the hardware sets it": Moment(
        code=EXEC & ~AF, registers={"TCR_EL2": NARROW | 1 << 21, "ID_AA64MMFR1_EL1": 1}
    ),
    "M34: both big-endian": Moment(registers={"X14": SCTLR | EE}, big_endian=True),
    "M35: EPD1 is the other half": Moment(registers={**EL1, "TCR_EL1": 0x4_B510_3510 | 1 << 23}),
}


def fatal(findings: tuple[Finding, ...]) -> tuple[str, ...]:
    return tuple(finding.id for finding in findings if finding.severity is Severity.FATAL)


@pytest.mark.parametrize("case", WRONG.values(), ids=list(WRONG))
def test_what_is_wrong_is_reported_and_nothing_else(case: Case) -> None:
    verdict = case.moment.verdict()
    assert fatal(verdict.findings) == case.ids
    expected = Judgement.UNKNOWN if case.moment.to == OTHER else Judgement.FAULTS
    assert verdict.judgement is expected


@pytest.mark.parametrize("moment", SOUND.values(), ids=list(SOUND))
def test_what_is_sound_is_left_alone(moment: Moment) -> None:
    verdict = moment.verdict()
    assert verdict.findings == ()
    assert verdict.judgement is Judgement.SOUND


@pytest.mark.parametrize("name", sorted(WRONG.keys() - NOT_CURED))
def test_the_repairs_cure(name: str) -> None:
    moment = WRONG[name].moment
    situation, verdict = moment.situation(), moment.verdict()
    by_rule = {f.id: [g.repair for g in verdict.findings if g.id == f.id and g.repair] for f in verdict.findings}
    together = [repair for id in ("M01", "M02") for repair in by_rule.pop(id, [])]
    candidates = [repairs for repairs in (together, *by_rule.values()) if repairs]
    assert candidates
    for repairs in candidates:
        assert repaired(situation, repairs).judgement is Judgement.SOUND


@pytest.mark.parametrize("name", sorted(NOT_CURED))
def test_no_repair_is_proposed_that_would_not_cure(name: str) -> None:
    assert [finding.repair for finding in WRONG[name].moment.verdict().findings if finding.repair] == []


def test_every_rule_is_tested_both_ways_in_its_own_name() -> None:
    others = "".join(
        path.read_text() for path in Path(__file__).parents[1].rglob("test_*.py") if path != Path(__file__)
    )
    ids = {rule.id for rule in all_rules()} - set(re.findall(r"\b[MK]\d\d\b", others))
    tested = {name[:3] for name in WRONG}
    assert ids <= tested
    assert tested - {name[:3] for name in SOUND} == {"M16"}  # the same page: "M11: mapped from another page ..."


def test_rules_have_ids_titles_explanations_and_sources() -> None:
    rules = all_rules()
    assert [rule.id for rule in rules] == sorted({rule.id for rule in rules})
    assert all(rule.title and rule.explanation and rule.sources for rule in rules)


def test_unreachable_vectors_alone_are_a_hazard() -> None:
    verdict = Moment(vectors=None).verdict()
    assert verdict.judgement is Judgement.SOUND
    (finding,) = verdict.findings
    assert (finding.id, finding.severity, finding.is_consequence) == ("M05", Severity.HAZARD, False)


def test_the_evidence_names_the_bit_and_where_it_is() -> None:
    moment = Moment(code=EXEC | UXN)
    (finding,) = moment.verdict().findings
    address = moment.tables().descriptor_address(CODE)
    assert finding.evidence == {
        "address": address,
        "level": 3,
        "descriptor": CODE | EXEC | UXN,
        "bit": 54,
        "name": "XN",
    }
    assert finding.repair is not None
    assert (finding.repair.old, finding.repair.new) == (CODE | EXEC | UXN, CODE | EXEC)


def test_denials_in_several_descriptors_are_repaired_by_one_write_each() -> None:
    moment = Moment(code=EXEC | UXN, table_bits=XN_TABLE, registers={"X14": SCTLR | WXN})
    verdict = moment.verdict()
    repairs = {finding.repair for finding in verdict.findings if finding.repair}
    assert len(repairs) == 4
    assert repaired(moment.situation(), list(repairs)).judgement is Judgement.SOUND
