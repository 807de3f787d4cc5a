"""GDB on a replay: forwards and backwards, breakpoints and watchpoints, and what was not recorded."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kexecdbg.session.gdb import GdbSession
from tests.live.machines import SECONDS, refusal
from tests.live.replays import record, replay

FREEZE, REPAIRED = "A", "B"
SCTLR_ON = 0x30E5_183F
NOT_RECORDED = 0x1_F000_0000
"""RAM that nothing ever looked at."""
FIRST_LITERAL = 0x90
"""Where, from the guest's first instruction, the value is that its second instruction loads, through X9."""
STORED, COPIED = 0x1_8008_0010, 0x1_8008_1000
"""What the relocation writes: in a step of its own, and in a loop that is recorded as one step."""


@pytest.fixture(scope="module")
def freeze(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("replay") / "freeze.kxt"
    record(FREEZE, path)
    return path


@pytest.fixture(scope="module")
def repaired(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("replay") / "repaired.kxt"
    record(REPAIRED, path)
    return path


@pytest.fixture(scope="module", params=[FREEZE, REPAIRED])
def scenario(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def trace(scenario: str, freeze: Path, repaired: Path) -> Path:
    return {FREEZE: freeze, REPAIRED: repaired}[scenario]


@pytest.fixture
def gdb(trace: Path) -> Iterator[GdbSession]:
    with replay(trace) as gdb:
        yield gdb


def sctlr(gdb: GdbSession) -> int:
    return int(gdb.command("output/x $SCTLR_EL2"), 16)


def test_stepping_back_over_the_switch_and_to_the_beginning(gdb: GdbSession) -> None:
    start = gdb.command("output/x $pc")
    gdb.run("kexec-step --before", SECONDS)
    site, before = gdb.command("output/x $pc"), sctlr(gdb)
    gdb.command("stepi")
    assert (before, sctlr(gdb)) == (0, SCTLR_ON)
    gdb.command("reverse-stepi")
    assert (gdb.command("output/x $pc"), sctlr(gdb)) == (site, 0)
    gdb.command("reverse-continue")
    assert gdb.command("output/x $pc") == start


@pytest.mark.parametrize("kind", ["break", "hbreak"])
def test_breakpoints_in_both_directions(gdb: GdbSession, kind: str) -> None:
    gdb.run("kexec-step --before", SECONDS)
    site = gdb.command("output/x $pc")
    gdb.command("monitor goto begin")
    gdb.command(f"{kind} *{site}")
    gdb.command("continue")
    assert (gdb.command("output/x $pc"), sctlr(gdb)) == (site, 0)
    gdb.command("stepi")
    gdb.command("reverse-continue")
    assert (gdb.command("output/x $pc"), sctlr(gdb)) == (site, 0)


def test_memory_that_was_not_recorded_is_an_error(gdb: GdbSession) -> None:
    assert "Cannot access memory" in refusal(gdb, f"x/4x {NOT_RECORDED:#x}")
    assert "Cannot access memory" in refusal(gdb, "set {int}$pc = 0")
    assert "read only" in refusal(gdb, "set $x0 = 5")


def test_what_the_machine_kept_changing_is_unknown(gdb: GdbSession) -> None:
    gdb.run("kexec-step --before", SECONDS)
    everything = gdb.run("kexec-regs --all", SECONDS).document
    assert everything["HCR_EL2"]["value"] == "0x80000000"
    assert gdb.command("output $PMCCNTR_EL0") == "<unavailable>"


def test_first_fault(freeze: Path) -> None:
    with replay(freeze, "--first-fault") as gdb:
        assert int(gdb.command("output/x $ESR_EL2"), 16) == 0x8600_000F
        # Nothing is mapped at the PC: GDB cannot read code there, and can while the stub takes physical addresses.
        assert gdb.run("walk-ttbr0", SECONDS).document["entries"] > 0
        assert "this is a replay" in refusal(gdb, "kexec-record start nowhere.kxt")
        gdb.command("reverse-stepi")
        assert sctlr(gdb) == SCTLR_ON


@pytest.mark.parametrize(("address", "before"), [(STORED, "0"), (COPIED, "<unreadable>")], ids=["stored", "folded"])
def test_a_watchpoint_in_both_directions(repaired: Path, address: int, before: str) -> None:
    with replay(repaired) as gdb:
        gdb.run("kexec-step --before", SECONDS)
        gdb.command(f"watch *(unsigned long *) {address:#x}")
        forwards = gdb.command("continue")
        written = gdb.command(f"output *(unsigned long *) {address:#x}")
        assert f"Old value = {before}\nNew value = {written}" in forwards
        # GDB 13: "No more reverse-execution history."; GDB 16: "Reached end of recorded history; stopping."
        assert "history" in gdb.command("continue")
        backwards = gdb.command("reverse-continue")
        assert f"Old value = {written}\nNew value = {before}" in backwards


def test_a_read_watchpoint(freeze: Path) -> None:
    with replay(freeze) as gdb:
        literal = int(gdb.command("output/x $pc"), 16) + FIRST_LITERAL
        gdb.command(f"rwatch *(unsigned long *) {literal:#x}")
        assert "Hardware read watchpoint" in gdb.command("continue")
        assert gdb.command("output/x $x9") == hex(literal)
