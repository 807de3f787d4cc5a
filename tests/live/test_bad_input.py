"""What goes wrong for a user: one clear line, GDB stays usable, exit status 2 from the shell, never a traceback."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from kexecdbg.errors import EnvironmentProblem, TargetError
from kexecdbg.lab.boot import boot
from kexecdbg.lab.relocation import RelocationCase
from kexecdbg.qemu.process import MachineOptions, QemuProcess
from kexecdbg.session.gdb import GdbSession
from tests.live.machines import SECONDS, Bench, bench, refusal

COMMANDS = ["kexec-regs", "walk-ttbr0 0x1000", "walk-ttbr1 0x1000", "kexec-check", "kexec-step", "kexec-fix --yes"]
TCR = "--assume TCR_EL2=0x80843510"


@pytest.fixture(scope="module")
def at_start() -> Iterator[Bench]:
    """Case A before its first instruction; no test may let it run."""
    with bench("A") as lab:
        yield lab


@pytest.fixture
def fresh() -> Iterator[Bench]:
    with bench("A") as lab:
        yield lab


def shell(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The shell command, which must not answer with a traceback."""
    command = [sys.executable, "-m", "kexecdbg", *arguments]
    result = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, stdin=subprocess.DEVNULL)
    assert "Traceback" not in result.stdout + result.stderr
    return result


def refused_by_shell(*arguments: str) -> str:
    """The one line on standard error of a command that ends with status 2 and prints nothing else."""
    result = shell(*arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.count("\n") == 1 and result.stderr.startswith("kexecdbg: ")
    return result.stderr.strip()


@pytest.fixture
def closed_port() -> str:
    """HOST:PORT where nobody listens: one that the kernel gave us and took back."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return f"localhost:{probe.getsockname()[1]}"


# No target, or the wrong one


@pytest.mark.parametrize("command", COMMANDS)
def test_no_target(command: str) -> None:
    with GdbSession() as gdb:
        assert "no target; connect first: target remote HOST:PORT" in refusal(gdb, command)


def test_a_gdbstub_that_is_not_there(tmp_path: Path, closed_port: str) -> None:
    with GdbSession() as gdb:
        for target in (closed_port, str(tmp_path / "none.sock")):
            with pytest.raises(TargetError) as caught:
                gdb.connect(target)
            message = str(caught.value)
            assert message.startswith(f"{target}: no gdbstub answers there") and "start QEMU with -s or -gdb" in message
            assert gdb.command("output 6 * 7") == "42"


@pytest.mark.parametrize("arguments", [["check"], ["regs"], ["walk", "$pc"]], ids=lambda arguments: str(arguments[0]))
def test_a_gdbstub_that_is_not_there_from_the_shell(arguments: list[str], closed_port: str) -> None:
    message = refused_by_shell(*arguments, "--attach", closed_port)
    assert message.startswith(f"kexecdbg: {closed_port}: no gdbstub answers there")
    assert "no gdbstub answers there" in refused_by_shell("why", "--attach", "")


def test_something_else_than_a_gdbstub_answers() -> None:
    """A server that accepts and closes at once."""
    with socket.socket() as server:
        server.bind(("localhost", 0))
        server.listen()
        thread = threading.Thread(target=lambda: server.accept()[0].close())
        thread.start()
        target = f"localhost:{server.getsockname()[1]}"
        message = refused_by_shell("check", "--attach", target)
        thread.join(SECONDS)
    assert message.startswith(f"kexecdbg: {target}: no gdbstub answers there")


def test_a_target_that_is_not_aarch64() -> None:
    options = MachineOptions(cpu="cortex-a15", ram_mib=64, machine="virtualization=off")
    with QemuProcess(options) as qemu, GdbSession() as gdb:
        gdb.connect(str(qemu.gdb_socket))
        for command in (c for c in COMMANDS if c != "kexec-fix --yes"):
            assert refusal(gdb, command).endswith("the target is arm, not AArch64")
    with QemuProcess(options) as qemu:
        message = refused_by_shell("check", "--attach", str(qemu.gdb_socket))
    assert message == "kexecdbg: kexec-check: the target is arm, not AArch64"


def test_an_attached_machine_is_judged_from_the_shell() -> None:
    """The right input beside the wrong ones: the verdict on the switch ahead, and on an assumed write."""
    with boot(RelocationCase().build()) as machine:
        target = str(machine.qemu.gdb_socket)
        sound = shell("check", "--attach", target)
        assert (sound.returncode, sound.stdout.startswith("SOUND: the write at 0x1b3080120")) == (0, True)
        assert "no register is called 'NOSUCH'" in refused_by_shell("regs", "NOSUCH", "--attach", target)
        result = shell("check", "--attach", target, "--assume", "SCTLR_EL2=0x30e5183f", "--json")
        assert (result.returncode, '"verdict": "faults"' in result.stdout) == (1, True)


# Registers and addresses


def test_registers_that_are_not_there(at_start: Bench) -> None:
    assert at_start.refused("kexec-regs NOSUCH").startswith("kexec-regs: no register is called 'NOSUCH'")
    assert at_start.refused("kexec-regs HCR_EL2.RW --diff").endswith("compare whole registers; leave the field out")
    assert "'$nosuch': it has no value" in at_start.refused("kexec-regs --assume HCR_EL2=$nosuch")
    assert at_start.refused("kexec-regs TTBR1_EL2") == "kexec-regs: TTBR1_EL2: this target does not provide it"
    assert at_start.refused("walk-ttbr0 $pc --regime EL3").startswith("walk-ttbr0: SCTLR_EL3 is unknown and ")
    assert at_start.refused("walk-ttbr0 $pc --regime EL3").endswith("give its value with --assume SCTLR_EL3=VALUE")


@pytest.mark.parametrize("expression", ["nosuch", "0x", "$nosuch", "1+", "'$pc +'", "{int}", "0x1b3_000"])
def test_an_address_that_does_not_parse(at_start: Bench, expression: str) -> None:
    assert at_start.refused(f"walk-ttbr0 {expression}").startswith("walk-ttbr0: cannot evaluate ")


def test_addresses_and_ranges_that_cannot_be_meant(at_start: Bench) -> None:
    assert at_start.refused("walk-ttbr0 0x1ffffffffffffffff") == "walk-ttbr0: 0x1ffffffffffffffff has more than 64 bits"
    assert at_start.refused("walk-ttbr0 $pc + 4").endswith("; put an expression that has spaces into quotes")
    assert at_start.refused("walk-ttbr0 --range $pc-$pc").endswith("has to be after the start, 0x1b30b0000")


def test_vhe_is_not_assumed_of_a_cpu_that_has_none(at_start: Bench) -> None:
    message = at_start.refused("kexec-check --assume HCR_EL2=0x488000000")
    assert "this CPU has no VHE" in message and message.endswith("--assume ID_AA64MMFR1_EL1=0x100")
    both = "--assume HCR_EL2=0x488000000 --assume ID_AA64MMFR1_EL1=0x100"
    assert at_start.run(f"walk-ttbr0 {both} $pc")["regime"] == "EL2&0"
    assert at_start.run("walk-ttbr0 --regime el2&0 $pc")["regime"] == "EL2&0"


@pytest.mark.parametrize("assumption", ["TTBR0_EL2", "NOSUCH=1", "=1", "TTBR0_EL2=", "TTBR0_EL2=zz"])
def test_an_assumption_that_does_not_parse(at_start: Bench, assumption: str) -> None:
    for command in ("walk-ttbr0 $pc", "kexec-regs", "kexec-check"):
        message = at_start.refused(f"{command} --assume {assumption}")
        assert "write it as REGISTER=VALUE" in message or "cannot evaluate" in message


@pytest.mark.parametrize(
    "line",
    [
        "kexec-regs --bogus",
        "kexec-regs --el 4",
        "kexec-regs --el",
        "walk-ttbr0 $pc --regime EL9",
        "kexec-check extra",
        "kexec-step --timeout soon",
        "kexec-step --timeout 0",
        "kexec-step --timeout nan",
        "kexec-fix now",
    ],
)
def test_usage_errors_show_the_usage(at_start: Bench, line: str) -> None:
    name = line.split()[0]
    message = at_start.refused(line)
    assert message.startswith(f"{name}: ") and f"usage: {name} " in message


# Tables


@pytest.mark.parametrize(
    ("root", "why"),
    [
        (0x4_0000_0000, "no memory there (RAM is 0x40000000-0x23fffffff)"),
        (0x0900_0000, "the device pl011 is there, not memory"),
    ],
    ids=["hole", "device"],
)
def test_a_root_outside_ram_is_unknown_not_empty(at_start: Bench, root: int, why: str) -> None:
    line = f"walk-ttbr0 $pc --assume TTBR0_EL2={root:#x} {TCR}"
    walk = at_start.run(line)
    assert [(level["address"], level["descriptor"]) for level in walk["levels"]] == [(f"{root:#x}", None)]
    assert (walk["unknown"], walk["result"]["pa"]) == (True, None)
    assert why in " ".join(at_start.text(line).split())


def test_a_root_outside_ram_ends_in_an_external_abort(fresh: Bench) -> None:
    fresh.run("kexec-step --before --timeout 30")
    check = fresh.run("kexec-check --assume TTBR0_EL2=0x400000000")
    assert (check["verdict"], check["predicted"]["first"]["esr"]) == ("faults", "0x86000014")


def test_a_table_pointer_to_a_hole_is_unknown_from_there_on(fresh: Bench) -> None:
    fresh.run("kexec-step --before --timeout 30")
    fresh.gdb.command("set {unsigned long}0x1b306bcc0 = 0x300000003")
    walk = fresh.run("walk-ttbr0 $pc+4")
    assert [level["kind"] for level in walk["levels"]] == ["table", "table", "table", "unreadable"]
    assert (walk["levels"][3]["address"], walk["unknown"]) == ("0x300000400", True)
    assert fresh.run("kexec-check")["predicted"]["first"]["esr"] == "0x86000017"
    stepped = fresh.run("kexec-step")
    assert (stepped["observed"]["first"]["esr"], stepped["agrees"]) == ("0x86000017", True)


# A machine that dies, or never gets there


def test_qemu_killed_between_commands(fresh: Bench) -> None:
    fresh.run("kexec-regs")
    process = psutil.Process(fresh.machine.qemu.pid)
    process.kill()
    psutil.wait_procs([process], SECONDS)
    assert "disconnected" in fresh.refused("kexec-step")
    for command in COMMANDS:
        assert "no target; connect first" in fresh.refused(command)


def busy_before_the_switch(lab: Bench) -> None:
    """Leave the machine in a loop before the switch that takes longer than anybody waits: 2**62 cache lines."""
    lab.stop_at(lab.symbol("set_ttbr") - 4 * 30)
    text = lab.gdb.command("x/30i $pc")
    subtract = next(line for line in text.splitlines() if "subs\tx14, x14, #0x1" in line)
    lab.stop_at(int(subtract.replace("=>", "").split()[0], 16))
    lab.gdb.command("set $x14 = 0x4000000000000000")


def test_a_timeout_ends_a_run_that_does_not_arrive(fresh: Bench) -> None:
    busy_before_the_switch(fresh)
    message = fresh.refused("kexec-step --timeout 0.5")
    assert message.startswith("kexec-step: ")
    assert (
        fresh.symbol("arm64_relocate_new_kernel")
        <= int(fresh.gdb.command("output/x $pc"), 16)
        < fresh.symbol("set_ttbr")
    )
    assert fresh.run("kexec-regs VBAR_EL2")["VBAR_EL2"]["value"] == "0x1b30a0000"
    fresh.gdb.command("set $x14 = 0")
    fresh.gdb.command("set $x7 = 0")
    assert fresh.run("kexec-step --before --timeout 30")["check"]["verdict"] == "faults"


def test_qemu_killed_while_kexec_step_runs(fresh: Bench) -> None:
    busy_before_the_switch(fresh)
    monitor = fresh.machine.qemu
    killed, over = threading.Event(), threading.Event()

    def kill_when_running() -> None:
        while not over.is_set():
            if monitor.command("query-status")["running"]:
                os.kill(monitor.pid, signal.SIGKILL)
                killed.set()
                return

    killer = threading.Thread(target=kill_when_running)
    killer.start()
    try:
        message = fresh.refused("kexec-step")
    finally:
        over.set()
        killer.join(SECONDS)
    assert killed.is_set()
    assert message.startswith("kexec-step: ")
    assert "no target; connect first" in fresh.refused("kexec-regs")


def test_qemu_killed_while_the_shell_asks_at_it() -> None:
    with boot(RelocationCase().build()) as machine:
        command = [sys.executable, "-m", "kexecdbg", "why", "--watch", "10000000", "--attach"]
        with subprocess.Popen([*command, str(machine.qemu.gdb_socket)], stderr=subprocess.PIPE, text=True) as asking:
            while not machine.qemu.command("query-status")["running"]:
                assert asking.poll() is None, "it ended before the machine was killed"
            os.kill(machine.qemu.pid, signal.SIGKILL)
            _, errors = asking.communicate(timeout=SECONDS)
    assert asking.returncode == 2
    assert errors.startswith("kexecdbg: kexec-why: GDB says: Remote ") and errors.count("\n") == 1


# The shell's own


@pytest.mark.parametrize(
    "arguments",
    [
        ["nosuch"],
        ["why"],
        ["demo", "--bogus"],
        ["regs", "--el", "7", "--attach", "localhost:1"],
    ],
    ids=" ".join,
)
def test_usage_errors_of_the_shell(arguments: list[str]) -> None:
    result = shell(*arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert "usage: kexecdbg" in result.stderr


@pytest.mark.parametrize(
    ("variable", "program"), [("KEXECDBG_QEMU", "qemu-system-arm"), ("KEXECDBG_GDB", "gdb-multiarch")]
)
def test_a_missing_program_says_what_to_install(variable: str, program: str) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "kexecdbg", "demo"],
        env={**os.environ, variable: "/nonexistent/program"},
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert (result.returncode, result.stdout) == (2, "")
    assert (
        result.stderr == f"kexecdbg: /nonexistent/program: not found; install it (Debian: apt-get install {program})\n"
    )


def test_a_qemu_that_does_not_start_says_what_qemu_says() -> None:
    with (
        pytest.raises(EnvironmentProblem, match=r"QEMU did not start: .*no-such-cpu"),
        QemuProcess(MachineOptions(cpu="no-such-cpu")) as qemu,
    ):
        qemu.command("query-status")


def test_a_qemu_that_ends_by_itself_says_why_to_who_debugs_it() -> None:
    with (
        pytest.raises(TargetError, match=r"^QEMU ended with status 1: .*no-such-cpu"),
        QemuProcess(MachineOptions(cpu="no-such-cpu")) as qemu,
        GdbSession(load_commands=False) as gdb,
    ):
        gdb.connect(str(qemu.gdb_socket))
    with (
        pytest.raises(TargetError, match=r"^QEMU was killed by signal 9 \(Killed\): it said nothing$"),
        QemuProcess(MachineOptions(ram_mib=64)) as qemu,
        GdbSession(load_commands=False) as gdb,
    ):
        gdb.connect(str(qemu.gdb_socket))
        os.kill(qemu.pid, signal.SIGKILL)
        gdb.command("stepi")


def test_an_error_beside_a_qemu_that_runs_stays_as_it_is() -> None:
    with (
        pytest.raises(TargetError, match=r"^No symbol table is loaded"),
        QemuProcess(MachineOptions(ram_mib=64)) as qemu,
        GdbSession(load_commands=False) as gdb,
    ):
        gdb.connect(str(qemu.gdb_socket))
        gdb.command("print nothing_of_that_name")
