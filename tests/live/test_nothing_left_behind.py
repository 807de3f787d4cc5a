"""After any end of the program, killed ones included: no process of ours, no directory of ours."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from kexecdbg.lab.boot import boot
from kexecdbg.lab.relocation import RelocationCase
from kexecdbg.qemu.process import MachineOptions, QemuProcess
from tests.live.machines import SECONDS

MARK = "KEXECDBG_TEST_MARK"
POLL = 0.02
FIRST_SECTION = "1. The registers"


def processes_with(mark: str) -> list[psutil.Process]:
    """Every process that inherited ``mark`` in its environment."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == mark:
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
    return found


@dataclass(frozen=True)
class Demo:
    """A running demo, past its first section: QEMU, its supervisor and GDB are there."""

    process: subprocess.Popen[str]
    helpers: dict[str, psutil.Process]
    directory: Path

    def wait_for_the_helpers_to_end(self) -> None:
        """Wait for the event, a process's end, not for a time to pass."""
        _, alive = psutil.wait_procs(list(self.helpers.values()), SECONDS)
        assert [process.cmdline() for process in alive] == []


@pytest.fixture
def demo() -> Iterator[Demo]:
    mark = uuid.uuid4().hex
    process = subprocess.Popen(
        [sys.executable, "-m", "kexecdbg", "demo"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, MARK: mark},
        start_new_session=True,
    )
    assert process.stdout is not None
    while FIRST_SECTION not in (line := process.stdout.readline()):
        assert line, "the demo ended before its first section"
    helpers = {kind(helper): helper for helper in processes_with(mark) if helper.pid != process.pid}
    assert helpers.keys() == {"supervisor", "qemu", "gdb"}
    directory = Path(helpers["supervisor"].cmdline()[4])
    assert directory.is_dir()
    yield Demo(process, helpers, directory)
    process.stdout.close()
    process.wait(SECONDS)
    assert processes_with(mark) == []


def kind(process: psutil.Process) -> str:
    """Which helper it is, whatever its program is called; the supervisor's arguments include QEMU's."""
    arguments = process.cmdline()
    if any(argument.endswith("supervisor.py") for argument in arguments):
        return "supervisor"
    return "qemu" if "-gdb" in arguments else "gdb" if "--interpreter=mi3" in arguments else " ".join(arguments)


def test_a_normal_end(demo: Demo) -> None:
    demo.process.communicate(timeout=SECONDS)
    assert demo.process.returncode == 0
    demo.wait_for_the_helpers_to_end()
    assert not demo.directory.exists()


@pytest.mark.parametrize(
    ("number", "status"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGKILL, -9)],
    ids=["SIGINT", "SIGTERM", "SIGHUP", "SIGKILL"],
)
def test_a_signal_to_the_program(demo: Demo, number: signal.Signals, status: int) -> None:
    demo.process.send_signal(number)
    assert demo.process.wait(SECONDS) == status
    demo.wait_for_the_helpers_to_end()
    assert not demo.directory.exists()


def test_ctrl_c_reaches_the_whole_foreground_group(demo: Demo) -> None:
    """A terminal sends SIGINT to every process of the group, GDB included."""
    os.killpg(demo.process.pid, signal.SIGINT)
    assert demo.process.wait(SECONDS) == 130
    demo.wait_for_the_helpers_to_end()
    assert not demo.directory.exists()


@pytest.mark.parametrize("victim", ["qemu", "gdb", "supervisor"])
def test_a_helper_is_killed(demo: Demo, victim: str) -> None:
    """The program notices, says so in one line, and ends."""
    demo.helpers[victim].kill()
    output, _ = demo.process.communicate(timeout=SECONDS)
    assert demo.process.returncode == 2
    assert "Traceback" not in output
    assert output.splitlines()[-1].startswith("kexecdbg: ")
    demo.wait_for_the_helpers_to_end()
    assert not demo.directory.exists()


def test_program_and_supervisor_are_killed_and_the_next_start_cleans_up(demo: Demo) -> None:
    demo.helpers["supervisor"].kill()
    demo.process.kill()
    demo.process.wait(SECONDS)
    demo.wait_for_the_helpers_to_end()
    with QemuProcess(MachineOptions(ram_mib=64)):
        assert not demo.directory.exists()


def test_a_start_leaves_directories_in_use_and_those_of_others_alone(tmp_path: Path) -> None:
    with QemuProcess(MachineOptions(ram_mib=64)) as first:
        foreign = first.directory.parent / f"kexecdbg-{uuid.uuid4().hex}"
        foreign.mkdir()
        try:
            with QemuProcess(MachineOptions(ram_mib=64)) as second:
                assert first.directory.is_dir() and foreign.is_dir()
            assert first.directory.is_dir() and not second.directory.exists()
            assert first.monitor("info status").strip().startswith("VM status: paused")
        finally:
            foreign.rmdir()


@pytest.mark.parametrize("end", [lambda machine: None, lambda machine: machine.qemu.close()], ids=["context", "close"])
def test_the_library_leaves_nothing(end: Callable[..., None]) -> None:
    children = set(psutil.Process().children(recursive=True))
    with boot(RelocationCase().build()) as machine:
        directory = machine.qemu.directory
        assert machine.symbol_file.is_file()
        end(machine)
    assert not directory.exists()
    assert set(psutil.Process().children(recursive=True)) == children


def test_an_exception_in_the_context_leaves_nothing() -> None:
    with pytest.raises(ZeroDivisionError), boot(RelocationCase().build()) as machine:
        directory, process = machine.qemu.directory, psutil.Process(machine.qemu.pid)
        raise ZeroDivisionError
    assert (directory.exists(), process.is_running()) == (False, False)


def test_a_guest_that_powers_off_leaves_its_console_and_status() -> None:
    with boot(RelocationCase().build()) as machine:
        machine.qemu.command("cont")
        assert machine.qemu.wait_exit(SECONDS) == 0
        assert machine.qemu.console.wait_for("arrived whole", SECONDS)
        directory = machine.qemu.directory
    assert not directory.exists()
