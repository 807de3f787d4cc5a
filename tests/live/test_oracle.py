"""Our walk against QEMU's MMU: random machines, every regime and granule, three CPU models."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from kexecdbg.arm64.regimes import Regime
from kexecdbg.arm64.walk import walk
from kexecdbg.lab.oracle.ask import Batch, Oracle
from kexecdbg.lab.oracle.cases import Case
from kexecdbg.lab.oracle.deviations import DEVIATIONS
from kexecdbg.lab.oracle.generate import GRANULES, Question
from kexecdbg.lab.oracle.judge import Judge, probe
from kexecdbg.lab.oracle.probes import probe_d9
from kexecdbg.lab.oracle.run import CPUS, Chunk, question_of_seed, run_chunk, run_oracle
from kexecdbg.ui.cli import main

COUNT = 21_000
"""Of which a few are not asked; at least 20,000 are compared."""


@pytest.mark.timeout(900)  # ten seconds on two idle processors; the bound is for busy ones
def test_the_walk_agrees_with_qemu() -> None:
    tally = run_oracle(COUNT, "ci", CPUS)
    assert [disagreement.document() for disagreement in tally.disagreements] == []
    assert 20_000 <= tally.cases == COUNT - tally.not_asked
    assert tally.coverage.keys() == {(regime.value, granule) for regime in Regime for granule in GRANULES}
    assert min(tally.coverage.values()) > 100
    assert {"PAR", "executed", "exception", "stuck"} <= tally.outcomes.keys()
    assert tally.present.keys() == set(CPUS)


@pytest.mark.parametrize("cpu", CPUS)
def test_deviations_are_probed_not_assumed(cpu: str) -> None:
    """Each probe is answered as the architecture says, or as the deviation says: there is no third answer."""
    with Oracle(cpu) as oracle:
        present = probe(oracle)
        assert "D9" in [deviation.id for deviation in present], "QEMU models no caches, in any version"
        for deviation in DEVIATIONS:
            case = None if deviation.probe_is_fatal else deviation.probe(cpu, oracle.identity)
            if case is None:
                assert deviation.probe_is_fatal or deviation.unpredictable or deviation not in present
                continue
            judge = Judge(oracle.identity, present)
            expectation = judge.expect(case)
            if expectation.askable:
                assert judge.differences(case, expectation, oracle.ask([case])[0]) == {}, deviation.id


def forgets_wxn(registers: Any, *arguments: Any, **options: Any) -> Any:
    return walk({**registers, "SCTLR_EL2": registers["SCTLR_EL2"] & ~(1 << 19)}, *arguments, **options)


def test_a_planted_bug_is_found_and_made_small() -> None:
    tally = run_chunk("max", "planted", 0, 300, walk_function=forgets_wxn)
    assert tally.disagreements
    smallest = tally.disagreements[0]
    assert smallest.smallest.operation.is_fetch
    assert smallest.smallest.registers["SCTLR_EL2"] & 1 << 19
    assert smallest.facts and all(ours != qemu for ours, qemu in smallest.facts.values())
    # The seed gives the case again, and the right walk agrees about it.
    with Oracle("max") as oracle:
        judge = Judge(oracle.identity, probe(oracle))
        question = question_of_seed(smallest.seed, judge)
        for case in (question.case, replace(smallest.smallest, seed="")):
            assert judge.differences(case, judge.expect(case), oracle.ask([case])[0]) == {}


SURVIVED = tuple(deviation for deviation in DEVIATIONS if not deviation.probe_is_fatal)


def batch_of(judge: Judge, cases: list[Case]) -> tuple[list[Question], Batch]:
    questions = [Question(case, judge.expect(case), "4K") for case in cases]
    return questions, Batch(cases, {address: word for case in cases for address, word in case.memory.items()})


def test_a_case_that_ends_qemu_is_made_small_and_the_others_are_asked() -> None:
    with Chunk("max", "fatal", deviations=SURVIVED) as chunk:
        identity = chunk.judge.identity
        fatal = [deviation.probe("max", identity) for deviation in DEVIATIONS if deviation.probe_is_fatal]
        harmless = probe_d9("max", identity)
        assert harmless is not None
        tally = chunk.ask([batch_of(chunk.judge, [harmless, case, harmless]) for case in fatal if case is not None])
    assert tally.cases == 6
    # How many of them this QEMU ends on is its own affair: 7.2 and 10.0.2 on one, 10.0.13 on none.
    with Oracle("max") as oracle:
        present = [deviation for deviation in probe(oracle) if deviation.probe_is_fatal]
    assert len(tally.disagreements) == len(present)
    for disagreement in tally.disagreements:
        assert disagreement.seed == "probe"
        ours, qemu = disagreement.facts["machine"]
        assert ours == "answers"
        assert "QEMU ended" in str(qemu) and "Assertion" in str(qemu)
        assert len(disagreement.smallest.registers) < 12


def test_a_qemu_that_ended_for_no_reason_of_the_case_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    start = Oracle.start
    ended: list[bool] = []

    def ends_the_first_time(self: Oracle, batch: Batch) -> None:
        if not ended:
            ended.append(True)
            self._qemu.command("quit")
        start(self, batch)

    with Chunk("cortex-a57", "ended") as chunk:
        monkeypatch.setattr(Oracle, "start", ends_the_first_time)
        tally = chunk.run(0, 20)
    assert tally.cases + tally.not_asked == 20
    (disagreement,) = tally.disagreements
    assert str(disagreement.facts["machine"][1]).endswith("not when asked alone")


def test_the_shell_command(capsys: pytest.CaptureFixture[str]) -> None:
    status = main(["lab", "oracle", "--count", "600", "--seed", "9", "--cpu", "cortex-a72", "--json"])
    document = json.loads(capsys.readouterr().out)
    assert status == 0
    assert document["disagreements"] == []
    assert document["cases"] + document["not_asked"] == 600
    assert document["deviations"]["D9"]["present"] is True
    assert document["deviations"]["D9"]["cpus"] == ["cortex-a72"]
    assert sum(sum(granules.values()) for granules in document["per_regime"].values()) == document["cases"]
    assert document["per_regime"].keys() == {"EL1&0", "EL2", "EL3"}


def test_a_count_that_makes_no_sense(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lab", "oracle", "--count", "0"]) == 2
    assert "--count 0: at least 1 is needed" in capsys.readouterr().err
