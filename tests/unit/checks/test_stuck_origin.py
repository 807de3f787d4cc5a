"""The switch that a frozen CPU comes from: found in memory, told from others, judged as if it were still ahead."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from kexecdbg.arm64.regimes import Regime
from kexecdbg.checks.finding import DescriptorRepair
from kexecdbg.checks.fixing import RepairPlan
from kexecdbg.checks.prediction import ExceptionRecord, Outcome
from kexecdbg.checks.stuck.diagnosis import Diagnosis, diagnose
from kexecdbg.checks.stuck.operand_value import can_have_written
from kexecdbg.checks.stuck.origin import Origin
from kexecdbg.checks.stuck.search import find_switches
from kexecdbg.errors import MemoryUnreadableError
from kexecdbg.machine.memory import BytesMemory
from kexecdbg.machine.state import CpuState
from tests.unit.checks.moments import (
    AF,
    CODE,
    EL1,
    EL3,
    EXEC,
    MSR_SCTLR_X14,
    NARROW,
    NEXT,
    PXN,
    SCTLR,
    SITE,
    TWIN,
    UXN,
    VHE,
    WXN,
    Moment,
)
from tests.unit.checks.stuck_moments import B_SELF, NOP, VECTOR, diagnosis, frozen, spinning, vector_page

FREEZE = Moment(code=EXEC | UXN, vectors=None)
MSR = MSR_SCTLR_X14[2]
MRS_X14, ORR_X14_M, BIC_X14_X13, MOVZ_X13_1, RET = 0xD53C_100E, 0xB240_01CE, 0x8A2D_01CE, 0xD280_002D, 0xD65F_03C0
"""``mrs x14, sctlr_el2``; ``orr x14, x14, #1``; ``bic x14, x14, x13``; ``mov x13, #1``; ``ret``"""
MSR_EL1_X14 = 0xD518_100E
IN_TWIN = TWIN - CODE
"""The page :data:`TWIN` holds a copy of the code and is not mapped: a kernel keeps the original of what it copies."""


def origin_of(found: Diagnosis) -> Origin:
    assert found.origin is not None
    return found.origin


def literal_before(site: int, value: int) -> tuple[dict[int, int], tuple[int, int]]:
    """``ldr x14, literal`` right before ``site``, and the literal's two words 64 bytes behind."""
    literal = site + 64
    load = 0x5800_0000 | ((literal - (site - 4)) // 4) << 5 | 14
    return {site - 4: load, literal: value & 0xFFFF_FFFF, literal + 4: value >> 32}, (site - 4, literal)


# Reconstruction

LOST_BUT_KNOWN = {
    "M01": (FREEZE, 0x8600_000F),
    "M01 at EL1": (Moment(code=EXEC | PXN, vectors=None, registers=EL1), 0x8600_000F),
    "M01 at EL3": (Moment(code=EXEC | UXN, vectors=None, registers=EL3), 0x8600_000F),
    "M01 with VHE": (Moment(code=EXEC | PXN, vectors=None, registers=VHE), 0x8600_000F),
    "M04": (Moment(vectors=None, registers={"X14": SCTLR | WXN}), 0x8600_000F),
    "M10": (Moment(registers={"TCR_EL2": NARROW + 9}), 0x8600_0005),
    "M11": (Moment(code=None, vectors=None), 0x8600_0004),
    "M15": (Moment(code=EXEC & ~AF, vectors=None), 0x8600_000B),
}


@pytest.mark.parametrize("name", LOST_BUT_KNOWN)
def test_the_first_exception_is_reconstructed(name: str) -> None:
    moment, esr = LOST_BUT_KNOWN[name]
    origin = origin_of(diagnosis(moment, spinning(moment)))
    assert (origin.instruction.address, origin.operand, origin.explains) == (SITE, "X14", True)
    assert origin.also == (SITE + IN_TWIN,)
    assert origin.first == ExceptionRecord(esr, NEXT, NEXT)
    assert name.split()[0] in {finding.id for finding in origin.verdict.findings}


def test_the_verdict_is_the_one_that_was_to_be_had_before_the_switch() -> None:
    after, before = origin_of(diagnosis(FREEZE, spinning(FREEZE))).verdict, FREEZE.verdict()
    assert after.findings == before.findings
    assert after.prediction == before.prediction


def test_the_repair_goes_with_it_and_brings_the_pc_back() -> None:
    plan = origin_of(diagnosis(FREEZE, spinning(FREEZE))).repair
    assert isinstance(plan, RepairPlan)
    (repair,) = plan.repairs
    assert isinstance(repair, DescriptorRepair)
    assert (repair.address, repair.new) == (FREEZE.tables().descriptor_address(CODE), CODE | EXEC)
    assert (plan.resume_at, plan.resume_pstate) == (NEXT, 0x3C9)


def test_what_cannot_be_repaired_says_why() -> None:
    moment, _ = LOST_BUT_KNOWN["M10"]
    reason = origin_of(diagnosis(moment, spinning(moment))).repair
    assert isinstance(reason, str) and reason.startswith("TCR_EL2 cannot be written from the debugger")


def test_the_pstate_of_a_first_syndrome_is_the_one_that_was_saved() -> None:
    moment = Moment(code=EXEC | UXN, extra=vector_page(B_SELF))
    first = moment.verdict().prediction.first
    assert first is not None
    origin = origin_of(diagnosis(moment, frozen(moment, first, SPSR_EL2=0x6000_0009)))
    assert origin.explains and isinstance(origin.repair, RepairPlan)
    assert origin.repair.resume_pstate == 0x6000_0009


def test_a_switch_that_does_not_end_so_is_no_explanation() -> None:
    """The page of the code is fine; the CPU died of something else that nothing remembers."""
    moment = Moment(vectors=None, extra={TWIN: NOP.to_bytes(4, "little") * 1024})
    here = ExceptionRecord(0x8600_0006, VECTOR, VECTOR)
    origin = origin_of(diagnosis(moment, frozen(moment, here)))
    assert (origin.explains, origin.first, origin.verdict.prediction.outcome) == (False, None, Outcome.RUNS_ON)


def test_several_that_do_not_end_so_stay_undecided() -> None:
    moment = Moment(vectors=None, instructions={CODE + 0x40: MSR}, extra={TWIN: NOP.to_bytes(4, "little") * 1024})
    found = diagnosis(moment, frozen(moment, ExceptionRecord(0x8600_0006, VECTOR, VECTOR)))
    assert found.origin is None and found.search is not None
    assert set(found.search.undecided) == {SITE, CODE + 0x40}


def test_a_copy_that_is_not_mapped_explains_it_but_the_mapped_one_is_named() -> None:
    moment = Moment(vectors=None)
    origin = origin_of(diagnosis(moment, frozen(moment, ExceptionRecord(0x8600_0006, VECTOR, VECTOR))))
    assert (origin.instruction.address, origin.explains, origin.or_later) == (SITE + IN_TWIN, True, (SITE,))


# Several writes


def with_code(*others: Mapping[int, int]) -> Moment:
    instructions: dict[int, int] = {}
    for words in others:
        instructions.update(words)
    return Moment(code=EXEC | UXN, vectors=None, instructions=instructions)


def test_a_write_of_another_value_is_not_the_one() -> None:
    """``msr sctlr_el2, x13`` elsewhere: X13 does not hold what SCTLR_EL2 has."""
    moment = with_code({CODE + 0x40: 0xD51C_100D})
    found = diagnosis(moment, spinning(moment, X13=SCTLR & ~1))
    assert (origin_of(found).instruction.address, origin_of(found).also) == (SITE, (SITE + IN_TWIN,))


def test_a_write_that_switches_off_is_not_the_one() -> None:
    """``mrs x14, sctlr_el2; mov x13, #1; bic x14, x14, x13; msr sctlr_el2, x14``"""
    off = {CODE + 0x40: MRS_X14, CODE + 0x44: MOVZ_X13_1, CODE + 0x48: BIC_X14_X13, CODE + 0x4C: MSR}
    moment = with_code(off)
    assert origin_of(diagnosis(moment, spinning(moment))).also == (SITE + IN_TWIN,)


def test_a_value_that_the_code_before_makes_speaks_for_it() -> None:
    words, _ = literal_before(SITE, SCTLR)
    moment = with_code({CODE + 0x40: MSR}, words)
    origin = origin_of(diagnosis(moment, spinning(moment)))
    assert (origin.instruction.address, origin.also) == (SITE, (SITE + IN_TWIN,))


def test_equally_likely_ones_are_named() -> None:
    moment = with_code({CODE + 0x40: MSR})
    origin = origin_of(diagnosis(moment, spinning(moment, X30=SITE + 0x20)))
    candidates = {CODE + 0x40, SITE}
    assert {origin.instruction.address, *origin.also} == candidates | {address + IN_TWIN for address in candidates}


def test_a_copy_that_a_register_points_to_comes_first() -> None:
    far = 0x1_7000_0000
    copy = {far: (NOP.to_bytes(4, "little") * 72 + MSR.to_bytes(4, "little")).ljust(0x1000, b"\0")}
    moment = Moment(code=EXEC | UXN, vectors=None, extra=copy)
    assert origin_of(diagnosis(moment, spinning(moment, X30=SITE))).instruction.address == SITE
    assert origin_of(diagnosis(moment, spinning(moment, X30=far))).instruction.address == far + 288


def test_at_el2_with_vhe_the_el1_name_counts() -> None:
    moment = Moment(code=EXEC | PXN, vectors=None, registers=VHE, instructions={SITE: MSR_EL1_X14})
    assert origin_of(diagnosis(moment, spinning(moment))).instruction.text == "msr sctlr_el1, x14"


def test_without_vhe_it_is_the_register_of_another_level() -> None:
    moment = Moment(code=EXEC | UXN, vectors=None, instructions={SITE: MSR_EL1_X14})
    values = frozen(moment, ExceptionRecord(0x8600_0006, VECTOR, VECTOR))
    assert diagnosis(moment, values).origin is None


# The code before a write

VALUE_FROM_LITERAL, (LOAD, LITERAL) = literal_before(SITE, SCTLR)


@pytest.mark.parametrize(
    ("words", "made"),
    [
        ({}, None),
        (VALUE_FROM_LITERAL, True),
        ({**VALUE_FROM_LITERAL, LITERAL: 0x1234_5678}, False),
        ({**VALUE_FROM_LITERAL, SITE - 0x40: 0x1400_0010}, None),  # b SITE: the load may not have been executed
        ({**VALUE_FROM_LITERAL, SITE - 0x40: 0x1400_000F}, True),  # b LOAD
        ({**VALUE_FROM_LITERAL, LOAD - 4: RET}, True),
        ({LOAD: RET}, None),
        ({SITE - 8: MRS_X14, SITE - 4: ORR_X14_M}, None),
        ({SITE - 12: MRS_X14, SITE - 8: MOVZ_X13_1, SITE - 4: BIC_X14_X13}, False),
    ],
)
def test_what_the_code_before_says_of_the_value(words: dict[int, int], made: bool | None) -> None:
    moment = Moment(instructions=words)
    before = CpuState(moment.values())
    assert can_have_written(before, moment.memory(), Regime.EL2.facts, "X14", SCTLR) is made


# The search


class SlowMemory:
    """Memory that is read piece by piece, as through a gdbstub: nobody knows what was ever written."""

    def __init__(self, memory: BytesMemory) -> None:
        self._memory = memory

    def read(self, address: int, size: int) -> bytes:
        return self._memory.read(address, size)


def test_memory_that_says_what_it_holds_is_searched_whole() -> None:
    moment = with_code({CODE + 0x40: MSR_EL1_X14})
    found = find_switches(CpuState({}), moment.memory(), 2, (), ())
    assert found.addresses == (CODE + 0x40, SITE, TWIN + 0x40, TWIN + 0x120)
    assert found.searched.everything
    memory = moment.memory()
    pages = [page for start, end in memory.populated_ranges() for page in range(start, end, 0x1000)]
    assert found.searched.size == 0x1000 * sum(any(memory.read(page, 0x1000)) for page in pages)


def test_other_memory_is_searched_where_registers_and_tables_point() -> None:
    memory = SlowMemory(FREEZE.memory())
    near = find_switches(CpuState({"X5": SITE - 0x8000}), memory, 2, (), ())
    assert (near.addresses, near.searched.everything) == ((SITE,), False)
    assert find_switches(CpuState({"X5": 0x5000_0000}), memory, 2, (), ()).addresses == ()
    mapped = find_switches(CpuState({}), memory, 2, [(CODE, CODE + 0x1000)], ())
    assert (mapped.addresses, mapped.searched.size) == ((SITE,), 0x1000)
    asked = find_switches(CpuState({}), memory, 2, (), [(SITE, SITE + 4)])
    assert asked.addresses == (SITE,)


def test_overlapping_ranges_are_read_once() -> None:
    memory = SlowMemory(FREEZE.memory())
    ranges = [(CODE, CODE + 0x1000), (CODE + 0x800, CODE + 0x1000), (CODE, CODE + 0x1000)]
    assert find_switches(CpuState({}), memory, 2, ranges, ()).searched.size == 0x1000


def test_holes_are_left_out() -> None:
    memory = SlowMemory(FREEZE.memory())
    with pytest.raises(MemoryUnreadableError):
        memory.read(CODE - 0x1000, 0x3000)
    assert find_switches(CpuState({}), memory, 2, [(CODE - 0x1000, CODE + 0x2000)], ()).addresses == (SITE,)


def test_only_aligned_words_count() -> None:
    word = MSR.to_bytes(4, "little")
    memory = BytesMemory({0x1000: b"\0" + word + b"\0\0\0" + word + bytes(4)})
    assert find_switches(CpuState({}), memory, 2, (), ()).addresses == (0x1008,)


def test_a_freeze_is_found_through_slow_memory_as_well() -> None:
    found = diagnose(CpuState(spinning(FREEZE)), SlowMemory(FREEZE.memory()))
    assert origin_of(found).instruction.address == SITE
    assert found.search is not None and not found.search.searched.everything


def test_where_nothing_fits_the_search_is_reported() -> None:
    moment = Moment(code=EXEC | UXN, vectors=None, instructions={SITE: NOP})
    values = frozen(moment, ExceptionRecord(0x8600_0006, VECTOR, VECTOR))
    found = diagnosis(moment, values)
    assert found.search is not None
    assert (found.origin, found.search.undecided, found.search.searched.everything) == (None, (), True)
    assert [item.va for item in found.suspects] == [CODE]
