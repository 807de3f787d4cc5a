"""GDB on a replay of the corpus says what is read from the files without it (tests/traces)."""

from __future__ import annotations

import pytest

from kexecdbg.checks.judging import judge
from kexecdbg.checks.situation import situation_at
from kexecdbg.trace.reader import Trace
from kexecdbg.ui.verdict_json import verdict_json
from tests.live.machines import SECONDS
from tests.live.replays import replay
from tests.traces.corpus import FREEZE, REPAIRED, path_of
from tests.traces.switches import faults, switches


@pytest.mark.parametrize("name", [FREEZE, REPAIRED, "nvhe-kvm"])
def test_the_replay_is_judged_as_the_file(name: str) -> None:
    with Trace.open(path_of(name)) as trace:
        number, _ = next(switches(trace))
        verdict = verdict_json(judge(situation_at(trace.state(number), trace.memory(number))))
        first = next(iter(faults(trace)), None)
        pcs = [trace.step(each).pc for each in range(number, number + 3)]
    with replay(path_of(name), "--goto", str(number)) as gdb:
        assert gdb.run("kexec-check", SECONDS).document == verdict
        gdb.command("stepi")
        gdb.command("stepi")
        assert int(gdb.command("output/x $pc"), 16) == pcs[2]
        gdb.command("reverse-stepi")
        gdb.command("reverse-stepi")
        stepped = gdb.run("kexec-step", SECONDS).document
        assert int(stepped["site"], 16) == pcs[0]
        observed = stepped["observed"]["first"]
        assert (None if observed is None else int(observed["esr"], 16)) == (None if first is None else first.esr)
