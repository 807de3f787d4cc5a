"""What the CPU will do, by the registers and tables it will have."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kexecdbg.arm64.instructions import decode_instruction
from kexecdbg.arm64.regimes import Regime
from kexecdbg.checks.enable_site import pending_write, writes_sctlr
from kexecdbg.checks.fetching import instruction_at
from kexecdbg.checks.predicting import predict
from kexecdbg.checks.prediction import ExceptionRecord, Outcome, Prediction
from kexecdbg.checks.situation import situation_at
from kexecdbg.checks.stepping import Observation
from kexecdbg.checks.table_view import tables_as_if_on, walk_in_range
from kexecdbg.checks.verdict import Judgement
from kexecdbg.errors import MemoryUnreadableError, RegisterUnknownError, UsageError
from kexecdbg.machine.memory import BytesMemory
from kexecdbg.machine.overlay_memory import OverlayMemory
from kexecdbg.machine.state import CpuState
from tests.unit.checks.moments import (
    CODE,
    EL1,
    EXEC,
    NEXT,
    OTHER,
    PXN,
    ROOT,
    SCTLR,
    SITE,
    UXN,
    VECTORS,
    VHE,
    ZEROS,
    Moment,
)

PERMISSION, TRANSLATION, UNDEFINED = 0x8600_000F, 0x8600_0007, 0x0200_0000
HOLE = 0x2_0000_0000


def abort(esr: int, address: int) -> ExceptionRecord:
    return ExceptionRecord(esr, address, address)


FIRST = abort(PERMISSION, NEXT)
PREDICTIONS = {
    "runs on": (Moment(), Prediction(None, None, Outcome.RUNS_ON)),
    "spins": (
        Moment(code=EXEC | UXN, vectors=None),
        Prediction(FIRST, abort(0x8600_0006, VECTORS + 0x200), Outcome.SPINS),
    ),
    "rests in the vector": (Moment(code=EXEC | UXN), Prediction(FIRST, None, Outcome.IN_VECTOR)),
    "vector of SP_EL0": (
        Moment(code=EXEC | UXN, vectors=EXEC | UXN, registers={"PSTATE": 0x3C8}),
        Prediction(FIRST, abort(PERMISSION, VECTORS), Outcome.SPINS),
    ),
    "undefined instruction": (
        Moment(to=ZEROS),
        Prediction(ExceptionRecord(UNDEFINED, None, NEXT), None, Outcome.IN_VECTOR),
    ),
    "other code": (Moment(to=OTHER), Prediction(None, None, Outcome.UNKNOWN)),
    "root unreadable": (Moment(registers={"TTBR0_EL2": HOLE}), Prediction(None, None, Outcome.UNKNOWN)),
    "vectors unreadable": (
        Moment(code=EXEC | UXN, adjust=lambda tables: tables.set_descriptor(VECTORS, 2, HOLE | 3)),
        Prediction(FIRST, None, Outcome.UNKNOWN),
    ),
    "EL1, vectors of EL1": (
        Moment(code=None, vectors=EXEC, registers={**EL1, "VBAR_EL1": VECTORS}),
        Prediction(abort(0x8600_0006, NEXT), None, Outcome.IN_VECTOR),
    ),
}


@pytest.mark.parametrize(("moment", "expected"), PREDICTIONS.values(), ids=list(PREDICTIONS))
def test_prediction(moment: Moment, expected: Prediction) -> None:
    assert replace(predict(moment.situation()), at=None, vector=None) == expected
    unknown = expected.outcome is Outcome.UNKNOWN and expected.first is None
    judgement = Judgement.UNKNOWN if unknown else Judgement.FAULTS if expected.first is not None else Judgement.SOUND
    assert moment.verdict().judgement is judgement


@pytest.mark.parametrize("name", ["TTBR0_EL2", "TCR_EL2", "VBAR_EL2", "HCR_EL2", "PSTATE"])
def test_an_unknown_register_that_decides_is_named(name: str) -> None:
    memory = Moment(code=EXEC | PXN).memory()
    values = {known: value for known, value in Moment(registers=VHE).values().items() if known != name}
    with pytest.raises(RegisterUnknownError, match=name):
        predict(situation_at(CpuState(values), memory))


# Which instruction switches the MMU on


@pytest.mark.parametrize(
    ("word", "registers", "expected"),
    [
        (0xD51C_100E, {"X14": 1}, ("SCTLR_EL2", 1, True)),
        (0xD51C_100E, {"X14": 0x30E5_183E}, ("SCTLR_EL2", 0x30E5_183E, False)),
        (0xD518_100E, {**EL1, "X14": 5}, ("SCTLR_EL1", 5, True)),
        (0xD518_100E, {**VHE, "X14": 5}, ("SCTLR_EL2", 5, True)),  # E2H redirects the name
        (0xD51D_100E, {**VHE, "X14": 5}, ("SCTLR_EL1", 5, True)),  # SCTLR_EL12
        (0xD51C_101F, {}, ("SCTLR_EL2", 0, False)),  # msr sctlr_el2, xzr
        (0xD51C_204E, {"X14": 1}, ("TCR_EL2", 1, False)),
    ],
)
def test_pending_write(word: int, registers: dict[str, int], expected: tuple[str, int, bool]) -> None:
    write = pending_write(decode_instruction(word, SITE), Moment(registers=registers).values())
    assert write is not None
    assert (write.register, write.value, write.enables_mmu) == expected


@pytest.mark.parametrize("word", [0xD53C_100E, 0xD503_3FDF, 0x1400_0000])
def test_no_pending_write(word: int) -> None:
    """A read of SCTLR_EL2, a barrier, a branch."""
    instruction = decode_instruction(word, SITE)
    assert pending_write(instruction, Moment().values()) is None
    assert not writes_sctlr(instruction)


def test_an_unknown_operand_is_no_known_write() -> None:
    values = Moment(registers={"X14": None}).values()
    assert pending_write(decode_instruction(0xD51C_100E, SITE), values) is None


# The situation


def test_away_from_the_switch_the_message_says_what_to_type() -> None:
    moment = Moment(registers={"PC": NEXT})
    end = CODE + 0x1000
    message = (
        f"{NEXT:#x}: nop does not switch the MMU on; followed to {end:#x}: code that cannot be read; run kexec-step"
    )
    with pytest.raises(UsageError, match=message):
        moment.situation()
    with pytest.raises(UsageError, match="the MMU is already on"):
        Moment(registers={"PC": NEXT, "SCTLR_EL2": SCTLR}).situation()


def test_an_assumed_write_counts_as_made() -> None:
    state = CpuState(Moment(registers={"PC": NEXT}).values()).with_values({"SCTLR_EL2": SCTLR})
    situation = situation_at(state, Moment(code=EXEC | UXN).memory())
    assert (situation.site, situation.next_pc) == (NEXT, NEXT)
    assert predict(situation).first == FIRST
    with pytest.raises(UsageError, match="the MMU stays off"):
        situation_at(state.with_values({"SCTLR_EL2": SCTLR & ~1}), Moment().memory())


def test_another_levels_assumed_sctlr_is_no_write() -> None:
    state = CpuState(Moment().values()).with_values({"SCTLR_EL1": 1})
    assert situation_at(state, Moment().memory()).next_pc == NEXT  # the msr at the PC is what counts


def test_code_that_cannot_be_fetched() -> None:
    state = CpuState(Moment(registers={"SCTLR_EL2": SCTLR}).values())
    with pytest.raises(MemoryUnreadableError, match="the CPU cannot fetch this virtual address"):
        instruction_at(state, Moment(code=None).memory(), SITE)


def test_overlaid_words() -> None:
    memory = BytesMemory({0: bytes(range(16))})
    little, big = (OverlayMemory(memory, {8: 0x0102_0304_0506_0708}, big_endian=order) for order in (False, True))
    assert little.read(8, 8) == bytes([8, 7, 6, 5, 4, 3, 2, 1])
    assert big.read(8, 8) == bytes([1, 2, 3, 4, 5, 6, 7, 8])
    assert little.read(0, 8) == bytes(range(8))
    assert memory.read(8, 8) == bytes(range(8, 16))


# Tables before the MMU is on


def test_the_pending_write_is_what_a_walk_assumes() -> None:
    moment = Moment(registers={"X14": SCTLR | 1 << 19})
    view = tables_as_if_on(CpuState(moment.values()), moment.memory(), Regime.EL2)
    assert (view.as_if_on, view.state.get("SCTLR_EL2")) == (True, SCTLR | 1 << 19)
    assert "about to be written" in view.remark
    assert not walk_in_range(view, moment.memory(), NEXT, 0).privileged.execute.allowed


def test_elsewhere_only_m_is_assumed() -> None:
    moment = Moment(registers={"PC": NEXT})
    view = tables_as_if_on(CpuState(moment.values()), moment.memory(), Regime.EL2)
    assert (view.as_if_on, view.state.get("SCTLR_EL2")) == (True, 0x30C5_0831)


def test_with_the_mmu_on_nothing_is_assumed() -> None:
    moment = Moment(registers={"SCTLR_EL2": SCTLR})
    view = tables_as_if_on(CpuState(moment.values()), moment.memory(), Regime.EL2)
    assert (view.as_if_on, view.remark) == (False, "")
    assert walk_in_range(view, moment.memory(), CODE, 0).pa == CODE


def test_the_wrong_table_is_refused() -> None:
    moment = Moment()
    for regime, va, table, hint in (
        (Regime.EL2, CODE, 1, "use walk-ttbr0"),
        (Regime.EL1_0, CODE, 1, f"use walk-ttbr0 {CODE:#x}"),
        (Regime.EL1_0, 0xFFFF_0000_0000_0000, 0, "use walk-ttbr1 0xffff000000000000"),
    ):
        view = tables_as_if_on(CpuState(moment.values()), moment.memory(), regime)
        with pytest.raises(UsageError, match=hint):
            walk_in_range(view, moment.memory(), va, table)


# Agreement


@pytest.mark.parametrize(
    ("observation", "agrees"),
    [
        (Observation((), FIRST, None, followed=False), True),
        (Observation((), FIRST, abort(0x8600_0006, VECTORS + 0x200), followed=True), True),
        (Observation((), FIRST, None, followed=True), False),
        (Observation((), None, None, followed=False), False),
        (Observation((), abort(TRANSLATION, NEXT), None, followed=False), False),
        (Observation((), ExceptionRecord(PERMISSION, NEXT, NEXT + 4), None, followed=False), False),
        (Observation((), ExceptionRecord(PERMISSION, 0, NEXT), None, followed=False), False),
        (Observation((), FIRST, abort(PERMISSION, VECTORS + 0x200), followed=True), False),
    ],
)
def test_agreement(observation: Observation, agrees: bool) -> None:
    assert observation.agrees_with(PREDICTIONS["spins"][0].verdict()) is agrees


def test_far_does_not_count_where_the_exception_leaves_it_alone() -> None:
    verdict = PREDICTIONS["undefined instruction"][0].verdict()
    assert Observation((), ExceptionRecord(UNDEFINED, 0x1234, NEXT), None, followed=False).agrees_with(verdict)


def test_far_that_is_not_known_is_not_the_predicted_one() -> None:
    """But a step at a gdbstub without FAR_ELx agrees in all that can be seen of it."""
    unread = ExceptionRecord(PERMISSION, None, NEXT)
    assert not FIRST.agrees_with(unread)
    assert Observation((), unread, None, followed=False).agrees_with(PREDICTIONS["spins"][0].verdict())


def test_the_root_is_where_the_moment_puts_it() -> None:
    assert Moment().situation().fetch.levels[0].address == ROOT
