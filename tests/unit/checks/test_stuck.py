"""Where a stopped CPU is said to be, and what its syndrome is said to be about."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kexecdbg.checks.prediction import ExceptionRecord
from kexecdbg.checks.stuck.diagnosis import Condition, diagnose
from kexecdbg.checks.stuck.syndrome import Standing
from kexecdbg.errors import KexecdbgError, RegisterUnknownError
from kexecdbg.machine.state import CpuState
from tests.unit.checks.moments import AP1, CODE, EL1, EXEC, NEXT, PXN, SITE, UXN, VECTORS, VHE, ZEROS, Moment
from tests.unit.checks.stuck_moments import (
    ADD_X0_1,
    B_BACK_4,
    B_SELF,
    ERET,
    NOP,
    SMC,
    STP_X0_X1_PUSH,
    VECTOR,
    WFE,
    WFI,
    diagnosis,
    frozen,
    spinning,
    vector_page,
)

XN_CODE = EXEC | UXN
FREEZE = Moment(code=XN_CODE, vectors=None)
RESTING = Moment(code=XN_CODE, extra=vector_page(B_SELF))
PERMISSION = ExceptionRecord(0x8600_000F, NEXT, NEXT)
UNDEFINED = 0x0200_0000
OFF = {"PSTATE": 0x3C9, "X14": 0}
"""A CPU whose MMU is off, and stays so."""


def code_at(*instructions: int, address: int = CODE + 0x800) -> dict[int, int]:
    return {address + 4 * number: word for number, word in enumerate(instructions)}


def running(*instructions: int, pc: int = CODE + 0x800, halted: bool | None = None, **registers: int) -> Condition:
    """The condition of a CPU, MMU off, in a loop of ``instructions``."""
    moment = Moment(instructions=code_at(*instructions))
    return diagnosis(moment, {**moment.values(), **OFF, "PC": pc, **registers}, halted).condition


# The vector loop


def test_the_freeze_of_2019() -> None:
    found = diagnosis(FREEZE, spinning(FREEZE))
    assert (found.condition, found.stuck, found.pc) == (Condition.VECTOR_LOOP, True, VECTOR)
    missing = FREEZE.tables().descriptor_address(VECTORS, 2)
    assert found.reason.startswith(
        f"Translation fault, level 2: the level 2 descriptor at {missing:#x}, 0x0, is invalid"
    )
    entry = found.entry
    assert entry is not None and entry.at_start
    assert (entry.vbar, entry.offset, entry.kind, entry.source) == (
        "VBAR_EL2", 0x200, "synchronous", "current EL with SP_ELx",
    )  # fmt: skip
    held = found.syndrome
    assert held is not None
    assert (held.standing, held.source_el, held.record) == (
        Standing.OVERWRITTEN, 2, ExceptionRecord(0x8600_0006, VECTOR, VECTOR),
    )  # fmt: skip
    assert found.lost == ("ESR_EL2", "FAR_EL2", "ELR_EL2", "SPSR_EL2")
    assert found.origin is not None and found.origin.instruction.address == SITE


def test_a_vector_page_that_is_zeros_loops_with_the_mmu_off_as_well() -> None:
    """Reset values on QEMU's virt machine: VBAR_ELx is 0 and the flash there reads as zeros; the PC shows 0x200."""
    moment = Moment(extra={0: bytes(4096)})
    here = ExceptionRecord(UNDEFINED, None, 0x200)
    found = diagnosis(moment, frozen(moment, here, VBAR_EL2=0, SCTLR_EL2=0x30C5_0830, PC=0x200))
    assert (found.condition, found.mmu_on) == (Condition.VECTOR_LOOP, False)
    assert found.reason == "no code is at 0x200: memory holds zeros there, at least from 0x0 to 0xfff"
    assert found.search is None


def test_a_vector_that_faults_on_its_own_stack() -> None:
    stack = 0x5000_0000
    moment = Moment(extra=vector_page(STP_X0_X1_PUSH, B_SELF))
    push = ExceptionRecord(0x9600_0045, stack - 16, VECTOR)
    found = diagnosis(moment, frozen(moment, push, SP=stack))
    assert found.condition is Condition.VECTOR_LOOP
    assert found.reason == "the first instruction of the vector faults itself"
    assert found.syndrome is not None
    missing = moment.tables().descriptor_address(stack - 16, 1)
    assert found.syndrome.meaning.startswith(f"the level 1 descriptor at {missing:#x}, 0x0, is invalid")


def test_a_handler_that_faults_further_on_has_lost_the_first_syndrome_too() -> None:
    moment = Moment(extra=vector_page(NOP, STP_X0_X1_PUSH, B_SELF))
    found = diagnosis(moment, frozen(moment, ExceptionRecord(0x9600_0045, 0x5000_0000, VECTOR + 4)))
    assert found.condition is Condition.HANDLER_LOOP
    assert found.lost == ("ESR_EL2", "FAR_EL2", "ELR_EL2", "SPSR_EL2")
    assert f"taken at {VECTOR + 4:#x}" in found.reason


def test_a_vector_that_could_be_fetched_by_now_is_not_passed_over() -> None:
    repaired = replace(FREEZE, vectors=EXEC)
    found = diagnosis(repaired, spinning(FREEZE))
    assert (found.condition, found.stuck) == (Condition.VECTOR_LOOP, True)
    assert "the vector could be executed as tables and memory are now" in found.reason
    assert found.syndrome is not None
    assert found.syndrome.meaning.startswith(f"a fetch of {VECTOR:#x} would work now")


# The first syndrome is still there


def test_one_step_before_the_loop_the_first_syndrome_is_still_there() -> None:
    found = diagnosis(FREEZE, frozen(FREEZE, PERMISSION))
    assert found.condition is Condition.VECTOR_OUT_OF_REACH
    assert (found.lost, found.keeps_first_syndrome) == ((), True)
    assert found.syndrome is not None
    assert (found.syndrome.standing, found.syndrome.record) == (Standing.FIRST, PERMISSION)
    assert "is XN in the EL2 regime" in found.syndrome.meaning


def test_a_vector_that_parks_keeps_it() -> None:
    found = diagnosis(RESTING, frozen(RESTING, PERMISSION))
    assert (found.condition, found.stuck, found.lost) == (Condition.RESTS_IN_VECTOR, True, ())
    assert found.syndrome is not None and found.syndrome.standing is Standing.FIRST
    assert found.loop is not None and [item.address for item in found.loop.instructions] == [VECTOR]


def test_a_handler_outside_the_vectors_is_known_by_the_branch_to_it() -> None:
    """``b`` from the vector to a parking loop in the code page."""
    parking = CODE + 0xC00
    branch = 0x1400_0000 | ((parking - VECTOR) // 4) & 0x3FF_FFFF
    moment = Moment(extra=vector_page(branch), instructions={parking: B_SELF})
    found = diagnosis(moment, frozen(moment, ExceptionRecord(0x9600_0006, 0x7000, NEXT + 8), PC=parking))
    assert found.condition is Condition.RESTS_IN_VECTOR
    assert found.syndrome is not None and found.syndrome.standing is Standing.FIRST


def test_what_a_handler_calls_is_not_its_own() -> None:
    """A function that is called from the handler and from elsewhere: a fault in it need not be the handler's."""
    function = CODE + 0xC00
    call = 0x9400_0000 | ((function - VECTOR) // 4) & 0x3FF_FFFF
    moment = Moment(extra=vector_page(call, ERET), instructions={function: ADD_X0_1})
    found = diagnosis(moment, frozen(moment, ExceptionRecord(0x9600_0006, 0x7000, function), PC=VECTOR + 4))
    assert found.condition is Condition.RUNS
    assert found.syndrome is not None and found.syndrome.standing is Standing.FIRST


def test_an_interrupt_writes_no_syndrome() -> None:
    moment = Moment(extra=vector_page(B_SELF, at=0x280))
    found = diagnosis(moment, frozen(moment, PERMISSION, PC=VECTORS + 0x280))
    assert found.condition is Condition.RESTS_IN_VECTOR
    assert found.syndrome is not None and found.syndrome.standing is Standing.EARLIER
    assert found.entry is not None and found.entry.kind == "IRQ"


def test_an_exception_of_a_lower_level_is_compared_with_its_own_tables() -> None:
    """EL1 faulted into EL2: bit 53 counts there, bit 54 does not."""
    moment = Moment(code=EXEC | PXN, extra=vector_page(B_SELF, at=0x400), registers={"SCTLR_EL1": EL1["X14"]})
    fetch = ExceptionRecord(0x8200_000F, NEXT, NEXT)
    found = diagnosis(moment, frozen(moment, fetch, PC=VECTORS + 0x400, SPSR_EL2=0x3C5, SCTLR_EL2=0x30C5_0830))
    assert found.syndrome is not None
    assert (found.syndrome.source_el, found.syndrome.standing) == (1, Standing.FIRST)
    assert "bit 53" in found.syndrome.meaning and "PXN" in found.syndrome.meaning


def test_a_jump_into_zeroes_is_told_from_other_undefined_instructions() -> None:
    zeros = diagnosis(RESTING, frozen(RESTING, ExceptionRecord(UNDEFINED, None, ZEROS + 0x40), SCTLR_EL2=0x30C5_0830))
    assert zeros.syndrome is not None
    expected = (
        f"no code is at {ZEROS + 0x40:#x}: memory holds zeros there, at least from {ZEROS:#x} to {ZEROS + 0xFFF:#x}"
    )
    assert zeros.syndrome.meaning == expected
    data = Moment(extra=vector_page(B_SELF), instructions={CODE + 0x900: 0x1234})
    other = diagnosis(data, frozen(data, ExceptionRecord(UNDEFINED, None, CODE + 0x900)))
    assert other.syndrome is not None
    assert other.syndrome.meaning.startswith(f"the word at {CODE + 0x900:#x}, 0x00001234, is permanently undefined")


def test_far_of_a_class_that_does_not_write_it_is_not_shown() -> None:
    found = diagnosis(RESTING, frozen(RESTING, ExceptionRecord(UNDEFINED, None, ZEROS), FAR_EL2=0x1234))
    assert found.syndrome is not None and found.syndrome.far is None


# The next instruction


def test_right_after_the_write() -> None:
    found = diagnosis(FREEZE, {**FREEZE.values(), "SCTLR_EL2": 0x30E5_183F, "PC": NEXT})
    assert found.condition is Condition.CANNOT_EXECUTE
    assert found.reason.startswith("Permission fault, level 3: bit 54")
    assert found.syndrome is None
    assert found.origin is not None and (found.origin.explains, found.origin.instruction.address) == (True, SITE)


@pytest.mark.parametrize(
    ("pc", "reason"),
    [
        (CODE + 2, f"the PC, {CODE + 2:#x}, is not a multiple of 4"),
        (0x9000_0000, "it is fetched from 0x90000000, and not part of what was given"),
        (ZEROS, f"no code is at {ZEROS:#x}: memory holds zeros there"),
        (1 << 46, "stage 1 is off and 0x400000000000 is beyond the 44-bit physical address size"),
    ],
)
def test_what_cannot_be_executed_with_the_mmu_off(pc: int, reason: str) -> None:
    moment = Moment()
    found = diagnosis(moment, {**moment.values(), "PC": pc})
    assert found.condition is Condition.CANNOT_EXECUTE
    assert reason in found.reason


def test_a_table_that_cannot_be_read_leaves_it_open() -> None:
    moment = Moment(registers={"TTBR0_EL2": 0x7000_0000})
    found = diagnosis(moment, {**moment.values(), "SCTLR_EL2": 0x30E5_183F, "PC": NEXT})
    assert (found.condition, found.stuck) == (Condition.UNKNOWN, None)
    assert "cannot be read" in found.reason


def test_at_the_switch() -> None:
    assert diagnosis(FREEZE, FREEZE.values()).condition is Condition.AT_SWITCH


# Loops


def test_an_endless_branch() -> None:
    assert running(B_SELF) is Condition.ENDLESS_BRANCH
    assert running(NOP, B_BACK_4) is Condition.ENDLESS_BRANCH


def test_a_loop_that_does_something_runs() -> None:
    assert running(ADD_X0_1, B_BACK_4) is Condition.RUNS


@pytest.mark.parametrize("pc", [CODE + 0x800, CODE + 0x804])
@pytest.mark.parametrize("wait", [WFI, WFE])
def test_a_parking_loop(wait: int, pc: int) -> None:
    assert running(wait, B_BACK_4, pc=pc) is Condition.WAITS


def test_a_holding_pen_has_an_exit() -> None:
    """``1: wfe; ldr x0, [x1]; cbz x0, 1b; br x0``"""
    moment = Moment(instructions=code_at(WFE, 0xF940_0020, 0xB4FF_FFC0, 0xD61F_0000))
    found = diagnosis(moment, {**moment.values(), **OFF, "PC": CODE + 0x804})
    assert (found.condition, found.stuck) == (Condition.WAITS, False)
    assert found.loop is not None and found.loop.has_exit
    assert [item.text.split()[0] for item in found.loop.instructions] == ["wfe", "ldr", "cbz"]


def test_just_after_a_wait() -> None:
    """An idle function: ``wfi; ret``."""
    assert running(WFI, 0xD65F_03C0, pc=CODE + 0x804) is Condition.WAITS


def test_a_halted_cpu_that_does_not_wait_is_off() -> None:
    assert running(ADD_X0_1, halted=True) is Condition.HALTED
    assert running(WFI, B_BACK_4, pc=CODE + 0x804, halted=True) is Condition.WAITS


def test_a_cpu_that_switched_itself_off() -> None:
    moment = Moment(instructions=code_at(SMC))
    values = {**moment.values(), **OFF, "PC": CODE + 0x804, "X0": 0x8400_0002}
    found = diagnosis(moment, values, halted=True)
    assert (found.condition, found.stuck) == (Condition.HALTED, False)
    assert found.reason == f"the last instruction was smc #0 at {CODE + 0x800:#x}, PSCI CPU_OFF"


def test_ordinary_code_can_go_on() -> None:
    found = diagnosis(Moment(), {**Moment().values(), "PC": CODE})
    assert (found.condition, found.stuck, found.suspects, found.search) == (Condition.RUNS, False, (), None)


# Mappings made for another regime


def test_a_page_mapped_for_el1_is_a_suspect_at_el2() -> None:
    (suspect,) = diagnosis(FREEZE, spinning(FREEZE)).suspects
    assert (suspect.va, suspect.pa, suspect.size) == (CODE, CODE, 0x1000)


def test_the_mirror_image_at_el1_leaves_user_code_alone() -> None:
    moment = Moment(
        code=EXEC | PXN,
        vectors=None,
        registers={**EL1, "TTBR1_EL1": None},
        adjust=lambda tables: tables.map_page(0x40_0000, 0x40_0000, EXEC | PXN | AP1),
    )
    suspects = diagnosis(moment, spinning(moment)).suspects
    assert [item.va for item in suspects] == [CODE]


def test_with_vhe_bit_54_is_no_suspect() -> None:
    moment = Moment(code=None, vectors=XN_CODE & ~UXN | PXN, registers=VHE)
    found = diagnosis(moment, spinning(moment))
    assert [item.va for item in found.suspects] == [VECTORS]


# What is not known


@pytest.mark.parametrize("name", ["PC", "PSTATE", "SCTLR_EL2", "TCR_EL2"])
def test_a_register_that_decides_has_to_be_known(name: str) -> None:
    values = spinning(FREEZE)
    del values[name]
    with pytest.raises(RegisterUnknownError, match=name):
        diagnosis(FREEZE, values)


@pytest.mark.parametrize("name", ["ESR_EL2", "ELR_EL2", "SPSR_EL2", "VBAR_EL2", "FAR_EL2"])
def test_without_a_syndrome_register_less_is_said(name: str) -> None:
    values = spinning(FREEZE)
    del values[name]
    found = diagnosis(FREEZE, values)
    assert found.stuck is True
    assert (found.syndrome is None) == (name in ("ESR_EL2", "ELR_EL2"))


WORDS = st.one_of(
    st.sampled_from([0, 4, CODE, SITE, NEXT, VECTORS, VECTOR, ZEROS, 0x3C5, 0x3C9, 0x8600_000F, 0x9600_0045, 1 << 63]),
    st.integers(0, (1 << 64) - 1),
)
NAMES = [
    "PC", "PSTATE", "SP", "X0", "X14", "X30", "HCR_EL2",
    *(f"{name}_EL{el}" for el in (1, 2) for name in ("SCTLR", "TCR", "TTBR0", "VBAR", "ESR", "ELR", "FAR", "SPSR")),
]  # fmt: skip


@given(st.dictionaries(st.sampled_from(NAMES), WORDS), st.sampled_from([None, True, False]))
def test_any_registers_get_an_answer_or_one_clear_error(values: dict[str, int], halted: bool | None) -> None:
    try:
        found = diagnose(CpuState({**spinning(FREEZE), **values}), FREEZE.memory(), halted)
    except KexecdbgError as error:
        assert "\n" not in str(error)
    else:
        assert found.stuck in (True, False, None)
