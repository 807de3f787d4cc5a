"""``kexecdbg trace`` on the corpus: whole texts against golden files, and what the filters let through."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kexecdbg.ui.cli import main
from tests.traces.corpus import FOLDER, FREEZE, REPAIRED, kernel_traces, lab_traces

END_FRAME = 20
"""Bytes of a trace's last frame."""
GOLDEN = {
    "freeze": [FREEZE],
    "freeze-fault": [FREEZE, "--step", "3922"],
    "freeze-table": [FREEZE, "--writes", "TTBR0_EL2"],
    "freeze-exceptions": [FREEZE, "--exceptions"],
    "freeze-switch": [FREEZE, "--from", "3915", "--to", "3923", "--all"],
    "freeze-diff": [FREEZE, "--diff", f"{REPAIRED}.kxt"],
    "copy": ["K03", "--folded"],
    "copy-step": ["K03", "--step", "77"],
}
"""Golden files, and what ``kexecdbg trace`` is given to print them."""


@pytest.fixture(autouse=True)
def in_the_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(FOLDER)


def printed(capsys: pytest.CaptureFixture[str], name: str, *options: str) -> str:
    main(["trace", f"{name}.kxt", *options])
    return capsys.readouterr().out


def listed(capsys: pytest.CaptureFixture[str], name: str, *options: str) -> list[Any]:
    steps: list[Any] = json.loads(printed(capsys, name, "--json", "--limit", "0", *options))["listed"]
    return steps


@pytest.mark.parametrize("golden", GOLDEN)
def test_golden(capsys: pytest.CaptureFixture[str], golden: str) -> None:
    name, *options = GOLDEN[golden]
    assert printed(capsys, name, *options) == (FOLDER / "golden" / f"{golden}.txt").read_text()


def test_a_stored_pair_is_two_numbers_in_whole_lines(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys, "nvhe-jump", "--step", "45").splitlines()[1:3] == [
        "writes     16 bytes at 0xffff000001c00010 (physical 0x41c00010)",
        "             0x1ab0000 0xa",
    ]


@pytest.mark.parametrize(
    ("register", "says"),
    [
        ("PC", "--writes PC: every step does; --all lists them, --pc ADDRESS those at an address"),
        ("nzcv", "--writes nzcv: NZCV was not recorded; give PSTATE, which it is a part of"),
        ("TPIDR_EL3", "--writes TPIDR_EL3: TPIDR_EL3 was not recorded"),
    ],
)
def test_a_register_without_changes_to_list_is_refused(
    capsys: pytest.CaptureFixture[str], register: str, says: str
) -> None:
    assert main(["trace", f"{FREEZE}.kxt", "--writes", register]) == 2
    assert capsys.readouterr().err == f"kexecdbg: {says}\n"


def test_steps_behind_the_last_are_said_not_to_be(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys, FREEZE, "--from", "9999").endswith("\nno such step\n")


@pytest.mark.parametrize("name", [*lab_traces(), *kernel_traces()])
def test_no_line_is_wider_than_80_columns(capsys: pytest.CaptureFixture[str], name: str) -> None:
    lines = (printed(capsys, name) + printed(capsys, name, "--all", "--limit", "60")).splitlines()
    assert [line for line in lines if len(line) > 80 or line != line.rstrip()] == []


def test_runs_that_part_end_with_status_1_and_the_same_run_with_0() -> None:
    assert main(["trace", f"{FREEZE}.kxt", "--diff", f"{REPAIRED}.kxt"]) == 1
    assert main(["trace", f"{FREEZE}.kxt", "--diff", f"{FREEZE}.kxt"]) == 0


def test_damage_is_said_before_two_runs_are_called_the_same(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    cut = tmp_path / "cut.kxt"
    cut.write_bytes((FOLDER / f"{FREEZE}.kxt").read_bytes()[:-END_FRAME])
    said = printed(capsys, FREEZE, "--diff", str(cut))
    assert "are the same\n" in said and "warning    cut.kxt: the recording was cut off" in said
    document = json.loads(printed(capsys, FREEZE, "--diff", str(cut), "--json"))
    assert document["same"] and len(document["warnings"]) == 1


def test_kvm_returns_to_el1_after_its_last_step_at_el2(capsys: pytest.CaptureFixture[str]) -> None:
    at_el2, at_el1 = (listed(capsys, "nvhe-kvm", "--el", el) for el in ("2", "1"))
    assert at_el2[-1]["text"] == "eret"
    assert [step["step"] for step in (*at_el2, *at_el1)] == list(range(len(at_el2) + len(at_el1)))
    assert at_el1


def test_filters_hold_all_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    (write,) = listed(capsys, "nvhe-kvm", "--writes", "TTBR0_EL2", "--el", "2")
    assert write["text"] == "msr ttbr0_el2, x2"
    assert listed(capsys, "nvhe-kvm", "--writes", "TTBR0_EL2", "--el", "1") == []
