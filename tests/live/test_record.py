"""A recorded run says what the machine said, with both engines; recording leaves nothing behind, however it ends."""

from __future__ import annotations

import json
import os
import random
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from kexecdbg.errors import TargetError, TraceError
from kexecdbg.lab.boot import boot
from kexecdbg.lab.scenarios import find_scenarios
from kexecdbg.session.gdb import GdbSession
from kexecdbg.trace.reader import Trace
from kexecdbg.trace.recording.start import SMALL_MEMORY
from kexecdbg.ui.cli import main
from tests.live.frozen import wait_until_at
from tests.live.machines import SECONDS, Bench, bench
from tests.live.replays import replay

FREEZE, REPAIRED = "A", "B"
SCRIPT = (
    "kexec-regs",
    "kexec-step --before",
    "x/4i $pc",
    "info registers x0 x8 x14 x19 x29 x30 sp pc cpsr",
    "kexec-regs",
    "kexec-check",
    "walk-ttbr0",
    "walk-ttbr0 $pc",
    "walk-ttbr0 $pc+4",
    "kexec-step --follow",
    "x/4i $pc",
    "output/x $ESR_EL2",
    "kexec-regs",
    "kexec-why",
    "walk-ttbr0 $pc",
    "walk-ttbr0 0x1b3069000",
    "stepi",
    "kexec-why",
)
"""To the switch, what is there, over it into the second exception, and why; and once more where the run ends."""
FILLED, DECOY = 0x1_0000_0000, 0x1_0123_4540
"""Memory that no one touches, more than is recorded whole, and a copy of the switch in it."""
MSR_SCTLR_EL2_X14 = 0xD51C_100E

Said = list[tuple[str, Any]]


def say_all(gdb: GdbSession) -> Said:
    return [(line, say(gdb, line)) for line in SCRIPT]


def say(gdb: GdbSession, line: str) -> Any:
    """What GDB says to ``line``: of our commands the document and the text; of GDB's own, errors too."""
    if line.startswith(("kexec-", "walk-")):
        return gdb.run(line, SECONDS)
    try:
        return gdb.command(line)
    except TargetError as error:
        return str(error)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("recorded")


@pytest.fixture(scope="module")
def much_memory(files: Path) -> tuple[str, str]:
    """QEMU's arguments for memory of which only what is needed is recorded."""
    filler = bytearray(random.Random(1).randbytes(SMALL_MEMORY + (1 << 20)))
    filler[DECOY - FILLED : DECOY - FILLED + 4] = MSR_SCTLR_EL2_X14.to_bytes(4, "little")
    (files / "filler").write_bytes(filler)
    return "-device", f"loader,file={files / 'filler'},addr={FILLED:#x},force-raw=on"


@pytest.fixture(scope="module")
def live(files: Path, much_memory: tuple[str, str]) -> Said:
    """What the machine said, while it was recorded from its log."""
    with bench(FREEZE, *much_memory) as machine:
        machine.gdb.command("symbol-file")  # a trace has none
        assert machine.run(f"kexec-record start {files / 'log.kxt'}")["recording"] is True
        said = say_all(machine.gdb)
        assert machine.run("kexec-record status")["file"] == str(files / "log.kxt")
        assert machine.run("kexec-record stop")["steps"] > 1000
        assert is_quiet(machine)
        # The machine goes on where it is, and can be recorded again.
        assert machine.run(f"kexec-record start {files / 'two.kxt'} --engine stepping --steps 2")["steps"] == 2
    return said


@pytest.fixture(scope="module")
def stepped(files: Path, much_memory: tuple[str, str]) -> None:
    with bench(FREEZE, *much_memory) as machine:
        assert machine.run(f"kexec-record start {files / 'stepping.kxt'} --engine stepping")["ended"] == "spins"


@pytest.mark.parametrize("engine", ["log", "stepping"])
@pytest.mark.usefixtures("stepped")
def test_the_same_script_says_the_same(live: Said, files: Path, engine: str) -> None:
    with replay(files / f"{engine}.kxt") as gdb:
        gdb.command("set pagination off")
        for replayed, original in zip(say_all(gdb), live, strict=True):
            assert replayed == original


@pytest.mark.usefixtures("live")
def test_the_engines_recorded_the_same_run(files: Path, stepped: None) -> None:
    with Trace.open(files / "log.kxt") as log, Trace.open(files / "stepping.kxt") as stepping:
        assert (log.warnings, stepping.warnings) == ((), ())
        # The steps have other numbers: which loops are recorded as one step depends on the engine.
        (_, logged), (_, stepped_over) = next(log.exceptions()), next(stepping.exceptions())
        assert logged == stepped_over


def is_quiet(machine: Bench) -> bool:
    """Whether QEMU's settings are those of a machine that nobody records."""
    return "single step" not in machine.machine.qemu.monitor("info status")


@pytest.fixture
def machine() -> Iterator[Bench]:
    """A machine with a GDB of its own, which ends in the test."""
    with booted(FREEZE) as machine:
        yield machine


@contextmanager
def booted(scenario: str) -> Iterator[Bench]:
    with boot(find_scenarios([scenario])[0].guest.build()) as machine, GdbSession() as gdb:
        gdb.connect(str(machine.qemu.gdb_socket))
        yield Bench(machine, gdb)


def end_of_recorder(starter: subprocess.Popen[bytes]) -> int:
    """A descriptor that becomes readable when the process that records for ``starter`` has ended."""
    (child,) = Path(f"/proc/{starter.pid}/task/{starter.pid}/children").read_text().split()
    return os.pidfd_open(int(child))


@pytest.mark.parametrize("end", ["kill", "quit"])
def test_a_recording_is_whole_when_gdb_ends(machine: Bench, tmp_path: Path, end: str) -> None:
    path = tmp_path / "ended.kxt"
    machine.run(f"kexec-record start {path}")
    gdb = machine.gdb._controller.gdb_process
    assert gdb is not None
    recorder = end_of_recorder(gdb)
    machine.run("kexec-step")
    if end == "kill":
        machine.gdb.resume()
        gdb.kill()
    else:
        machine.gdb.close()
    assert select.select([recorder], [], [], SECONDS)[0]
    os.close(recorder)
    with Trace.open(path) as trace:
        assert trace.warnings == ()
        assert trace.steps > 1000
    if end == "kill":
        # It ran when GDB was killed, and does again.
        assert machine.machine.qemu.monitor("info status").strip() == "VM status: running"
        assert is_quiet(machine)


def test_qemu_stops_logging_when_the_recorder_was_killed(machine: Bench, tmp_path: Path) -> None:
    path = tmp_path / "killed.kxt"
    machine.run(f"kexec-record start {path}")
    machine.run("kexec-step")
    gdb = machine.gdb._controller.gdb_process
    assert gdb is not None
    recorder = end_of_recorder(gdb)
    signal.pidfd_send_signal(recorder, signal.SIGKILL)
    os.close(recorder)
    assert "is gone" in machine.refused("kexec-record stop")
    assert is_quiet(machine)
    assert "nothing is being recorded" in machine.refused("kexec-record stop")
    with Trace.open(path) as trace:
        assert "cut off" in trace.warnings[0]


@contextmanager
def shell_recording(machine: Bench, path: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """``kexecdbg record``, and its process that records, on a machine that never stops by itself."""
    for offset, word in enumerate((0x9100_0400, 0x17FF_FFFF)):  # add x0, x0, #1 for ever
        machine.gdb.command(f"set {{unsigned int}}($pc + {4 * offset}) = {word}")
    machine.gdb.command("disconnect")
    qemu = machine.machine.qemu
    arguments = ["record", str(path), "--attach", str(qemu.gdb_socket)]
    with subprocess.Popen([sys.executable, "-m", "kexecdbg", *arguments], stderr=subprocess.PIPE) as shell:
        # It lets the machine run when the log is on. QEMU before 8.1 adds that it is in single step mode.
        while not qemu.monitor("info status").startswith("VM status: running"):
            assert shell.poll() is None
        recorder = end_of_recorder(shell)
        yield shell, recorder
        os.close(recorder)


def test_a_recording_is_whole_when_the_shell_command_is_killed(machine: Bench, tmp_path: Path) -> None:
    path = tmp_path / "shell.kxt"
    with shell_recording(machine, path) as (shell, recorder):
        shell.kill()
        assert select.select([recorder], [], [], SECONDS)[0]
    with Trace.open(path) as trace:
        assert trace.warnings == ()
        assert trace.steps > 0
    assert machine.machine.qemu.monitor("info status").strip() == "VM status: running"


def test_the_shell_command_stops_qemu_s_log_when_its_recorder_is_killed(machine: Bench, tmp_path: Path) -> None:
    with shell_recording(machine, tmp_path / "shell.kxt") as (shell, recorder):
        signal.pidfd_send_signal(recorder, signal.SIGKILL)
        _, said = shell.communicate(timeout=SECONDS)
        assert shell.returncode == 2
        assert b"is gone" in said
    assert is_quiet(machine)


def test_ctrl_c_ends_a_recording_by_stepping(tmp_path: Path) -> None:
    path = tmp_path / "stopped.kxt"
    with booted(REPAIRED) as machine:
        line = f"kexec-record start {path} --engine stepping --no-fold"
        with ThreadPoolExecutor(1) as executor:
            running = executor.submit(machine.run, line)
            wait_for_steps(path)
            machine.gdb.interrupt()
            document = running.result(SECONDS)
        assert document["ended"] == "stopped"
        # GDB is connected, and sees the machine where the recording ended.
        with Trace.open(path) as trace:
            assert trace.warnings == ()
            assert trace.state(trace.steps).get("PC") == int(machine.gdb.command("output/x $pc"), 16)


def wait_for_steps(path: Path) -> None:
    """Wait until the recording has come so far that something has been written."""
    deadline = time.monotonic() + SECONDS
    while not path.exists() or not has_steps(path):
        assert time.monotonic() < deadline
        os.sched_yield()


def has_steps(path: Path) -> bool:
    try:
        with Trace.open(path) as trace:
            return trace.steps > 0
    except TraceError:
        return False  # its header is being written


def test_what_cannot_be_recorded_is_refused(machine: Bench, tmp_path: Path) -> None:
    assert "nothing is being recorded" in machine.refused("kexec-record stop")
    assert "give the file" in machine.refused("kexec-record start")
    assert "--engine stepping" in machine.refused(f"kexec-record start {tmp_path / 'a.kxt'} --steps 3")
    (tmp_path / "there.kxt").touch()
    assert "exists already" in machine.refused(f"kexec-record start {tmp_path / 'there.kxt'}")
    machine.run(f"kexec-record start {tmp_path / 'b.kxt'}")
    assert "b.kxt is being recorded" in machine.refused(f"kexec-record start {tmp_path / 'c.kxt'}")
    # GDB may leave the machine; the recording is ended all the same, and the machine runs on.
    machine.gdb.command("detach")
    wait_until_at(machine.machine, machine.machine.guest.vectors + 0x200)
    assert machine.run("kexec-record stop")["steps"] > 1000
    assert machine.machine.qemu.monitor("info status").strip() == "VM status: running"
    assert is_quiet(machine)


def test_one_cpu_of_two_is_recorded_and_not_the_one_that_is_off(tmp_path: Path) -> None:
    with bench("sound-EL1-only", "-smp", "2") as machine:
        machine.gdb.command("thread 2")
        for engine, says in (("log", "and other CPUs run; record one of those"), ("stepping", "it cannot be stepped")):
            message = machine.refused(f"kexec-record start {tmp_path / 'off.kxt'} --engine {engine}")
            assert "CPU 1 (thread 2): the CPU is halted, in WFI or powered off" in message
            assert says in message
        machine.gdb.command("thread 1")
        assert list(tmp_path.iterdir()) == []
        machine.run(f"kexec-record start {tmp_path / 'one.kxt'} --engine stepping --steps 1")
        registers = machine.run("kexec-regs")
    with replay(tmp_path / "one.kxt", "--goto", "end") as gdb:
        replayed = gdb.run("kexec-regs", SECONDS)
    assert replayed.document == registers
    assert replayed.text.startswith("CPU 0 (thread 1)\n")


def test_a_machine_that_ends_while_it_is_stepped(tmp_path: Path) -> None:
    path = tmp_path / "ended.kxt"
    with booted(REPAIRED) as machine:
        document = machine.run(f"kexec-record start {path} --engine stepping")
        assert document["ended"] == "machine_ended"
        assert "no target" in machine.refused("kexec-check")


@pytest.mark.usefixtures("live")
def test_the_shell_records_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str], files: Path) -> None:
    path = tmp_path / "shell.kxt"
    assert main(["record", str(path), "--scenario", FREEZE, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["file"], document["ended"], document["remarks"]) == (str(path), "spins", [])
    firsts = []
    for file in (path, files / "log.kxt"):
        assert main(["trace", str(file), "--exceptions", "--json"]) == 0
        firsts.append(json.loads(capsys.readouterr().out)["listed"][0]["exception"])
    assert firsts[0] == firsts[1]
    assert firsts[0]["esr"] == "0x8600000f"
