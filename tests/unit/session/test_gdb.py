"""GDB driven through GDB/MI, without a target: what goes in arrives unchanged, what goes wrong is one error."""

from __future__ import annotations

import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from kexecdbg.errors import EnvironmentProblem, TargetError
from kexecdbg.resources import data_root
from kexecdbg.session.failures import GdbEnded
from kexecdbg.session.gdb import GdbSession, gdb_program


@pytest.fixture(scope="module")
def gdb() -> Iterator[GdbSession]:
    with GdbSession() as session:
        yield session


@pytest.mark.parametrize("text", ["plain", 'a "quoted" word', "back\\slash", "tab\tand 'quotes'", "ünïcode", ""])
def test_what_is_echoed_comes_back(gdb: GdbSession, text: str) -> None:
    assert gdb.command(f"python print({text!r})") == text + "\n"


def test_symbols_from_a_path_with_spaces_and_quotes(gdb: GdbSession, tmp_path: Path) -> None:
    path = tmp_path / 'it\'s a "program"'
    path.write_bytes(Path("/bin/true").read_bytes())
    gdb.load_symbols(path)
    assert f'Symbols from "{path}".' in gdb.command("info files")
    gdb.command("symbol-file")


def test_an_error_is_gdbs_own_message(gdb: GdbSession) -> None:
    with pytest.raises(TargetError, match=r'^Undefined command: "nosuchcommand"'):
        gdb.command("nosuchcommand")
    assert gdb.command("output 1") == "1"


def test_what_a_script_raises_is_the_message(gdb: GdbSession, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("python\nraise gdb.GdbError('packages are missing; run setup')\nend\n")
    with pytest.raises(TargetError, match=r"packages are missing; run setup$"):
        gdb.command(f"source {script}")


def test_what_python_raises_is_in_the_message(gdb: GdbSession) -> None:
    with pytest.raises(TargetError, match=r"invalid literal for int\(\) with base 10: 'x'$"):
        gdb.command("python int('x')")


def test_much_output_arrives_whole(gdb: GdbSession) -> None:
    lines = gdb.command("python print('\\n'.join(str(number) for number in range(20000)))").split()
    assert lines == [str(number) for number in range(20000)]


def test_only_our_commands_give_documents(gdb: GdbSession) -> None:
    with pytest.raises(TargetError, match="output 1: not a kexecdbg command; it printed '1'"):
        gdb.run("output 1")


def test_a_command_that_does_not_end_is_interrupted_and_gdb_goes_on(gdb: GdbSession) -> None:
    with pytest.raises(TargetError, match=r": not finished within 0\.2 s; interrupted$"):
        gdb.command("python exec('while True: pass')", 0.2)
    assert gdb.command("output 2") == "2"


def test_a_gdb_that_ends_when_it_is_interrupted_has_ended() -> None:
    with GdbSession() as session:
        session.command("python import os, signal; signal.signal(signal.SIGINT, lambda *_: os._exit(1))")
        with pytest.raises(GdbEnded, match="GDB has ended"):
            session.command("python exec('while True: pass')", 0.2)


def test_an_interrupt_as_gdb_starts_is_an_interrupt_though_gdb_ends_with_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = tmp_path / "gdb"
    program.write_text("#!/bin/sh\nread line\nkill -INT $PPID\nexec cat >/dev/null\n")
    program.chmod(0o755)
    monkeypatch.setenv("KEXECDBG_GDB", str(program))
    with pytest.raises(KeyboardInterrupt):
        GdbSession()


def test_gdb_ends_with_its_context() -> None:
    before = set(psutil.Process().children())
    with GdbSession():
        (process,) = set(psutil.Process().children()) - before
    assert not process.is_running()


def test_a_gdb_that_was_killed_is_noticed_and_closing_is_harmless() -> None:
    before = set(psutil.Process().children())
    with GdbSession() as session:
        (process,) = set(psutil.Process().children()) - before
        process.send_signal(signal.SIGKILL)
        for _ in range(2):
            with pytest.raises(TargetError, match="GDB has ended"):
                session.command("output 1")
    session.close()


def test_commands_that_cannot_be_loaded_are_one_line_and_no_traceback(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "plugins").mkdir()
    script = tmp_path / "gdbinit"
    script.write_bytes((data_root() / "gdbinit").read_bytes())
    command = [gdb_program(), "-nx", "-batch", "-x", str(script), "-ex", "echo still here"]
    printed = subprocess.run(command, capture_output=True, text=True, check=False)
    assert re.fullmatch(
        rf".*: Error in sourced command file:\nkexecdbg: {tmp_path}/.venv/\S+ does not exist, and this GDB embeds "
        rf"python3\S+; run {tmp_path}/qemu-scripts/setup\n",
        printed.stderr,
    )
    assert printed.stdout == "still here"
    monkeypatch.setattr("kexecdbg.session.gdb.data_root", lambda: tmp_path)
    with pytest.raises(EnvironmentProblem, match=rf"^{tmp_path}/.venv/\S+ does not exist"):
        GdbSession()


def test_the_program_that_the_environment_names(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KEXECDBG_GDB", "/bin/true")
    assert gdb_program() == "/bin/true"
    with pytest.raises(EnvironmentProblem, match=r"^/bin/true ended as it started, with status 0: it said nothing$"):
        GdbSession()
    program = tmp_path / "gdb"
    program.write_text("#!/bin/sh\necho 'gdb: error while loading shared libraries' >&2\nexit 127\n")
    program.chmod(0o755)
    monkeypatch.setenv("KEXECDBG_GDB", str(program))
    with pytest.raises(EnvironmentProblem, match=r"with status 127: gdb: error while loading shared libraries$"):
        GdbSession()
    monkeypatch.setenv("KEXECDBG_GDB", "/nonexistent/gdb")
    with pytest.raises(EnvironmentProblem, match="/nonexistent/gdb: not found; install it"):
        gdb_program()
