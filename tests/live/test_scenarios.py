"""Every scenario of the lab: the check's findings, and prediction against stepping and against QEMU's own log."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator

import pytest

from kexecdbg.lab.scenario import SOUND
from kexecdbg.lab.scenarios import all_scenarios
from kexecdbg.session.scenario import GdbPool, run_scenario
from tests.live.machines import SECONDS

SCENARIOS = all_scenarios()


@pytest.fixture(scope="module")
def pool() -> Iterator[GdbPool]:
    with GdbPool() as gdbs:
        yield gdbs


@pytest.mark.parametrize("name", SCENARIOS)
def test_scenario(name: str, pool: GdbPool) -> None:
    scenario = SCENARIOS[name]
    result = run_scenario(scenario, pool)
    assert result.problem == ""
    assert result.found == scenario.expected
    assert result.agrees, (result.check["predicted"], result.observed, result.logged)
    if scenario.entry == SOUND:
        assert (result.check["verdict"], result.ran_on) == ("sound", True)


def lab(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "kexecdbg", "lab", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)


def test_the_command_runs_scenarios_and_reports_them_in_the_order_asked_for() -> None:
    result = lab("run", "--json", "sound-EL1-4K", "M01", "--jobs", "3", "A")
    assert (result.returncode, result.stderr) == (0, "")
    document = json.loads(result.stdout)
    assert [(s["id"], s["agrees"], s["verdict"]) for s in document["scenarios"]] == [
        ("sound-EL1-4K", True, "sound"),
        ("M01", True, "faults"),
        ("A", True, "faults"),
    ]
    assert (document["precision"], document["recall"]) == (1, 1)
    frozen = document["scenarios"][2]
    first = {"esr": "0x8600000f", "far": "0x1b3080124", "elr": "0x1b3080124"}
    assert frozen["predicted"]["first"] == frozen["observed"]["first"] == frozen["logged"]["first"] == first


def test_the_text_says_what_was_found_and_seen() -> None:
    result = lab("run", "M01", "sound-EL2-4K")
    assert (result.returncode, result.stderr) == (0, "")
    assert [line.strip() for line in result.stdout.splitlines()[:-1]] == [
        "M01           EL2: bit 54 of the code's page set, as EL1's kernel attributes",
        "have it",
        "agrees  M01; observed: ESR 0x8600000f",
        "sound-EL2-4K  EL2: 4K pages, 48-bit addresses",
        "agrees  no finding; observed: ran on",
    ]
    assert result.stdout.splitlines()[-1].startswith("2 of 2 agree; precision 1, recall 1; ")


def test_the_list_has_every_scenario() -> None:
    listed = json.loads(lab("list", "--json").stdout)["scenarios"]
    assert [scenario["id"] for scenario in listed] == list(SCENARIOS)
    text = lab("list").stdout
    assert max(map(len, text.splitlines())) <= 80
    assert [line.split()[0] for line in text.splitlines() if not line.startswith(" ")] == list(SCENARIOS)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run"], "name scenarios, or give --all; `kexecdbg lab list` lists them"),
        (["run", "M99"], "no scenario is called M99; `kexecdbg lab list` lists them"),
        (["run", "A", "--jobs", "0"], "--jobs 0: at least 1 is needed"),
    ],
)
def test_usage(arguments: list[str], message: str) -> None:
    result = lab(*arguments)
    assert (result.returncode, result.stdout, result.stderr) == (2, "", f"kexecdbg: {message}\n")
