"""What the console knows and says, without a terminal and without GDB."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path

import pytest

from kexecdbg.resources import data_root
from kexecdbg.session import Target, attach
from kexecdbg.ui.console.blocks import is_complete
from kexecdbg.ui.console.changes import StopHistory, changes_text
from kexecdbg.ui.console.code import CodeLine, code_text, switches_mmu_on
from kexecdbg.ui.console.command_table import COMMANDS, OUR_GDB_COMMANDS, help_screen
from kexecdbg.ui.console.completion import complete
from kexecdbg.ui.console.console import Console
from kexecdbg.ui.console.history import history_path, open_history
from kexecdbg.ui.console.panes import PANES, tab_line
from kexecdbg.ui.console.passing_on import printable
from kexecdbg.ui.console.snapshot import NO_MACHINE, RunState, Snapshot
from kexecdbg.ui.console.status import status_line
from kexecdbg.ui.style import WIDTH, Style

EL2H, EL1H = 0x3C9, 0x3C5
BEFORE = {"PC": 0x1B3080120, "PSTATE": EL2H, "SCTLR_EL2": 0, "HCR_EL2": 0x8000_0000, "X14": 0x30E5183F}
AFTER = {**BEFORE, "PC": 0x1B3080124, "SCTLR_EL2": 0x30E5183F}
MSR_SCTLR_EL2_X14, NOP = 0xD51C100E, 0xD503201F
PLAIN = Style()


def stopped(values: dict[str, int], symbol: str = "", cpu: int = 0, cpus: int = 1) -> Snapshot:
    return Snapshot(RunState.STOPPED, cpu, cpus, values, symbol)


@pytest.mark.parametrize(
    ("snapshot", "shown"),
    [
        (
            stopped(BEFORE, "turn_on_mmu+36"),
            " CPU 0  EL2  regime EL2  MMU off  0x1b3080120 <turn_on_mmu+36>  stopped  lab A",
        ),
        (stopped(AFTER), " CPU 0  EL2  regime EL2  MMU on  0x1b3080124  stopped  lab A"),
        (
            stopped({**AFTER, "HCR_EL2": 0x4_8000_0000}, cpu=3, cpus=4),
            " CPU 3 of 4  EL2  regime EL2&0  MMU on  0x1b3080124  stopped  lab A",
        ),
        (
            stopped({"PC": 0x40, "PSTATE": EL1H, "SCTLR_EL1": 0, "HCR_EL2": 0}),
            " CPU 0  EL1  regime EL1&0  MMU off  0x40  stopped  lab A",
        ),
        (stopped({"PSTATE": EL2H}), " CPU 0  EL2  regime ?  MMU ?  ?  stopped  lab A"),
        (stopped({}), " CPU 0  EL?  regime ?  MMU ?  ?  stopped  lab A"),
        (Snapshot(RunState.RUNNING), " CPU ?  EL?  regime ?  MMU ?  ?  running  lab A"),
        (NO_MACHINE, " no machine  lab A"),
    ],
)
def test_the_status_bar_says_what_is_known_and_no_more(snapshot: Snapshot, shown: str) -> None:
    assert status_line(snapshot, "lab A", WIDTH) == shown


def test_a_long_symbol_gives_way_and_keeps_its_offset() -> None:
    line = status_line(stopped(BEFORE, f"{'a_very_long_name' * 4}+36"), "lab M01-PXN-VHE", WIDTH)
    assert len(line) <= WIDTH
    assert line.endswith(" 0x1b3080120 <a_...+36>  stopped  lab M01-PX...")
    assert len(status_line(stopped(BEFORE, "turn_on_mmu+36"), "lab M01-PXN-VHE", 40)) == 40


def test_changes_are_those_of_the_last_stop_of_that_cpu() -> None:
    stops = StopHistory()
    first, other, second = stopped(BEFORE), stopped({"PC": 4}, cpu=1, cpus=2), stopped(AFTER)
    assert stops.note(first, 1)
    assert stops.earlier(first) is None
    assert changes_text(None, first, PLAIN) == "there is no stop before this one; step, or continue"
    stops.note(other, 2)
    stops.note(second, 3)
    assert stops.earlier(second) is first
    assert not stops.note(second, 3), "a command that does not run the machine is no stop"
    assert stops.earlier(second) is first
    assert stops.earlier(other) is None


def test_changed_fields_have_their_meaning_and_unread_registers_are_no_change() -> None:
    lines = changes_text(stopped(BEFORE), stopped({**AFTER, "X1": 5}), PLAIN).splitlines()
    assert lines[0] == "SCTLR_EL2  0x00000000 -> 0x30e5183f"
    assert "  M          [0]      0x0 -> 0x1  stage 1 translation on: the MMU is on" in lines
    assert lines[-1] == "PC         0x00000001b3080120 -> 0x00000001b3080124"
    assert changes_text(stopped(AFTER), stopped(AFTER), PLAIN) == "nothing has changed since the last stop"


def test_code_marks_the_write_that_switches_the_mmu_on_without_colour() -> None:
    lines = [
        CodeLine(0x1B308011C, "set_up", "nop", NOP),
        CodeLine(0x1B3080120, "turn_on_mmu", "msr sctlr_el2, x14", MSR_SCTLR_EL2_X14),
        CodeLine(0x1B3080124, "turn_on_mmu+4", "msr sctlr_el2, x14", MSR_SCTLR_EL2_X14),
    ]
    assert code_text(lines, stopped(BEFORE), PLAIN).splitlines() == [
        "set_up:",
        "    0x1b308011c  nop",
        "turn_on_mmu:",
        "=>M 0x1b3080120  msr sctlr_el2, x14   <- MMU on",
        "  M 0x1b3080124  msr sctlr_el2, x14   <- SCTLR",
    ]
    assert switches_mmu_on(lines[1], stopped({**BEFORE, "X14": 0x30E5183E})) is False
    assert switches_mmu_on(lines[1], stopped({"PC": 0x1B3080120, "PSTATE": EL2H})) is None


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("wal", ["walk"]),
        ("TCR_E", ["TCR_EL1", "TCR_EL2", "TCR_EL3"]),
        ("tcr_el2", ["TCR_EL2"]),
        ("tc", []),
        ("SCTLR_EL2.SP", ["SPINTMASK", "SPAN"]),
        ("p SCTLR_EL2.sp", ["SPINTMASK", "SPAN"]),
        ("NOTHING.x", []),
        ("lab m01-p", ["M01-PXN", "M01-PXN-VHE"]),
        ("kexec-check --assume MAIR_EL", ["MAIR_EL1=", "MAIR_EL2=", "MAIR_EL3="]),
    ],
)
def test_completion_without_a_machine(typed: str, offered: Sequence[str]) -> None:
    found = complete(typed, None, NO_MACHINE)
    assert [each.text for each in found] == list(offered)
    assert all(typed.lower().endswith(each.text[: each.replaces].lower()) for each in found)


def test_a_fields_completion_shows_its_value() -> None:
    (found,) = complete("SCTLR_EL2.WXN", None, stopped(AFTER))
    assert found.meaning.startswith("0x0  ")


@pytest.mark.parametrize(
    ("lines", "complete_"),
    [
        (["stepi"], True),
        (["python print(1)"], True),
        (["python"], False),
        (["python", "if x:", "  y", "end"], True),
        (["define f", "if $x0", "stepi", "end"], False),
        (["define f", "if $x0", "stepi", "end", "end"], True),
        (["document f", "if you like", "end"], True),
        (["commands 1", "silent", "end"], True),
    ],
)
def test_a_command_ends_where_gdb_ends_it(lines: Sequence[str], complete_: bool) -> None:
    assert is_complete(lines) is complete_


@pytest.mark.parametrize("style", [PLAIN, Style(colour=True)])
def test_help_is_one_screen(style: Style) -> None:
    lines = help_screen(style).splitlines()
    assert len(lines) <= 22
    assert max(map(len, help_screen(PLAIN).splitlines())) <= WIDTH
    assert all(f"  {name} " in help_screen(PLAIN) for name in COMMANDS)
    plugins = {file.stem.replace("_", "-") for file in (data_root() / "plugins" / "commands").glob("[kw]*.py")}
    assert set(" ".join(OUR_GDB_COMMANDS).split()) == plugins


def test_the_pane_that_is_shown_is_told_without_colour() -> None:
    assert tab_line(PANES[2]) == " F2 changed   F3 walk  [F4 code]  F5 verdict "
    assert len(tab_line(None)) <= WIDTH


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("stepi", "there is no machine\nnext: lab A, attach HOST:PORT, replay FILE; Ctrl-D leaves\n"),
        ("lab", "write: lab ID, for instance lab A\n"),
        ("lab NOPE", "no scenario is called NOPE; `kexecdbg lab list` lists them\n"),
        ("replay '", "write: replay FILE\n"),
        ("changed x", "changed takes no argument\n"),
        ("changed", "the machine is not stopped\n"),
        ("!ls", "!ls needs the terminal that the console has; use another terminal\n"),
        ("# a remark", ""),
        ("", ""),
    ],
)
def test_without_a_machine_a_line_says_what_to_do(line: str, said: str) -> None:
    written: list[str] = []
    Console(written.append, PLAIN).execute(line)
    assert "".join(written) == said


def test_a_gdbstub_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    written: list[str] = []
    target: Target = attach(str(tmp_path / "none"))
    console = Console(written.append, PLAIN)
    console.execute(f"attach {tmp_path / 'none'}")
    assert "no gdbstub answers there" in "".join(written) and "".join(written).count("\n") == 1
    assert console.session is None and console.target_name == "" != target.name


@pytest.mark.parametrize("line", ["quit", "q", "exit"])
def test_leaving(line: str) -> None:
    console = Console(lambda text: None, PLAIN)
    console.execute(line)
    assert console.has_ended


def test_what_the_guest_prints_cannot_drive_the_terminal() -> None:
    assert printable("a\x1b[2Jb\x9bc\x07\r\n\tü") == "a\\x1b[2Jb\\x9bc\\x07\n\tü"


def test_history_is_made_private_and_missed_where_it_cannot_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    path = history_path()
    assert path == tmp_path / "kexecdbg" / "console-history"
    path.parent.mkdir()
    path.write_text("")
    os.chmod(path, 0o644)
    history, problem = open_history(path)
    history.append_string("stepi")
    assert (stat.S_IMODE(path.stat().st_mode), problem) == (0o600, "")
    assert list(open_history(path)[0].load_history_strings()) == ["stepi"]

    _, problem = open_history(path / "below-a-file" / "history")
    assert problem.startswith(f"the history is not kept: {path / 'below-a-file' / 'history'}: ")
    assert open_history(Path("~/history"))[1].startswith("the history is not kept: there is no home folder")
