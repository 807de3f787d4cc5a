"""External aborts where the memory map says that nothing answers, and writes that are UNDEFINED."""

from __future__ import annotations

import pytest

from kexecdbg.checks.predicting import predict
from kexecdbg.checks.prediction import ExceptionRecord, Outcome, Prediction
from kexecdbg.checks.verdict import Judgement
from kexecdbg.lab.tables import TableBuilder
from tests.unit.checks.moments import CODE, EL1, EXEC, MACHINE, NEXT, SITE, UART, UXN, VECTORS, Moment

HOLE = 0x7_0000_0000
ON_WALK_LEVEL_2, OF_THE_FETCH, PERMISSION, UNDEFINED = 0x8600_0016, 0x8600_0010, 0x8600_000F, 0x0200_0000
MSR_SCTLR_EL2_X14, MSR_SCTLR_EL3_X14 = 0xD51C_100E, 0xD51E_100E
LDR_X1_FROM_X0 = 0xF940_0001


def table_in_hole(tables: TableBuilder) -> None:
    tables.set_descriptor(CODE, 1, HOLE | 3)


def vectors_in_hole(tables: TableBuilder) -> None:
    tables.map_page(VECTORS, HOLE, EXEC)


def abort(esr: int, address: int) -> ExceptionRecord:
    return ExceptionRecord(esr, address, address)


def spins(first: ExceptionRecord, then: ExceptionRecord) -> Prediction:
    return Prediction(first, then, Outcome.SPINS)


def what(prediction: Prediction) -> Prediction:
    return Prediction(prediction.first, prediction.then, prediction.outcome)


PREDICTIONS = {
    "the walk of the code": (
        Moment(adjust=table_in_hole, regions=MACHINE),
        spins(abort(ON_WALK_LEVEL_2, NEXT), abort(ON_WALK_LEVEL_2, VECTORS + 0x200)),
    ),
    "the code": (
        Moment(to=HOLE, regions=MACHINE),
        Prediction(abort(OF_THE_FETCH, NEXT), None, Outcome.IN_VECTOR),
    ),
    "the vectors": (
        Moment(code=EXEC | UXN, adjust=vectors_in_hole, regions=MACHINE),
        spins(abort(PERMISSION, NEXT), abort(OF_THE_FETCH, VECTORS + 0x200)),
    ),
    "data": (
        Moment(
            adjust=lambda tables: tables.map_page(HOLE, HOLE, EXEC),
            regions=MACHINE,
            registers={"X0": HOLE},
            instructions={NEXT: LDR_X1_FROM_X0},
        ),
        Prediction(ExceptionRecord(0x9600_0010, HOLE, NEXT), None, Outcome.IN_VECTOR),
    ),
}


@pytest.mark.parametrize("name", PREDICTIONS)
def test_an_access_that_nothing_answers_is_an_external_abort(name: str) -> None:
    moment, expected = PREDICTIONS[name]
    assert what(predict(moment.situation())) == expected


def test_code_mapped_to_a_hole_says_so() -> None:
    (finding,) = Moment(to=HOLE, regions=MACHINE).findings("M16")
    assert f"translates to {HOLE + SITE % 0x1000 + 4:#x}, where there is no memory" in finding.text
    assert finding.evidence["pa"] == HOLE + SITE % 0x1000 + 4


def test_without_a_memory_map_it_cannot_be_told() -> None:
    assert predict(Moment(adjust=table_in_hole).situation()).outcome is Outcome.UNKNOWN


def test_a_device_that_answers_is_no_abort() -> None:
    moment = Moment(
        adjust=lambda tables: tables.map_page(UART.start, UART.start, EXEC),
        regions=MACHINE,
        registers={"X0": UART.start},
        instructions={NEXT: LDR_X1_FROM_X0},
    )
    assert predict(moment.situation()).first is None


@pytest.mark.parametrize(
    "moment",
    [Moment(registers=EL1, instructions={SITE: MSR_SCTLR_EL2_X14}), Moment(instructions={SITE: MSR_SCTLR_EL3_X14})],
    ids=["EL2 at EL1", "EL3 at EL2"],
)
def test_the_write_itself_is_undefined(moment: Moment) -> None:
    verdict = moment.verdict()
    assert what(verdict.prediction) == Prediction(ExceptionRecord(UNDEFINED, None, SITE), None, Outcome.IN_VECTOR)
    assert verdict.judgement is Judgement.FAULTS
    assert [finding.id for finding in verdict.findings] == ["M27"]
