"""The replay server on sockets: several clients, nonsense, where it listens, and how it ends."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kexecdbg.machine.gdb_remote import GdbRemote
from kexecdbg.machine.gdb_remote.framing import INTERRUPT, MAX_PACKET, frame
from kexecdbg.trace.header import TraceHeader
from kexecdbg.trace.reader import Trace
from kexecdbg.trace.replay.server import RECEIVE, ReplayServer
from kexecdbg.trace.writer import TraceWriter
from kexecdbg.ui.cli import main

REGISTERS = (*(f"X{n}" for n in range(31)), "SP", "PC", "PSTATE", "SCTLR_EL2")
CODE, EL2H, NOP = 0x4000_0000, 0x3C9, 0xD503201F
STEPS = 3
SECONDS = 20.0
"""A bound for what takes a fraction of a second, so that a test that would hang fails instead."""


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("replay") / "small.kxt"
    with TraceWriter(path, TraceHeader("stepping", REGISTERS), {"PC": CODE, "PSTATE": EL2H}) as writer:
        writer.see(CODE, NOP.to_bytes(4, "little") * 1024)
        for number in range(STEPS):
            writer.step(CODE + 4 * (number + 1), NOP, {})
    return path


@contextlib.contextmanager
def replay(*arguments: str | Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server that listens, and what to connect to."""
    command = [sys.executable, "-m", "kexecdbg", "replay", *map(str, arguments)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        yield process, process.stdout.readline().split()[-1]
    finally:
        process.terminate()
        process.communicate(timeout=SECONDS)


@pytest.fixture(scope="module")
def target(trace: Path) -> Iterator[str]:
    """A server for all tests that are not about its start or its end."""
    with replay(trace) as (_, target):
        yield target


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs ``kexecdbg replay``, which is to refuse; gives what it says."""

    def run(*arguments: str | Path) -> str:
        assert main(["replay", *map(str, arguments)]) == 2
        output, message = capsys.readouterr()
        assert output == ""
        return message

    return run


def test_each_client_has_its_own_place(target: str) -> None:
    with GdbRemote(target) as first, GdbRemote(target) as second:
        first.step()
        assert (first.read_register("PC"), second.read_register("PC")) == (CODE + 4, CODE)
        assert second.read_register("SCTLR_EL2") is None
        assert second.run_to([CODE + 8]) == CODE + 8
        assert first.read_register("PC") == CODE + 4


@pytest.mark.parametrize(
    "nonsense",
    [b"GET / HTTP/1.1\r\n\r\n", b"$m40000000,8", b"$#00$}#7d+-\x03", b"$" + b"A" * (MAX_PACKET + 3), bytes(range(256))],
    ids=["http", "cut off", "damaged", "endless", "bytes"],
)
def test_nonsense_does_not_end_the_server(target: str, nonsense: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as client, contextlib.suppress(ConnectionError):
        client.connect(target)
        client.sendall(nonsense)
    with GdbRemote(target) as remote:
        assert remote.read_register("PC") == CODE


def test_more_clients_than_there_are_descriptors_keep_nobody_out_for_ever(trace: Path) -> None:
    with replay(trace) as (process, target):
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (20, 20))
        with contextlib.ExitStack() as clients:
            for _ in range(25):
                clients.enter_context(socket.socket(socket.AF_UNIX)).connect(target)
            last = clients.enter_context(socket.socket(socket.AF_UNIX))
            last.connect(target)
            last.sendall(frame(b"qC"))
            last.settimeout(0.1)
            with pytest.raises(TimeoutError):
                last.recv(1)
        with GdbRemote(target) as remote:
            assert remote.read_register("PC") == CODE


@pytest.mark.parametrize("before", [0, RECEIVE - len(frame(b"vCont;c"))], ids=["read with it", "not read yet"])
def test_ctrl_c_ends_a_run(trace: Path, monkeypatch: pytest.MonkeyPatch, before: int) -> None:
    monkeypatch.setattr("kexecdbg.trace.replay.cursor.STEPS_AT_ONCE", 1)
    client, connection = socket.socketpair()
    with Trace.open(trace) as recorded, client, connection:
        client.sendall(b"+" * before + frame(b"vCont;c") + INTERRUPT + frame(b"D"))
        ReplayServer(recorded).client(connection)
        assert client.recv(RECEIVE) == b"+" + frame(b"T02thread:01;") + b"+" + frame(b"OK")


def test_a_damaged_packet_is_asked_for_again(target: str) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(SECONDS)
        client.connect(target)
        received = client.makefile("rb")
        client.sendall(b"$qC#00")
        assert received.read(1) == b"-"
        client.sendall(frame(b"qC"))
        answer = frame(b"QC01")
        assert received.read(1 + len(answer)) == b"+" + answer
        client.sendall(b"-")
        assert received.read(len(answer)) == answer


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
@pytest.mark.parametrize("private", [True, False], ids=["private", "named"])
def test_it_ends_and_leaves_nothing_behind(trace: Path, number: signal.Signals, private: bool) -> None:
    named = trace.with_name("gdb.sock")
    with replay(trace, *([] if private else ["--listen", f"unix:{named}"])) as (process, target):
        assert stat.S_IMODE(os.stat(target).st_mode) & 0o077 == 0
        with GdbRemote(target):
            process.send_signal(number)
            assert process.wait(SECONDS) == 0
        assert not Path(target).exists()
        assert process.stderr is not None and process.stderr.read() == ""
    if private:
        assert not Path(target).parent.exists()
    else:
        assert target == str(named)


def test_tcp_on_loopback(trace: Path) -> None:
    with replay(trace, "--listen", "localhost:0", "--goto", "2") as (_, target):
        assert target.startswith(("127.", "[::1]"))
        with GdbRemote(target) as remote:
            assert remote.read_register("PC") == CODE + 8


def test_other_machines_are_kept_out_unless_asked_for(trace: Path, refused: Callable[..., str]) -> None:
    assert "--listen-anywhere" in refused(trace, "--listen", "0.0.0.0:0")
    with replay(trace, "--listen", "0.0.0.0:0", "--listen-anywhere") as (_, target):
        port = target.rpartition(":")[2]
        with GdbRemote(f"127.0.0.1:{port}") as remote:
            assert remote.read_register("PC") == CODE


def test_what_is_there_is_not_taken_over(trace: Path, target: str, refused: Callable[..., str]) -> None:
    assert "exists already" in refused(trace, "--listen", f"unix:{target}")
    with GdbRemote(target) as remote:
        assert remote.read_register("PC") == CODE


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--goto", "4"], "give 0 to 3"),
        (["--first-fault"], "no fault was recorded"),
        (["--listen", "nowhere"], "HOST:PORT"),
        (["--listen", "unix:"], "HOST:PORT"),
        (["--listen", "unix:/nonexistent/gdb.sock"], "cannot listen there"),
    ],
)
def test_refusals(trace: Path, arguments: list[str], message: str, refused: Callable[..., str]) -> None:
    assert message in refused(trace, *arguments)


def test_a_file_that_is_no_trace(tmp_path: Path, refused: Callable[..., str]) -> None:
    path = tmp_path / "foreign.kxt"
    path.write_bytes(b"\x7fELF" + bytes(100))
    assert "foreign.kxt" in refused(path)
