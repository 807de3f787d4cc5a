"""When a scenario agrees: prediction, stepping and QEMU's log, and the defects that QEMU lets pass."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from kexecdbg.lab.enable import EnableCase
from kexecdbg.lab.scenario import Scenario
from kexecdbg.session.scenario import ScenarioResult, precision_and_recall

FIRST = {"esr": "0x8600000f", "far": "0x180000028", "elr": "0x180000028"}
THEN = {"esr": "0x86000007", "far": "0x180020200", "elr": "0x180020200"}
UNDEFINED = {"esr": "0x2000000", "far": None, "elr": "0x180000028"}
NOTHING = {"first": None, "then": None}


def finding(name: str, severity: str = "fatal", consequence: bool = False) -> dict[str, Any]:
    return {"id": name, "severity": severity, "consequence": consequence}


def check(outcome: str, first: Any = None, then: Any = None, *findings: dict[str, Any]) -> dict[str, Any]:
    return {"predicted": {"first": first, "then": then, "outcome": outcome}, "findings": list(findings)}


FAULTS = ScenarioResult(
    Scenario("M01", "M01", "", EnableCase(), frozenset({"M01"})),
    check("spins", FIRST, THEN, finding("M01"), finding("M05", consequence=True)),
    observed={"first": FIRST, "then": THEN},
    logged={"first": FIRST, "then": THEN},
    ran_on=False,
)
RUNS = ScenarioResult(
    Scenario("sound", "sound", "", EnableCase()), check("runs_on"), observed=NOTHING, logged=NOTHING, ran_on=True
)
LET_PASS = replace(
    FAULTS,
    scenario=replace(FAULTS.scenario, qemu_lets_it_pass="QEMU does not look"),
    observed=NOTHING,
    logged=NOTHING,
    ran_on=True,
)


@pytest.mark.parametrize("result", [FAULTS, RUNS, LET_PASS])
def test_what_agrees(result: ScenarioResult) -> None:
    assert result.agrees
    assert (result.missing, result.unexpected) == (frozenset(), frozenset())


@pytest.mark.parametrize(
    "result",
    [
        replace(FAULTS, observed={"first": FIRST, "then": None}),
        replace(FAULTS, logged={"first": {**FIRST, "far": "0x0"}, "then": THEN}),
        replace(FAULTS, observed=NOTHING, logged=NOTHING, ran_on=True),
        replace(FAULTS, problem="GDB has ended"),
        replace(RUNS, ran_on=False),
        replace(RUNS, logged={"first": FIRST, "then": None}),
        replace(RUNS, check=check("unknown")),
        replace(LET_PASS, check=check("spins", FIRST, THEN)),
        replace(LET_PASS, ran_on=False),
    ],
)
def test_what_does_not(result: ScenarioResult) -> None:
    assert not result.agrees


def test_far_counts_only_where_the_exception_writes_it() -> None:
    seen = {"first": {**UNDEFINED, "far": "0x1234"}, "then": None}
    assert replace(FAULTS, check=check("in_vector", UNDEFINED), observed=seen, logged=seen).agrees


def test_a_defect_that_qemu_need_not_show_may_be_shown_all_the_same() -> None:
    """QEMU 10.0 is stricter than 7.2 about block levels, for instance."""
    assert replace(LET_PASS, observed=FAULTS.observed, logged=FAULTS.logged, ran_on=False).agrees


def test_found_are_fatal_findings_and_hazards_that_are_nobodys_consequence() -> None:
    findings = (finding("M01"), finding("M20", "hazard"), finding("M33", "note"), finding("M05", consequence=True))
    result = replace(FAULTS, check=check("spins", FIRST, THEN, *findings))
    assert result.found == {"M01", "M20"}
    assert result.unexpected == {"M20"}


def test_precision_and_recall_over_all_findings() -> None:
    too_much = replace(FAULTS, check=check("spins", FIRST, THEN, finding("M01"), finding("M02")))
    too_little = replace(FAULTS, check=check("spins", FIRST, THEN))
    assert precision_and_recall([FAULTS, RUNS]) == (1, 1)
    assert precision_and_recall([FAULTS, too_much]) == (2 / 3, 1)
    assert precision_and_recall([FAULTS, too_little]) == (1, 1 / 2)
    assert precision_and_recall([RUNS]) == (1, 1)


def test_a_switch_that_was_never_reached_is_no_agreement() -> None:
    lost = replace(FAULTS, check={}, observed=NOTHING, logged=NOTHING, problem="no write was reached")
    assert not lost.agrees
    assert lost.missing == {"M01"}
