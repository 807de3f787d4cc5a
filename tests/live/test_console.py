"""The console in a terminal, as a user sees it."""

from __future__ import annotations

import re
import signal
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from kexecdbg.lab.boot import boot
from kexecdbg.lab.scenarios import find_scenarios
from tests.live.machines import SECONDS
from tests.live.terminal import Terminal
from tests.traces.corpus import FREEZE, path_of

pytestmark = [pytest.mark.live, pytest.mark.xdist_group("console")]

CONSOLE = (sys.executable, "-m", "kexecdbg", "console")
CTRL_C, CTRL_D, CTRL_L, CTRL_R, CTRL_U = "\x03", "\x04", "\x0c", "\x12", "\x15"
F2, F3, F4, F5 = "\x1bOQ", "\x1bOR", "\x1bOS", "\x1b[15~"
COLOUR = re.compile(rb"\x1b\[[0-9;]*\b(?:3[0-79]|4[0-79]|9[0-7]|38;5;\d+)[;m]")
PROMPT = "(kexecdbg)"


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("state")


@pytest.fixture(scope="module")
def console(state: Path) -> Iterator[Terminal]:
    """One console on the freeze, which the tests of this module drive from its start to its end."""
    with Terminal([*CONSOLE, "--lab", "A"], {"XDG_STATE_HOME": str(state)}) as terminal:
        terminal.wait_for("help lists", PROMPT, "EL2", "stopped  lab A")
        yield terminal


def enter(terminal: Terminal, line: str, *texts: str) -> str:
    """Type a line on an empty screen and wait for what must come."""
    terminal.press(f"{CTRL_U}{CTRL_L}{line}\r")
    return terminal.wait_for(*texts)


def status(terminal: Terminal) -> str:
    return terminal.lines[-1]


def helpers(terminal: Terminal) -> list[psutil.Process]:
    return psutil.Process(terminal.process.pid).children(recursive=True)


def test_the_course_of_a_debug_session(console: Terminal) -> None:
    """In one test, for each step goes on where the one before ended."""
    assert status(console).startswith(" CPU 0  EL2  regime EL2  MMU off  0x1b30b0000 <old_k")

    # Completion: GDB's of our commands, of symbols, ours of registers, fields and scenarios.
    console.press("kexec-ch\t")
    console.wait_for(f"{PROMPT} kexec-check")
    console.press(f"{CTRL_C}TCR_E\t")
    console.wait_for("TCR_EL1 ", "TCR_EL2 ", "Translation Control Register (EL3)")
    console.press(f"{CTRL_C}TCR_EL2.T0\t")
    console.wait_for(f"{PROMPT} TCR_EL2.T0SZ")
    console.press(f"{CTRL_C}break turn_on_mmu_d\t")
    console.wait_for("break turn_on_mmu_done")
    console.press(f"{CTRL_C}kexec-step --be\t")
    console.wait_for("kexec-step --before")

    # To the switch, which is judged, marked, and looked at from all sides.
    console.press("\r")
    console.wait_for("FAULTS: the write at 0x1b3080120", "0x1b3080120 <turn_on")
    enter(console, "code", "=>M 0x1b3080120  msr sctlr_el2, x14   <- MMU on")
    enter(console, "SCTLR_EL2.M", "SCTLR_EL2.M [0] = 0x0  stage 1 translation off", PROMPT)
    console.press(F3)
    console.wait_for("[F3 walk]", "bit 54 of the level 3 descriptor at 0x1b306c400", "MMU off")
    console.press(F4)
    console.wait_for("[F4 code]", "=>M 0x1b3080120")
    console.press(F5)
    console.wait_for("[F5 verdict]", "M01 fatal")
    console.press("qchang\t")
    console.wait_for(f"{PROMPT} changed")

    # Over it: the fault is in the status bar and in what changed.
    enter(console, "kexec-step --follow", "prediction and observation agree", "MMU on  0x1b30a0200")
    enter(
        console, "changed", "ESR_EL2    0x00000000 -> 0x86000007", "ELR_EL2    0x00000000 -> 0x00000001b30a0200", PROMPT
    )

    # It spins in its vectors: Ctrl-C comes back to the prompt, and the console is still there.
    enter(console, "continue", "running", "Ctrl-C interrupts")
    console.press(CTRL_C)
    console.wait_for("Program received signal SIGINT", PROMPT, "stopped  lab A")
    enter(console, "continue &", "running  lab A")
    console.press(CTRL_C)
    console.wait_for("stopped  lab A")

    # Monitor output, several lines, a refusal, history.
    enter(console, "monitor info status", "VM status: paused")
    enter(console, "define greet\recho hello there\\n\rend\rgreet", "\nhello there")
    enter(console, "shell ls", "shell needs the terminal", PROMPT)
    console.press(f"{CTRL_R}monitor")
    console.wait_for("reverse-i-search", "monitor info status")
    console.press(CTRL_C)

    # A machine that cannot be had costs nobody the one that is there.
    enter(console, "lab NOPE", "no scenario is called NOPE", "stopped  lab A")

    # A helper dies: a line, and the console goes on.
    next(each for each in helpers(console) if "-gdb" in each.cmdline() and "qemu" in each.name()).kill()
    enter(console, "stepi", "lab A is gone (", "next: lab A, attach", "no machine")
    enter(console, "lab sound-EL1-4K", "lab A: ended", "0x180030000 <")
    next(each for each in helpers(console) if "--interpreter=mi3" in each.cmdline()).kill()
    console.wait_for("GDB has ended", "next: lab A, attach", "no machine")
    enter(console, "stepi", "there is no machine", PROMPT)
    console.press(CTRL_D)
    assert console.wait_for_end() == 0
    assert b"Traceback" not in console.received
    assert COLOUR.search(console.received)


def test_history_is_the_users_alone(console: Terminal, state: Path) -> None:
    file = state / "kexecdbg" / "console-history"
    assert "+kexec-step --follow\n" in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


def test_a_recording_in_a_wide_terminal_without_colour(tmp_path: Path) -> None:
    file = path_of(FREEZE)
    command = [*CONSOLE, "--trace", str(file)]
    with Terminal(command, {"XDG_STATE_HOME": str(tmp_path), "NO_COLOR": "1"}, columns=140, lines=40) as terminal:
        terminal.wait_for(PROMPT, "MMU off", f"trace {file.name}")
        enter(terminal, "kexec-step --before", "FAULTS", "0x1b3080120")
        terminal.press(F2)
        screen = terminal.wait_for("> changed -", "- walk -", "- code -", "- verdict -", "<- MMU on", "M01 fatal")
        assert "Permission fault, level 3: ESR_EL2 0x8600000f" in screen
        terminal.press("s")
        terminal.wait_for("MMU on  0x1b3080124", "SCTLR_EL2  0x00000000 -> 0x30e5183f")
        terminal.press("q")
        enter(terminal, "reverse-stepi", "=>M 0x1b3080120  msr sctlr_el2, x14   <- MMU on", "MMU off")
        terminal.press(CTRL_D)
        assert terminal.wait_for_end() == 0
        assert not COLOUR.search(terminal.received)


def test_a_machine_that_is_not_ours_is_left_as_said(tmp_path: Path) -> None:
    with boot(find_scenarios(["A"])[0].guest.build()) as machine:
        for option, left in ((), "stopped"), (("--resume",), "running"):
            command = [*CONSOLE, "--attach", str(machine.qemu.gdb_socket), *option]
            with Terminal(command, {"XDG_STATE_HOME": str(tmp_path)}) as terminal:
                terminal.wait_for(PROMPT, "stopped  the gdbstub")
                enter(terminal, "continue &", "running  the gdbstub")
                terminal.press("qu")
                terminal.wait_for(f"{PROMPT} qu")
                # What happens while a line is being typed is seen at once, and the line is still there.
                machine.qemu.monitor("stop")
                terminal.wait_for("received signal SIGINT", "stopped  the gdbstub", f"{PROMPT} qu")
                terminal.press("it\r")
                assert terminal.wait_for_end() == 0
            assert f"left {left}" in terminal.text
            assert ("running" in machine.qemu.monitor("info status")) is (left == "running")


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGKILL])
def test_nothing_is_left_behind(tmp_path: Path, number: signal.Signals) -> None:
    with Terminal([*CONSOLE, "--lab", "A"], {"XDG_STATE_HOME": str(tmp_path)}) as terminal:
        terminal.wait_for(PROMPT, "stopped")
        started = helpers(terminal)
        assert len(started) == 3
        terminal.process.send_signal(number)
        status = terminal.wait_for_end()
    assert status == (-number if number is signal.SIGKILL else 128 + number)
    _, alive = psutil.wait_procs(started, SECONDS)
    assert [process.cmdline() for process in alive] == []
    assert b"Traceback" not in terminal.received
