"""What people read: whole texts against small golden files (tests/data/ui), and that colour changes nothing else."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from kexecdbg.arm64.instructions import decode_instruction
from kexecdbg.checks.prediction import ExceptionRecord
from kexecdbg.checks.stepping import Observation, RegisterChange, StepRecord
from kexecdbg.ui.json_form import number
from kexecdbg.ui.step_text import comparison_text, step_text
from kexecdbg.ui.style import Style, hanging, style_for
from kexecdbg.ui.verdict_json import exception_json, verdict_json
from kexecdbg.ui.verdict_text import verdict_text
from kexecdbg.ui.walk_json import walk_json
from kexecdbg.ui.walk_text import walk_text
from tests.unit.checks.moments import CODE, EXEC, NEXT, SCTLR, SITE, UXN, VECTORS, ZEROS, Moment

GOLDEN = Path(__file__).parents[2] / "data/ui"
FROZEN = Moment(code=EXEC | UXN, vectors=None).verdict()
SOUND = Moment().verdict()
PLAIN, COLOURED = Style(), Style(colour=True)

MSR = decode_instruction(0xD51C_100E, SITE)
STEP = StepRecord(MSR, (RegisterChange("SCTLR_EL2", 0, SCTLR), RegisterChange("PSTATE", 0x6000_03C9, 0x8000_03C9)))
AS_PREDICTED = Observation((), FROZEN.prediction.first, FROZEN.prediction.then, followed=True)
NOTHING_HAPPENED = Observation((), None, None, followed=True)

TEXTS: dict[str, Callable[[Style], str]] = {
    "verdict-faults": lambda style: verdict_text(FROZEN, style),
    "verdict-sound": lambda style: verdict_text(SOUND, style),
    "walk": lambda style: walk_text(FROZEN.situation.fetch, style),
    "comparison": lambda style: comparison_text(FROZEN, AS_PREDICTED, style),
    "difference": lambda style: comparison_text(FROZEN, NOTHING_HAPPENED, style),
    "step": lambda style: step_text(STEP, style),
}


@pytest.mark.parametrize("name", ["verdict-faults", "verdict-sound", "walk"])
def test_golden(name: str) -> None:
    assert TEXTS[name](PLAIN) + "\n" == (GOLDEN / f"{name}.txt").read_text()


@pytest.mark.parametrize("text", TEXTS.values(), ids=list(TEXTS))
def test_no_line_is_wider_than_80_columns_or_ends_in_blanks(text: Callable[[Style], str]) -> None:
    lines = text(PLAIN).splitlines()
    assert [line for line in lines if len(line) > 80 or line != line.rstrip()] == []


@pytest.mark.parametrize("text", TEXTS.values(), ids=list(TEXTS))
def test_colour_adds_escapes_and_nothing_else(text: Callable[[Style], str]) -> None:
    coloured = text(COLOURED)
    assert "\x1b[" in coloured and "\x1b" not in text(PLAIN)
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == text(PLAIN)


def test_an_unknown_verdict_says_why() -> None:
    text = verdict_text(Moment(registers={"TTBR0_EL2": 0x2_0000_0000}).verdict(), PLAIN)
    assert text.startswith("UNKNOWN: ")
    assert "the level 0 descriptor at 0x200000000 cannot be read" in " ".join(text.split())


def test_prediction_and_observation_stand_side_by_side() -> None:
    assert comparison_text(FROZEN, AS_PREDICTED, PLAIN).splitlines() == [
        "                  predicted                      observed",
        "1st  ESR          0x8600000f                     0x8600000f",
        "     FAR = ELR    0x140100124                    0x140100124",
        "2nd  ESR          0x86000006                     0x86000006",
        "     FAR = ELR    0x140400200                    0x140400200",
        "1st syndrome: Instruction Abort, same EL: Permission fault, level 3",
        "prediction and observation agree",
    ]


def test_a_difference_is_said_and_shown() -> None:
    lines = comparison_text(FROZEN, NOTHING_HAPPENED, PLAIN).splitlines()
    assert lines[1] == "1st  ESR          0x8600000f                     no exception"
    assert lines[-1] == "prediction and observation DIFFER"


def test_a_far_that_does_not_count_is_not_compared() -> None:
    verdict = Moment(to=ZEROS).verdict()
    observed = Observation((), ExceptionRecord(0x0200_0000, 0x1234, NEXT), None, followed=False)
    text = comparison_text(verdict, observed, PLAIN)
    assert "FAR" not in text and text.endswith("prediction and observation agree")


def test_a_step_shows_registers_and_flags() -> None:
    assert step_text(STEP, PLAIN) == ("0x140100120  msr sctlr_el2, x14              SCTLR_EL2=0x30e5183f flags=Nzcv")
    assert step_text(StepRecord(MSR, ()), PLAIN) == "0x140100120  msr sctlr_el2, x14"
    mode = StepRecord(MSR, (RegisterChange("PSTATE", 0x3C9, 0x3C5),))
    assert step_text(mode, PLAIN).endswith(" PSTATE=0x3c5")


def test_hanging_indents_further_lines() -> None:
    lines = hanging("label", "word " * 30, 8).splitlines()
    assert lines[0].startswith("label   word") and all(line.startswith(" " * 8 + "word") for line in lines[1:])
    assert max(map(len, lines)) <= 80
    assert hanging("longer than the indent", "text", 5) == "longer than the indent text"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stream", "environment", "colour"),
    [
        (Terminal(), {"TERM": "xterm"}, True),
        (io.StringIO(), {"TERM": "xterm"}, False),
        (Terminal(), {"TERM": "dumb"}, False),
        (Terminal(), {"TERM": "xterm", "NO_COLOR": "1"}, False),
        (Terminal(), {"TERM": "xterm", "NO_COLOR": ""}, True),  # https://no-color.org: when not empty
    ],
)
def test_when_there_is_colour(
    stream: io.StringIO, environment: dict[str, str], colour: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert style_for(stream) == Style(colour=colour)


def test_the_json_of_a_verdict() -> None:
    document = verdict_json(FROZEN)
    assert (document["verdict"], document["site"], document["regime"], document["el"]) == (
        "faults", f"{SITE:#x}", "EL2", 2,
    )  # fmt: skip
    assert document["predicted"] == {
        "first": {"esr": "0x8600000f", "far": f"{NEXT:#x}", "elr": f"{NEXT:#x}"},
        "then": {"esr": "0x86000006", "far": f"{VECTORS + 0x200:#x}", "elr": f"{VECTORS + 0x200:#x}"},
        "outcome": "spins",
        "at": {"pc": f"{NEXT:#x}", "text": "nop", "access": "fetch", "address": f"{NEXT:#x}", "executed": 0},
    }
    m01 = document["findings"][0]
    assert m01["evidence"]["descriptor"] == f"{CODE | EXEC | UXN:#x}"
    assert (m01["evidence"]["bit"], m01["evidence"]["level"]) == (54, 3)
    assert m01["repair"]["new"] == f"{CODE | EXEC:#x}"


def test_the_json_of_a_walk() -> None:
    document = walk_json(FROZEN.situation.fetch)
    assert [level["kind"] for level in document["levels"]] == ["table", "table", "table", "page"]
    assert document["result"]["pa"] == f"{NEXT:#x}"
    assert document["result"]["faults"]["read"] is None
    assert document["result"]["faults"]["fetch"]["esr"] == "0x8600000f"
    vector = walk_json(FROZEN.situation.vector_fetch)
    assert (vector["result"]["pa"], vector["result"]["fault"]["esr"]) == (None, "0x96000006")


def test_unknown_is_null_in_json() -> None:
    assert (number(None), number(0), exception_json(None)) == (None, "0x0", None)
    assert exception_json(ExceptionRecord(1, None, 2)) == {"esr": "0x1", "far": None, "elr": "0x2"}
