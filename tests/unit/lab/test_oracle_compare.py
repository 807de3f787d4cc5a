"""The comparer finds what differs, planted bugs in the walk included; the shrinker keeps what matters."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest

from kexecdbg.arm64.faults import FaultKind
from kexecdbg.arm64.memory_types import memory_type_of_mair_byte
from kexecdbg.arm64.regimes import Regime
from kexecdbg.arm64.walk import walk
from kexecdbg.lab.oracle.cases import LANDING, REGISTERS, UNTOUCHED, Answer, Case, Operation, Status
from kexecdbg.lab.oracle.compare import differences, observed
from kexecdbg.lab.oracle.deviations import DEVIATIONS
from kexecdbg.lab.oracle.generate import Generator
from kexecdbg.lab.oracle.judge import Judge
from kexecdbg.lab.oracle.predict import Observation, par_attributes, predict
from kexecdbg.lab.oracle.shrink import shrink
from kexecdbg.lab.oracle.sparse_tables import Space
from tests.unit.lab.oracle_cpus import CORTEX_A57, MAX

ROOT = 0x5000_0000
EL2_BLOCK = {
    "HCR_EL2": 1 << 31,
    "SCTLR_EL2": 0x30C5_0835,
    "TCR_EL2": 0x8085_3519,
    "TTBR0_EL2": ROOT,
    "MAIR_EL2": 0xFF,
}


def case(operation: Operation = Operation.S1E2R, leaf: int = 0x7000_0701, **changes: Any) -> Case:
    made = Case("cortex-a57", Regime.EL2, operation, 0x4012_3456, EL2_BLOCK, {ROOT + 8: leaf})
    return replace(made, **changes)


def answer(status: Status = Status.PAR, **values: int) -> Answer:
    names = ("par", "esr_el3", "elr_el3", "far_el3", "esr_el1", "far_el1", "elr_el1", "esr_el2")
    empty = dict.fromkeys((*names, "far_el2", "elr_el2", "hpfar_el2"), 0)
    return Answer(status, **{**empty, "esr_el1": UNTOUCHED, "esr_el2": UNTOUCHED, **values})


class TestAnswers:
    def test_par(self) -> None:
        assert observed(case(), answer(par=0xFF00_0000_4012_3B80)) == {
            "outcome": "PAR",
            "F": 0,
            "PA": 0x4012_3000,
            "ATTR": 0xFF,
            "SH": 3,
        }
        assert observed(case(), answer(par=0x31F)) == {"outcome": "PAR", "F": 1, "FST": 0x0F, "S": 1, "PTW": 1}

    def test_a_fetch_that_arrived(self) -> None:
        told = answer(Status.FROM_LOWER, esr_el3=0x5E00_0000 | LANDING, elr_el3=0x4000_0004)
        assert observed(case(Operation.FETCH_EL2), told) == {"outcome": "executed", "PC": 0x4000_0000}

    def test_an_exception_that_a_vector_told_of(self) -> None:
        told = answer(
            Status.FROM_LOWER, esr_el3=0x5E00_0204, esr_el2=0x8600_000F, far_el2=0x1000, elr_el2=0x1000, hpfar_el2=0x20
        )
        assert observed(case(Operation.FETCH_EL2), told) == {
            "outcome": "exception",
            "to": 2,
            "slot": 4,
            "ESR": 0x8600_000F,
            "FAR": 0x1000,
            "ELR": 0x1000,
            "HPFAR": 0x20,
        }

    def test_stuck_is_what_is_at_the_instruction_that_its_last_exception_came_from(self) -> None:
        at_vector = answer(Status.NEVER_ENDED, esr_el1=0x8600_0007, far_el1=0x200, elr_el1=0x200, elr_el3=0x200)
        assert observed(case(Operation.FETCH_EL1), at_vector)["outcome"] == "stuck"
        for elsewhere in ({}, {"esr_el1": 0x8600_0007, "elr_el1": 0x200}):
            found = observed(case(Operation.FETCH_EL1), answer(Status.NEVER_ENDED, elr_el3=0x1000, **elsewhere))
            assert found == {"outcome": "never ended", "PC": 0x1000}

    def test_what_is_no_smc_of_ours_went_astray(self) -> None:
        assert observed(case(), answer(Status.FROM_LOWER, esr_el3=0x0200_0000))["outcome"] == "went astray"


class TestPredictions:
    def test_read_and_write(self) -> None:
        found = predict(case(), CORTEX_A57).observation
        assert found == {"outcome": "PAR", "F": 0, "PA": 0x4012_3000, "ATTR": 0xFF, "SH": 3}
        read_only = predict(case(Operation.S1E2W, 0x4000_0781), CORTEX_A57).observation
        assert read_only == {"outcome": "PAR", "F": 1, "FST": 0x0D, "S": 0, "PTW": 0}

    def test_a_fetch_that_freezes(self) -> None:
        registers = {**EL2_BLOCK, "VBAR_EL2": 0x8000_0000}
        frozen = case(Operation.FETCH_EL2, 0x4000_0701 | 1 << 54, registers=registers, va=0x4000_1000)
        assert predict(frozen, CORTEX_A57).observation == {
            "outcome": "stuck",
            "to": 2,
            "ESR": 0x8600_0005,
            "FAR": 0x8000_0200,
            "ELR": 0x8000_0200,
        }

    @pytest.mark.parametrize("byte", [0x00, 0x04, 0x08, 0x0C, 0x44, 0xFF, 0xBB, 0x77, 0x4F, 0xF4, 0x33, 0x99])
    def test_attributes_go_there_and_back(self, byte: int) -> None:
        assert par_attributes(memory_type_of_mair_byte(byte), CORTEX_A57) == byte

    def test_attributes_that_need_a_feature(self) -> None:
        with_xs = {**MAX, "ID_AA64ISAR1_EL1": 1 << 56}
        for byte in (0x40, 0xA0, 0x01, 0x05):
            assert par_attributes(memory_type_of_mair_byte(byte), CORTEX_A57) is None
            assert par_attributes(memory_type_of_mair_byte(byte), with_xs) == byte


def wrong_output(*arguments: Any, **options: Any) -> Any:
    found = walk(*arguments, **options)
    return found if found.pa is None else replace(found, pa=found.pa ^ 0x1000)


def wrong_level(*arguments: Any, **options: Any) -> Any:
    found = walk(*arguments, **options)
    fault = found.fault
    if fault is None or fault.kind is not FaultKind.TRANSLATION or fault.level < 1:
        return found
    return replace(found, fault=replace(fault, level=fault.level - 1))


def never_denies_writes(*arguments: Any, **options: Any) -> Any:
    found = walk(*arguments, **options)
    if found.pa is None:
        return found
    return replace(found, privileged=replace(found.privileged, write=found.privileged.read))


def wrong_type(*arguments: Any, **options: Any) -> Any:
    found = walk(*arguments, **options)
    return found if found.memory_type is None else replace(found, memory_type=memory_type_of_mair_byte(0x0C))


@pytest.mark.parametrize(
    ("planted", "fact"), [(wrong_output, "PA"), (wrong_level, "FST"), (never_denies_writes, "F"), (wrong_type, "ATTR")]
)
def test_a_planted_bug_is_found(planted: Any, fact: str) -> None:
    """What the right walk says is taken for QEMU's answer; the wrong walk then disagrees."""
    judge = Judge(MAX, [])
    generator, space = Generator("max", judge, "planted"), Space(random.Random())
    found: set[str] = set()
    for number in range(150):
        question = generator.question(number, space)
        if question.case.operation.is_fetch:
            continue
        right = question.expectation.observation
        wrong = predict(question.case, MAX, space.words, planted).observation
        found |= differences(wrong, right).keys()
    assert fact in found


def test_only_what_is_predicted_is_compared() -> None:
    expected: Observation = {"outcome": "PAR", "F": 0, "PA": 0x1000}
    assert differences(expected, {"outcome": "PAR", "F": 0, "PA": 0x1000, "ATTR": 0xFF}) == {}
    assert differences(expected, {"outcome": "PAR", "F": 0, "PA": 0x2000}) == {"PA": (0x1000, 0x2000)}


def test_the_type_of_an_external_abort_is_not_compared() -> None:
    assert differences({"ESR": 0x8600_0014}, {"ESR": 0x8600_0214}) == {}
    assert differences({"ESR": 0x8600_0004}, {"ESR": 0x8600_0204}) != {}


class TestShrinking:
    def test_keeps_only_what_matters(self) -> None:
        big = case(leaf=0x0060_0000_7000_0F85, va=0xFFFF_4012_3456, pan=True)
        big = replace(big, memory={**big.memory, 0x5000_0100: 0x1234, 0x5000_0200: 0x5678})

        def disagrees(now: Case) -> bool:
            leaf = now.memory.get(ROOT + 8, 0)
            return bool(leaf & 1 and leaf & 1 << 53 and now.va & 1 << 30 and now.registers["TCR_EL2"] & 8)

        small = shrink(big, disagrees)
        assert small.memory == {ROOT + 8: 1 | 1 << 53}
        assert (small.va, small.pan) == (1 << 30, False)
        assert {name: value for name, value in small.registers.items() if value} == {
            "HCR_EL2": 1 << 31,  # EL1 stays AArch64
            "TCR_EL2": 8,
        }

    def test_a_case_that_cannot_be_smaller_stays(self) -> None:
        assert shrink(case(), lambda now: now == case()) == case()


class TestDeviations:
    def test_each_has_its_own_id_text_and_source(self) -> None:
        ids = [deviation.id for deviation in DEVIATIONS]
        assert len(set(ids)) == len(ids)
        assert all(deviation.text and deviation.source for deviation in DEVIATIONS)

    def test_one_that_is_not_present_excuses_nothing(self) -> None:
        device = case(leaf=0x4000_0401, registers={**EL2_BLOCK, "MAIR_EL2": 0})  # Device memory, SH 0
        as_old_qemu = answer(par=0x0000_0000_4012_3800)
        strict = Judge(CORTEX_A57, [])
        assert strict.differences(device, strict.expect(device), as_old_qemu) == {"SH": (2, 0)}
        with_d8 = Judge(CORTEX_A57, [deviation for deviation in DEVIATIONS if deviation.id == "D8"])
        expectation = with_d8.expect(device)
        assert expectation.deviations == ("D8",)
        assert with_d8.differences(device, expectation, as_old_qemu) == {}
        assert with_d8.differences(device, expectation, answer(par=0x0000_0000_4012_3900)) == {"SH": (0, 2)}

    def test_one_that_counts_only_where_another_has_led_the_walk(self) -> None:
        """D11 makes the missing 16K granule 4K, and then D19 ignores APTable[1] under HPD."""
        registers = {**EL2_BLOCK, "TCR_EL2": 1 << 31 | 1 << 24 | 1 << 23 | 5 << 16 | 2 << 14 | 16}
        memory = {ROOT: (ROOT + 0x1000) | 1 << 62 | 3, ROOT + 0x1008: 0x4000_0701}
        written = case(Operation.S1E2W, registers=registers, memory=memory)
        both = [deviation for deviation in DEVIATIONS if deviation.id in ("D11", "D19")]
        for deviations in (both, both[::-1]):
            expectation = Judge(CORTEX_A57, deviations).expect(written)
            assert set(expectation.deviations) == {"D11", "D19"}
            assert expectation.prediction.observation["FST"] == 0x04
            assert (expectation.observation["F"], expectation.observation["PA"]) == (0, 0x4012_3000)

    @pytest.mark.parametrize(("cpu", "asked"), [(CORTEX_A57, False), (MAX, True)])
    def test_a_reserved_memory_type_of_a_table_is_not_asked(self, cpu: dict[str, int], asked: bool) -> None:
        """HCR_EL2.PTW, and a stage 1 table under MemAttr 0b1000: reserved, but Device memory where FWB counts."""
        hcr = 1 << 46 | 1 << 31 | 1 << 2 | 1
        registers = {
            **dict.fromkeys(REGISTERS, 0),
            "HCR_EL2": hcr,
            "SCTLR_EL1": 1,
            "TCR_EL1": 5 << 32 | 25,
            "VTCR_EL2": 1 << 31 | 4 << 16 | 1 << 6 | 25,
            "VTTBR_EL2": ROOT,
        }
        table = Case("any", Regime.EL1_0, Operation.S1E1R, 0x1000, registers, {ROOT: 1 << 10 | 3 << 6 | 8 << 2 | 1})
        judge = Judge(cpu, [deviation for deviation in DEVIATIONS if deviation.unpredictable])
        assert judge.expect(table).askable is asked
