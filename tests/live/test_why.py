"""kexec-why on machines that have frozen before GDB came, on those that have not, and on several CPUs."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from kexecdbg.lab.relocation import TRANS_TABLE, VECTORS
from tests.live.frozen import CPUS, FROZEN, OFF, PARKED, after_the_freeze, several_cpus, several_cpus_before
from tests.live.machines import ARRIVED, SECONDS, Bench, bench

VECTOR = VECTORS + 0x200
ZEROS = 0x1_9000_0000
"""RAM that nothing was loaded into."""


@dataclass(frozen=True)
class Freeze:
    """What a scenario of the 2019 relocation froze with (docs/explanation.md).

    Attributes:
        first: ESR_EL2 of the first exception, right after the switch.
        then: ESR_EL2 of the others, on the vector; ``None`` when the vector can be executed.
        cause: the fatal finding.
        repaired: whether writing descriptors lets the run go on.
    """

    first: int
    then: int | None
    cause: str
    repaired: bool = True


FREEZES = {
    "A": Freeze(0x8600_000F, 0x8600_0007, "M01"),
    "F": Freeze(0x8600_000F, 0x8600_0007, "M02"),
    "H": Freeze(0x8600_000F, None, "M01"),
    "I": Freeze(0x8600_000F, 0x8600_000F, "M01"),
    "J": Freeze(0x8600_000F, 0x8600_0007, "M04"),
    "L": Freeze(0x8600_000B, 0x8600_0007, "M15"),
    "M": Freeze(0x8600_0005, 0x8600_0005, "M10", repaired=False),
    "O": Freeze(0x8600_0000, 0x8600_0000, "M08", repaired=False),
    "Q": Freeze(0x8600_0007, 0x8600_0007, "M14"),
    "R": Freeze(0x0200_0000, 0x8600_0007, "M16", repaired=False),
    "V1": Freeze(0x8600_0000, 0x8600_0000, "M06", repaired=False),
    "V4": Freeze(0x8600_000F, 0x8600_0007, "M01"),
}


@dataclass(frozen=True)
class Seen:
    """A scenario that froze, what was said of it then, and what came of the repair."""

    expected: Freeze
    next_pc: int
    document: Any
    text: str
    console: str


@pytest.fixture(scope="module", params=FREEZES)
def seen(request: pytest.FixtureRequest) -> Iterator[Seen]:
    expected = FREEZES[request.param]
    with after_the_freeze(request.param) as lab:
        why = lab.gdb.run("kexec-why", SECONDS)
        console = ""
        if expected.repaired:
            lab.run("kexec-fix --yes")
            console = lab.go_on()
        yield Seen(expected, lab.symbol("turn_on_mmu_sctlr_write") + 4, why.document, why.text, console)


def test_where_it_is_stuck(seen: Seen) -> None:
    document = seen.document
    assert (document["stuck"], document["pc"], document["mmu"]) == (True, f"{VECTOR:#x}", True)
    assert document["vector"]["register"] == "VBAR_EL2" and document["vector"]["offset"] == "0x200"
    loop = seen.expected.then is not None
    assert document["condition"] == ("vector_loop" if loop else "rests_in_vector")
    assert document["lost"] == (["ESR_EL2", "FAR_EL2", "ELR_EL2", "SPSR_EL2"] if loop else [])


def test_what_the_syndrome_says(seen: Seen) -> None:
    held = seen.document["syndrome"]
    if seen.expected.then is None:
        assert (held["standing"], held["esr"], held["elr"]) == ("first", "0x8600000f", f"{seen.next_pc:#x}")
    else:
        vector = f"{VECTOR:#x}"
        assert (held["standing"], held["esr"]) == ("overwritten", f"{seen.expected.then:#x}")
        assert (held["elr"], held["far"], held["source_el"]) == (vector, vector, 2)


def test_the_first_exception_is_known_again(seen: Seen) -> None:
    switch = seen.document["switch"]
    assert (switch["site"], switch["explains"], switch["also"]) == (f"{seen.next_pc - 4:#x}", True, [])
    assert (switch["first"]["esr"], switch["first"]["elr"]) == (f"{seen.expected.first:#x}", f"{seen.next_pc:#x}")
    if seen.expected.first != 0x0200_0000:
        assert switch["first"]["far"] == f"{seen.next_pc:#x}"
    assert switch["check"]["findings"][0]["id"] == seen.expected.cause


def test_the_repair_lets_the_run_go_on(seen: Seen) -> None:
    switch = seen.document["switch"]
    if seen.expected.repaired:
        assert switch["repairs"] and switch["not_repaired"] is None
        assert ARRIVED in seen.console
    else:
        assert switch["repairs"] == [] and switch["not_repaired"]


def test_the_text_says_what_to_type(seen: Seen) -> None:
    assert seen.text.startswith(f"STUCK: at {VECTOR:#x}, the CPU ")
    assert [line for line in seen.text.splitlines() if len(line) > 80] == []
    assert f"\n{seen.expected.cause} fatal" in seen.text
    assert ("kexec-fix" in seen.text[seen.text.index("\nnext ") :]) == seen.expected.repaired


def test_bit_54_is_named_after_the_freeze_of_2019() -> None:
    with after_the_freeze("A") as lab:
        finding = lab.run("kexec-why")["switch"]["check"]["findings"][0]
    assert (finding["id"], finding["evidence"]["bit"], finding["evidence"]["name"]) == ("M01", 54, "XN")


# Step by step


@pytest.fixture
def at_switch() -> Iterator[Bench]:
    with bench("A") as lab:
        lab.run("kexec-step --before --timeout 30")
        yield lab


def test_every_step_into_the_freeze(at_switch: Bench) -> None:
    conditions = [at_switch.run("kexec-why")["condition"]]
    for _ in range(3):
        at_switch.gdb.command("stepi")
        conditions.append(at_switch.run("kexec-why")["condition"])
    assert conditions == ["at_switch", "cannot_execute", "vector_out_of_reach", "vector_loop"]


def test_watching_a_loop_and_the_state_that_watching_would_destroy(at_switch: Bench) -> None:
    at_switch.gdb.command("stepi 2")
    assert "one step would overwrite it" in at_switch.refused("kexec-why --watch 3")
    assert at_switch.run("kexec-why")["syndrome"]["standing"] == "first"
    at_switch.gdb.command("stepi")
    watched = at_switch.run("kexec-why --watch 3")["watched"]
    assert (watched["steps"], watched["exceptions"], watched["period"]) == (3, 3, 1)
    assert {sample["esr"] for sample in watched["samples"]} == {"0x86000007"}


def test_a_handler_that_returns_to_the_fault_is_found_by_watching() -> None:
    """The vector of scenario H, executable, with ``eret`` in place of ``b .``."""
    with bench("H") as lab:
        lab.run("kexec-step --before --timeout 30")
        lab.gdb.command(
            "python import kexecdbg_plugins.adapter as adapter; "
            f"adapter.debugger().memory.write({VECTOR:#x}, bytes.fromhex('e0039fd6'))"
        )
        lab.gdb.command("stepi 2")
        assert lab.run("kexec-why")["condition"] == "runs"
        document = lab.run("kexec-why --watch 4")
        assert (document["condition"], document["stuck"]) == ("fault_loop", True)
        assert (document["watched"]["exceptions"], document["watched"]["period"]) == (2, 2)
        assert "takes the same exception again and again" in lab.text("kexec-why --watch 4")


def test_before_the_switch_nothing_is_stuck() -> None:
    with bench("A") as lab:
        document = lab.run("kexec-why")
        assert (document["stuck"], document["condition"], document["mmu"]) == (False, "runs", False)
        assert lab.run("kexec-why --watch 8")["watched"]["period"] is None


def test_a_jump_into_zeroes_with_the_vectors_of_reset() -> None:
    """VBAR_EL2 is 0 after reset, and QEMU's flash reads as zeros there: the PC shows 0x200 from the first step on."""
    with bench("A") as lab:
        lab.gdb.command(f"set $pc = {ZEROS:#x}")
        ahead = lab.run("kexec-why")
        assert ahead["condition"] == "cannot_execute" and f"no code is at {ZEROS:#x}" in ahead["reason"]
        lab.gdb.command("stepi")
        first = lab.run("kexec-why")
        assert (first["condition"], first["pc"]) == ("vector_out_of_reach", "0x200")
        assert (first["syndrome"]["standing"], first["syndrome"]["esr"]) == ("first", "0x2000000")
        assert first["syndrome"]["meaning"].startswith(f"no code is at {ZEROS:#x}: memory holds zeros there")
        lab.gdb.command("stepi")
        assert lab.run("kexec-why")["condition"] == "vector_loop"


# Other ways to memory, and the shell


def test_through_the_gdbstub_alone(at_switch: Bench) -> None:
    at_switch.gdb.command("stepi 3")
    whole = at_switch.run("kexec-why")
    at_switch.gdb.command(
        "python import kexecdbg_plugins.adapter as adapter; target = adapter.debugger(); "
        "target.memory = target.memory._fallback"
    )
    assert at_switch.gdb.command("python print(type(target.memory).__name__)").strip() == "StubMemory"
    near = at_switch.run("kexec-why")
    assert (whole["searched"]["everything"], near["searched"]["everything"]) == (True, False)
    assert near["switch"]["site"] == whole["switch"]["site"]
    site = int(near["switch"]["site"], 16)
    assert at_switch.run(f"kexec-why --search {site:#x}-{site + 4:#x}")["switch"]["site"] == near["switch"]["site"]


def why_in_the_shell(lab: Bench, *options: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "kexecdbg", "why", "--attach", str(lab.machine.qemu.gdb_socket), *options]
    lab.gdb.disconnect(resume=False)
    result = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    assert result.stderr == ""
    return result.returncode, result.stdout


def test_the_shell_command_says_it_by_its_exit_status() -> None:
    with after_the_freeze("A") as lab:
        status, printed = why_in_the_shell(lab, "--json")
    assert (status, json.loads(printed)["condition"]) == (1, "vector_loop")
    with bench("A") as lab:
        assert why_in_the_shell(lab)[0] == 0


def test_the_shell_command_on_all_cpus() -> None:
    with several_cpus() as lab:
        status, printed = why_in_the_shell(lab, "--all-cpus", "--json")
        assert status == 1
        assert [cpu["cpu"] for cpu in json.loads(printed)["cpus"]] == [FROZEN, 0, PARKED, OFF]


# Several CPUs


@pytest.fixture(scope="module")
def four() -> Iterator[Bench]:
    """Four CPUs, of which number 1 is frozen; no test may let it run."""
    with several_cpus() as lab:
        yield lab


def selected(lab: Bench) -> str:
    return lab.gdb.command("thread").strip()


def test_the_stuck_one_comes_first(four: Bench) -> None:
    found = four.run("kexec-why --all-cpus")["cpus"]
    assert [(cpu["cpu"], cpu["thread"], cpu["condition"]) for cpu in found] == [
        (FROZEN, 2, "vector_loop"), (0, 1, "runs"), (PARKED, 3, "waits"), (OFF, 4, "halted"),
    ]  # fmt: skip
    lines = four.text("kexec-why --all-cpus").splitlines()
    assert lines[0].startswith("CPU 1 (thread 2)  STUCK: ") and "M01" in " ".join(lines[:2])
    assert lines[-1].split() == ["next", "kexec-why", "--cpu", "1"]


def test_a_command_works_on_the_selected_thread_and_says_which_cpu_it_is(four: Bench) -> None:
    assert four.text("kexec-why").startswith("CPU 0 (thread 1)\nNOT STUCK: ")
    four.gdb.command("thread 2")
    try:
        assert four.text("kexec-why").startswith("CPU 1 (thread 2)\nSTUCK: ")
        assert four.run("kexec-why")["cpu"] == FROZEN
        assert four.run("kexec-regs TTBR0_EL2")["TTBR0_EL2"]["value"] == f"{TRANS_TABLE:#x}"
    finally:
        four.gdb.command("thread 1")


def test_cpu_picks_another_one_for_one_command(four: Bench) -> None:
    before = selected(four)
    registers = {cpu: four.run(f"kexec-regs --cpu {cpu} TTBR0_EL2")["TTBR0_EL2"] for cpu in range(CPUS)}
    assert {cpu: (register["cpu"], register["value"]) for cpu, register in registers.items()} == {
        0: (0, "0x0"), 1: (1, f"{TRANS_TABLE:#x}"), 2: (2, "0x0"), 3: (3, "0x0"),
    }  # fmt: skip
    walk = four.run("walk-ttbr0 --cpu 1 $pc")
    assert (walk["cpu"], walk["va"], walk["mmu"]) == (1, f"{VECTOR:#x}", True)
    assert [entry["cpu"] for entry in four.run("walk-ttbr0 --cpu 1 $pc 0x1000")] == [1, 1]
    assert four.run("walk-ttbr0 --cpu 1")["cpu"] == 1
    assert "CPU 1 (thread 2): " in four.refused("kexec-check --cpu 1")
    assert selected(four) == before


def test_the_selection_comes_back_after_an_error(four: Bench) -> None:
    before = selected(four)
    assert "there is no CPU 7; this machine has CPUs 0, 1, 2 and 3" in four.refused("kexec-regs --cpu 7")
    assert "CPU 1 (thread 2): " in four.refused("walk-ttbr0 --cpu 1 nowhere")
    assert "--all-cpus looks at every CPU" in four.refused("kexec-why --all-cpus --cpu 1")
    assert selected(four) == before


def test_a_halted_cpu_is_not_stepped(four: Bench) -> None:
    for cpu in (PARKED, OFF):
        assert "halted, in WFI or powered off" in four.refused(f"kexec-why --cpu {cpu} --watch 1")


def test_the_frame_that_was_selected_comes_back(four: Bench) -> None:
    four.gdb.command("frame 0")
    pc = four.gdb.command("output/x $pc")
    four.run("kexec-why --cpu 1")
    assert four.gdb.command("output/x $pc") == pc


def test_stepping_one_cpu_holds_the_others() -> None:
    with several_cpus() as lab:
        counted = lab.gdb.command("output $x20")
        watched = lab.run("kexec-why --cpu 1 --watch 5")["watched"]
        assert watched["exceptions"] == 5
        assert lab.gdb.command("output $x20") == counted
        assert lab.gdb.command("show scheduler-locking").split('"')[1] == "replay"


def test_the_repair_goes_to_the_cpu_that_it_was_found_on() -> None:
    with several_cpus() as lab:
        lab.run("kexec-why --cpu 1")
        before = selected(lab)
        assert lab.text("kexec-fix --yes").startswith("CPU 1 (thread 2)\n")
        assert selected(lab) == before
        assert ARRIVED in lab.go_on()


def test_kexec_step_on_a_second_cpu() -> None:
    """CPU 0 goes on counting while CPU 1 runs to its switch, and is held while it is stepped."""
    with several_cpus_before("A") as lab:
        assert selected(lab).startswith("[Current thread is 2 ")
        before = lab.run("kexec-step --before --timeout 30")
        assert (before["cpu"], before["check"]["verdict"]) == (FROZEN, "faults")
        counted = lab.gdb.command("thread apply 1 output $x20")
        stepped = lab.run("kexec-step --follow")
        assert stepped["agrees"]
        assert (stepped["observed"]["first"]["esr"], stepped["observed"]["then"]["esr"]) == ("0x8600000f", "0x86000007")
        assert lab.gdb.command("thread apply 1 output $x20") == counted
        assert selected(lab).startswith("[Current thread is 2 ")


def test_differences_are_those_of_one_cpu() -> None:
    with several_cpus_before("A") as lab:
        lab.run("kexec-step --before --timeout 30")
        lab.gdb.command("stepi")
        changed = lab.run("kexec-regs --diff")
        assert set(changed) == {"SCTLR_EL2"} and changed["SCTLR_EL2"]["cpu"] == FROZEN
        assert "there is no stop before this one" in lab.refused("kexec-regs --cpu 2 --diff")
