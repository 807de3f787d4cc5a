"""The oracle's records, memory, random cases: what does not need QEMU."""

from __future__ import annotations

import random
import re
import struct
from collections import Counter

import pytest

from kexecdbg.arm64.regimes import Regime
from kexecdbg.errors import MemoryUnreadableError
from kexecdbg.lab.oracle import cases
from kexecdbg.lab.oracle.cases import Case, CaseMemory, NotAskableError, Operation, Status
from kexecdbg.lab.oracle.generate import GRANULES, Generator, Question
from kexecdbg.lab.oracle.judge import Judge
from kexecdbg.lab.oracle.sparse_tables import Space
from kexecdbg.resources import data_root
from tests.unit.lab.oracle_cpus import CORTEX_A57, MAX

SOURCE = (data_root() / "qemu-scripts" / "guest" / "oracle.s").read_text()


def offset_of(name: str) -> int:
    """What oracle.s says about the record's field ``name``."""
    match = re.search(rf"^\s*\.equ\s+R_{name}, (\d+)$", SOURCE, re.MULTILINE)
    assert match is not None, name
    return int(match[1])


def questions(seed: str, count: int, cpu: str = "max") -> list[Question]:
    generator = Generator(cpu, Judge(MAX if cpu == "max" else CORTEX_A57, []), seed)
    space = Space(random.Random())
    return [generator.question(number, space) for number in range(count)]


class TestRecord:
    def test_registers_are_where_the_guest_reads_them(self) -> None:
        values = {name: 0x1000 + index for index, name in enumerate(cases.REGISTERS)}
        case = Case("max", Regime.EL1_0, Operation.S1E1WP, 0xABCD, values, {}, pan=True)
        record = cases.pack_question(case)
        assert len(record) == cases.ANSWER_OFFSET == offset_of("STATUS")
        words = struct.unpack("<24Q", record)
        for name, value in values.items():
            assert words[offset_of(name) // 8] == value
        assert words[offset_of("OP") // 8] == 5
        assert words[offset_of("VA") // 8] == 0xABCD
        assert words[offset_of("PAN") // 8] == 1
        assert words[offset_of("BASE_TTBR0_EL3") // 8] == cases.EL3_TABLE_LITTLE
        assert offset_of("SIZE") == cases.RECORD_SIZE

    def test_the_identity_map_of_el3_is_in_the_byte_order_of_the_case(self) -> None:
        case = Case("max", Regime.EL3, Operation.S1E3R, 0, {"SCTLR_EL3": 1 << 25}, {})
        assert struct.unpack("<24Q", cases.pack_question(case))[-1] == cases.EL3_TABLE_BIG

    @pytest.mark.parametrize(("operation", "mode"), [("FETCH_EL0", 0), ("FETCH_EL1", 5), ("FETCH_EL2", 9)])
    def test_a_fetch_goes_to_its_level_with_interrupts_masked(self, operation: str, mode: int) -> None:
        record = cases.pack_question(Case("max", Regime.EL1_0, Operation[operation], 0, {}, {}))
        assert struct.unpack("<24Q", record)[offset_of("SPSR") // 8] == 0x3C0 | mode

    def test_answers(self) -> None:
        names = ["STATUS", "PAR", "ESR_EL3", "ELR_EL3", "FAR_EL3", "ESR_EL1", "FAR_EL1", "ELR_EL1", "ESR_EL2"]
        names += ["FAR_EL2", "ELR_EL2", "HPFAR_EL2"]
        data = bytearray(cases.RECORD_SIZE - cases.ANSWER_OFFSET)
        for index, name in enumerate(names):
            struct.pack_into("<Q", data, offset_of(name) - cases.ANSWER_OFFSET, index + 2)
        answer = cases.unpack_answer(bytes(data))
        assert answer.status is Status.FROM_LOWER
        assert [answer.par, answer.esr_el3, answer.elr_el3, answer.far_el3] == [3, 4, 5, 6]
        assert [answer.esr_el1, answer.far_el1, answer.elr_el1] == [7, 8, 9]
        assert [answer.esr_el2, answer.far_el2, answer.elr_el2, answer.hpfar_el2] == [10, 11, 12, 13]

    @pytest.mark.parametrize("operation", [each for each in Operation if each.facts.code < 12])
    def test_each_at_is_at_its_number_in_the_guests_table(self, operation: Operation) -> None:
        listed = re.findall(r"^\s*translate 0x[0-9a-f]+\s*// (\S+)$", SOURCE, re.MULTILINE)
        assert f"AT {listed[operation.facts.code]}" == operation.value


class TestMemory:
    def test_words_and_zeros(self) -> None:
        memory = CaseMemory({0x5000_0000: 0x1122_3344_5566_7788})
        assert memory.read(0x5000_0000, 8) == bytes.fromhex("8877665544332211")
        assert memory.read(0x5000_0000, 16)[8:] == bytes(8)
        assert memory.reads == [0x5000_0000]

    def test_the_hole_answers_nothing(self) -> None:
        with pytest.raises(MemoryUnreadableError):
            CaseMemory({}).read(cases.HOLE.start, 8)

    @pytest.mark.parametrize("address", [0x0900_0000, 0x4020_0000, 0x80_0000_0000], ids=hex)
    def test_devices_and_the_guest_itself_are_left_alone(self, address: int) -> None:
        with pytest.raises(NotAskableError):
            CaseMemory({}).read(address, 8)


class TestGeneration:
    def test_the_seed_decides(self) -> None:
        first, second = questions("7", 40), questions("7", 40)
        assert [question.case for question in first] == [question.case for question in second]
        assert [question.case for question in first] != [question.case for question in questions("8", 40)]

    def test_cases_of_a_batch_share_nothing(self) -> None:
        taken: set[int] = set()
        for question in questions("3", 200):
            assert taken.isdisjoint(question.case.memory)
            taken.update(question.case.memory)
            assert all(cases.RESERVED_END <= address < cases.RAM_END for address in question.case.memory)

    def test_every_shape_comes_up(self) -> None:
        found = questions("5", 1500)
        regimes = Counter((question.case.regime, question.granule) for question in found)
        assert regimes.keys() == {(regime, granule) for regime in Regime for granule in GRANULES}
        assert {question.case.operation for question in found} == set(Operation)
        predictions = [question.expectation.prediction for question in found]
        levels = {step.level for prediction in predictions for walk in prediction.walks for step in walk.levels}
        assert levels == {-1, 0, 1, 2, 3}
        stage2 = [walk.stage2 for prediction in predictions for walk in prediction.walks if walk.stage2]
        assert {step.level for walk in stage2 for step in walk.levels} == {-1, 0, 1, 2, 3}
        faults = {prediction.fault.text.split(",")[0] for prediction in predictions if prediction.fault}
        assert faults == {
            "Translation fault",
            "Address size fault",
            "Access flag fault",
            "Permission fault",
            "Unknown outcome: a table could not be read",
        }
        assert {prediction.observation["outcome"] for prediction in predictions} == {
            "PAR",
            "executed",
            "exception",
            "stuck",
        }
        succeeded = sum(prediction.fault is None for prediction in predictions)
        assert 0.2 < succeeded / len(predictions) < 0.6

    def test_a_cpu_without_vhe_or_pan_is_not_asked_for_them(self) -> None:
        found = questions("5", 300, "cortex-a57")
        assert Regime.EL2_0 not in {question.case.regime for question in found}
        assert not any(question.case.operation.facts.pan for question in found)
