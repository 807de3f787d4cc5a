"""``kexec-step --landing-pad``: the first syndrome is still there after the machine ran freely, and nothing is left."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from kexecdbg.arm64.descriptors import AF_BIT
from kexecdbg.arm64.regimes import Regime
from kexecdbg.lab.enable import VECTORS, EnableCase, EnableSetup
from kexecdbg.lab.recipe import GuestRecipe
from kexecdbg.qemu.exception_log import ExceptionLog
from tests.live.frozen import wait_until_at
from tests.live.machines import ARRIVED, SECONDS, Bench, bench


def _argument_and_vectors_not_mapped(setup: EnableSetup) -> None:
    setup.tables.set_descriptor(setup.argument, setup.leaf_level, 0)
    setup.tables.set_descriptor(VECTORS, setup.leaf_level, 0)


def _argument_not_accessed_and_vectors_not_mapped(setup: EnableSetup) -> None:
    setup.change_leaf(setup.argument, clear_bits=1 << AF_BIT)
    setup.tables.set_descriptor(VECTORS, setup.leaf_level, 0)


LATER_FAULT = EnableCase(defect=_argument_and_vectors_not_mapped)
"""A Data Abort three instructions after the switch, and no vectors to take it."""
REPAIRABLE_LATER_FAULT = EnableCase(regime=Regime.EL1_0, defect=_argument_not_accessed_and_vectors_not_mapped)
GUESTS: dict[str, tuple[str | GuestRecipe, str]] = {
    "A": ("A", "mapped_vectors"),
    "M01": ("M01", "vectors"),
    "M01-spins-EL3": ("M01-spins-EL3", "mapped_vectors"),
    "M29 and M05, EL2": (LATER_FAULT, "free_code"),
    "M29-AF and M05, EL1": (REPAIRABLE_LATER_FAULT, "free_code"),
}


@dataclass(frozen=True)
class Parked:
    """A guest that ran freely from before the switch, and was interrupted when it was in its landing pad."""

    lab: Bench
    prepared: Any
    text: str
    memory: dict[str, str]
    log: ExceptionLog

    @property
    def pad(self) -> Any:
        return self.prepared["landing_pad"]

    def registers(self) -> dict[str, str]:
        """The syndrome registers and VBAR_ELx of the pad's exception level."""
        el = self.prepared["check"]["el"]
        document = self.lab.run(f"kexec-regs ESR_EL{el} FAR_EL{el} ELR_EL{el} VBAR_EL{el}")
        return {name.partition("_")[0].lower(): register["value"] for name, register in document.items()}


def changed_memory(lab: Bench, pad: Any) -> dict[str, str]:
    """What QEMU's monitor reads where the pad was written."""
    places = [written["address"] for written in pad["written"]]
    words = {place: lab.machine.qemu.monitor(f"xp /1wx {place}").split(":")[1].strip() for place in places}
    if pad["descriptor"] is not None:
        place = pad["descriptor"]["address"]
        words[place] = lab.machine.qemu.monitor(f"xp /1gx {place}").split(":")[1].strip()
    return words


@pytest.fixture(scope="module", params=GUESTS)
def parked(request: pytest.FixtureRequest) -> Iterator[Parked]:
    guest, where = GUESTS[request.param]
    with bench(guest) as lab:
        log = ExceptionLog(lab.machine.qemu)
        prepared = lab.gdb.run("kexec-step --before --landing-pad --timeout 30", SECONDS)
        pad = prepared.document["landing_pad"]
        assert (pad["where"], pad["parked"]) == (where, False)
        running = threading.Thread(target=lab.gdb.command, args=("continue", SECONDS))
        running.start()
        wait_until_at(lab.machine, int(pad["vector"], 16))
        lab.gdb.interrupt()
        running.join(SECONDS)
        yield Parked(lab, prepared.document, prepared.text, changed_memory(lab, pad), log)


def test_running_freely_the_cpu_is_left_with_the_first_syndrome(parked: Parked) -> None:
    """One exception in QEMU's log, the first; it was predicted without the pad as well."""
    first = parked.pad["predicted"]["first"]
    assert first == parked.prepared["check"]["predicted"]["first"]
    assert parked.pad["predicted"]["then"] is None
    registers = parked.registers()
    assert (registers["far"], registers["elr"]) == (first["far"], first["elr"])
    assert int(registers["esr"], 16) >> 26 == int(first["esr"], 16) >> 26
    assert int(registers["esr"], 16) & 0x3F == int(first["esr"], 16) & 0x3F
    assert registers["vbar"] == parked.pad["address"]
    (logged,) = parked.log.exceptions()
    assert (logged.esr, logged.elr) == (int(registers["esr"], 16), int(first["elr"], 16))
    assert parked.lab.run("kexec-why")["syndrome"]["esr"] == registers["esr"]


def test_what_was_written_is_said(parked: Parked) -> None:
    pad = parked.pad
    text = " ".join(parked.text.split())
    assert f"b . at each of the 16 vectors from physical {pad['physical']} on" in text
    assert [int(parked.memory[written["address"]], 16) for written in pad["written"]] == [0x1400_0000] * 16
    if pad["descriptor"] is not None:
        assert f"descriptor at {pad['descriptor']['address']}" in text
        assert int(parked.memory[pad["descriptor"]["address"]], 16) == int(pad["descriptor"]["new"], 16)
    if pad["vbar"] is not None:
        assert f"{pad['vbar']['register']} {pad['vbar']['old']} -> {pad['vbar']['new']}" in text
    assert "kexec-step --remove-landing-pad" in text
    assert [line for line in parked.text.splitlines() if len(line) > 80 and not line.startswith("0x")] == []


def test_there_is_one_pad_at_a_time(parked: Parked) -> None:
    assert "there is a landing pad at" in parked.lab.refused("kexec-step --landing-pad")


def test_taken_away_it_leaves_nothing_and_the_repaired_machine_runs_on(parked: Parked) -> None:
    """The last test of a guest."""
    lab, pad = parked.lab, parked.pad
    repairable = any(finding["repair"] for finding in parked.prepared["check"]["findings"])
    line = "kexec-fix --yes" if repairable else "kexec-step --remove-landing-pad"
    removed = lab.run(line)["removed_landing_pad"]
    old_vbar = pad["vbar"]["old"] if pad["vbar"] is not None else pad["address"]
    assert (removed["kept"], removed["parked"], removed["vbar"]["value"]) == ([], not repairable, old_vbar)
    assert parked.registers()["vbar"] == old_vbar
    now = changed_memory(lab, pad)
    assert [int(now[written["address"]], 16) for written in pad["written"]] == [
        int(written["old"], 16) for written in pad["written"]
    ]
    if pad["descriptor"] is not None:
        assert int(now[pad["descriptor"]["address"]], 16) == int(pad["descriptor"]["old"], 16)
    assert "there is no landing pad" in lab.refused("kexec-step --remove-landing-pad")
    if parked.prepared["check"]["site"] == f"{lab.machine.guest.program.symbols.get('turn_on_mmu_sctlr_write', 0):#x}":
        assert lab.go_on().startswith(ARRIVED)
    elif repairable:
        assert lab.machine.guest.rests_at is not None
        lab.stop_at(lab.machine.guest.rests_at)
        assert lab.machine.qemu.console.wait_for("enabled", SECONDS)


def test_stepped_over_the_switch_it_is_compared_with_what_happens_in_the_pad() -> None:
    with bench("M01-spins") as lab:
        stepped = lab.run("kexec-step --landing-pad --follow --timeout 30")
        assert (stepped["agrees"], stepped["landing_pad"]["parked"]) == (True, True)
        assert stepped["check"]["predicted"]["then"] is not None
        assert (stepped["observed"]["then"], stepped["observed"]["followed"]) == (None, True)


def test_where_nothing_can_be_fetched_nothing_is_written_and_a_breakpoint_on_the_vector_does_it() -> None:
    with bench("O") as lab:
        message = lab.refused("kexec-step --landing-pad --timeout 30")
        assert "there is no place for a landing pad" in message
        assert "there is no landing pad" in lab.refused("kexec-step --remove-landing-pad")
        first = lab.run("kexec-check")["predicted"]["first"]
        lab.gdb.command(message.partition("; ")[2].partition(" and ")[0])
        lab.gdb.command("continue", SECONDS)
        registers = lab.run("kexec-regs ESR_EL2 ELR_EL2")
        assert [register["value"] for register in registers.values()] == [first["esr"], first["elr"]]


def test_a_gdb_that_left_the_machine_and_came_back_still_knows_it(tmp_path: Path) -> None:
    with bench("A") as lab:
        lab.run("kexec-step --landing-pad --before --timeout 30")
        lab.run(f"kexec-record start {tmp_path / 'from-here.kxt'}")  # gives the gdbstub away for a moment
        lab.run("kexec-record stop")
        assert lab.run("kexec-fix --dry-run")["repairs"]
        lab.gdb.disconnect(resume=False)
        lab.gdb.connect(str(lab.machine.qemu.gdb_socket))
        assert "there is a landing pad at" in lab.refused("kexec-step --landing-pad")
        assert lab.run("kexec-step --remove-landing-pad")["removed_landing_pad"]["kept"] == []
        assert "there is no landing pad" in lab.refused("kexec-step --remove-landing-pad")
