"""A document that is written and read again says what the analysis said."""

from __future__ import annotations

import json

import pytest

from kexecdbg.arm64.regimes import Regime
from kexecdbg.arm64.walk import walk
from kexecdbg.checks.prediction import Prediction
from kexecdbg.session import documents
from kexecdbg.session.gdb import CommandResult
from kexecdbg.ui.verdict_json import verdict_json
from kexecdbg.ui.walk_json import walk_json
from tests.unit.checks.moments import CODE, EXEC, NEXT, SITE, UXN, Moment

MOMENTS = {
    "sound": Moment(),
    "XN": Moment(code=EXEC | UXN),
    "not mapped": Moment(code=None, vectors=None),
    "an unknown register": Moment(registers={"MAIR_EL2": None}),
    "a wrong register": Moment(registers={"TCR_EL2": 0x8080_3510}),
}


def result(document: object) -> CommandResult:
    return CommandResult(json.loads(json.dumps(document)), "what it prints")


@pytest.mark.parametrize("moment", MOMENTS.values(), ids=MOMENTS)
def test_a_verdict(moment: Moment) -> None:
    judged = moment.verdict()
    read = documents.verdict(result(verdict_json(judged)))
    assert (read.judgement, read.site, read.next_pc, read.el) == (judged.judgement, SITE, NEXT, 2)
    assert (read.regime, read.text) == (Regime.EL2, "what it prints")
    assert read.findings == judged.findings
    predicted = judged.prediction
    # Which vector it is, the document does not say.
    assert read.prediction == Prediction(predicted.first, predicted.then, predicted.outcome, predicted.at)


@pytest.mark.parametrize("moment", MOMENTS.values(), ids=MOMENTS)
def test_a_walk(moment: Moment) -> None:
    situation = moment.situation()
    done = walk(situation.after, situation.memory, CODE, regime=Regime.EL2)
    read = documents.walk(result(walk_json(done)))
    assert (read.va, read.pa, read.regime, read.page_size) == (CODE, done.pa, "EL2", done.page_size)
    assert [(each.level, each.descriptor) for each in read.levels] == [(e.level, e.descriptor) for e in done.levels]
    rights = done.privileged
    assert (read.read, read.write, read.execute) == (rights.read.allowed, rights.write.allowed, rights.execute.allowed)
    assert (read.fault is None) is (done.fault is None)
    assert read.because["execute"] == rights.execute.because
