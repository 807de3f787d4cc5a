"""What kexec-why prints: golden files (tests/data/ui), width, colour, and the last line, which says what to type."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from kexecdbg.checks.prediction import ExceptionRecord
from kexecdbg.checks.stuck.diagnosis import Diagnosis
from kexecdbg.checks.stuck.watch import Sample, Watch
from kexecdbg.ui.style import Style
from kexecdbg.ui.why_json import diagnosis_json
from kexecdbg.ui.why_text import summary, why_text
from tests.unit.checks.moments import CODE, EXEC, NARROW, NEXT, SITE, UXN, ZEROS, Moment
from tests.unit.checks.stuck_moments import (
    B_BACK_4,
    B_SELF,
    NOP,
    VECTOR,
    WFI,
    diagnosis,
    frozen,
    spinning,
    vector_page,
)

GOLDEN = Path(__file__).parents[2] / "data/ui"
FREEZE = Moment(code=EXEC | UXN, vectors=None)
RESTING = Moment(code=EXEC | UXN, extra=vector_page(B_SELF))
WRONG_T0SZ = Moment(registers={"TCR_EL2": NARROW + 9})
NOT_FOUND = Moment(code=EXEC | UXN, vectors=None, instructions={SITE: NOP})
PARKED = Moment(instructions={CODE + 0x800: WFI, CODE + 0x804: B_BACK_4})
THEN = ExceptionRecord(0x8600_0006, VECTOR, VECTOR)

FOUND: dict[str, Diagnosis] = {
    "why-vector-loop": diagnosis(FREEZE, spinning(FREEZE)),
    "why-rests": diagnosis(RESTING, frozen(RESTING, ExceptionRecord(0x8600_000F, NEXT, NEXT))),
    "why-no-switch": diagnosis(NOT_FOUND, frozen(NOT_FOUND, THEN)),
    "why-zeros": diagnosis(RESTING, frozen(RESTING, ExceptionRecord(0x0200_0000, None, ZEROS))),
    "why-registers": diagnosis(WRONG_T0SZ, spinning(WRONG_T0SZ)),
    "why-parked": diagnosis(PARKED, {**PARKED.values(), "X14": 0, "PC": CODE + 0x804}),
    "why-runs": diagnosis(FREEZE, {**FREEZE.values(), "PC": CODE}),
}


@pytest.mark.parametrize("name", ["why-vector-loop", "why-rests", "why-no-switch", "why-parked"])
def test_golden(name: str) -> None:
    assert why_text(FOUND[name], None, Style()) + "\n" == (GOLDEN / f"{name}.txt").read_text()


@pytest.mark.parametrize("name", FOUND)
def test_no_line_is_wider_than_80_columns_or_ends_in_blanks(name: str) -> None:
    lines = why_text(FOUND[name], None, Style()).splitlines()
    assert [line for line in lines if len(line) > 80 or line != line.rstrip()] == []


@pytest.mark.parametrize("name", FOUND)
def test_colour_adds_escapes_and_nothing_else(name: str) -> None:
    coloured = why_text(FOUND[name], None, Style(colour=True))
    assert "\x1b[" in coloured
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == why_text(FOUND[name], None, Style())


@pytest.mark.parametrize(
    ("name", "beginning"),
    [
        ("why-vector-loop", f"STUCK: at {VECTOR:#x}, the CPU faults on its own exception vector"),
        ("why-rests", f"STUCK: at {VECTOR:#x}, the CPU has taken an exception and rests in its handler"),
        ("why-parked", "NOT STUCK: "),
        ("why-runs", f"NOT STUCK: at {CODE:#x}, the CPU can go on"),
    ],
)
def test_the_verdict_comes_first(name: str, beginning: str) -> None:
    assert why_text(FOUND[name], None, Style()).startswith(beginning)


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("why-vector-loop", "kexec-fix"),
        ("why-rests", "kexec-fix"),
        ("why-no-switch", f"walk-ttbr0 {VECTOR:#x}"),
        ("why-registers", f"walk-ttbr0 {NEXT:#x}"),
        ("why-runs", "kexec-why --watch 64"),
    ],
)
def test_the_next_command_comes_last(name: str, command: str) -> None:
    text = why_text(FOUND[name], None, Style())
    assert command in text[text.rindex("\nnext ") :]


def test_the_next_command_names_the_cpu_that_was_asked_for() -> None:
    text = why_text(FOUND["why-no-switch"], None, Style(), cpu=2, several=True)
    assert f"\nnext       walk-ttbr0 --cpu 2 {VECTOR:#x}" in text and "kexec-regs --cpu 2" in text


def test_beside_a_cpu_that_is_not_stuck_another_one_may_be() -> None:
    text = why_text(FOUND["why-parked"], None, Style(), several=True)
    assert "\nnext       kexec-why --all-cpus" in text
    assert "--all-cpus" not in why_text(FOUND["why-vector-loop"], None, Style(), several=True)


def test_old_exceptions_of_a_cpu_that_is_not_stuck_are_left_out() -> None:
    """A kernel that idles has the syndrome of some system call."""
    svc = {"ESR_EL2": 0x5600_0000, "ELR_EL2": CODE + 0x40, "SPSR_EL2": 0x3C9}
    text = why_text(diagnosis(PARKED, {**PARKED.values(), **svc, "X14": 0, "PC": CODE + 0x804}), None, Style())
    assert "ESR_EL2" not in text


def test_a_summary_names_the_cause() -> None:
    assert summary(FOUND["why-vector-loop"], Style()).endswith(f"for ever; M01 at the switch, {SITE:#x}")


@pytest.mark.parametrize(
    ("samples", "exceptions", "said"),
    [
        ([THEN] * 4, 3, "3 instructions executed, 3 times the same exception: Instruction Abort, same EL"),
        ([THEN], 0, "0 instructions executed; the CPU got from"),
    ],
)
def test_what_was_watched(samples: list[ExceptionRecord], exceptions: int, said: str) -> None:
    taken = tuple(Sample(VECTOR, sample.esr, sample.far, sample.elr) for sample in samples)
    text = why_text(FOUND["why-vector-loop"], Watch(taken, taken[1 : exceptions + 1]), Style())
    assert said in " ".join(text.split())


@pytest.mark.parametrize("name", FOUND)
def test_the_document_can_be_written_as_json(name: str) -> None:
    document = json.loads(json.dumps(diagnosis_json(FOUND[name])))
    assert (document["stuck"], document["pc"]) == (FOUND[name].stuck, f"{FOUND[name].pc:#x}")


def test_the_document_of_the_freeze() -> None:
    document = diagnosis_json(FOUND["why-vector-loop"])
    assert document["condition"] == "vector_loop"
    assert document["syndrome"]["standing"] == "overwritten"
    assert document["switch"]["site"] == f"{SITE:#x}"
    assert document["switch"]["first"] == {"esr": "0x8600000f", "far": f"{NEXT:#x}", "elr": f"{NEXT:#x}"}
    assert [finding["id"] for finding in document["switch"]["check"]["findings"]][:1] == ["M01"]
    assert [repair["kind"] for repair in document["switch"]["repairs"]] == ["write_descriptor"]
