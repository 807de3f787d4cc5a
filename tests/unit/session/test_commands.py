"""What a session does when a command is not finished in time, on a GDB without a target."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from kexecdbg.session.commands import Commands
from kexecdbg.session.failures import NotInterrupted
from kexecdbg.session.gdb import GdbSession
from kexecdbg.session.target import OpenTarget


class WithoutTarget(Commands):
    """Its commands go to ``gdb``."""

    timeout = 60.0

    def __init__(self, gdb: GdbSession) -> None:
        self._own_gdb = gdb

    @property
    def _gdb(self) -> GdbSession:
        return self._own_gdb

    @property
    def _target(self) -> OpenTarget:
        raise AssertionError("there is none")


def test_where_the_machine_is_is_not_asked_of_a_gdb_that_takes_no_notice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kexecdbg.session.gdb.seconds_to_end", lambda line: 0.1)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    transcript = io.StringIO()
    with GdbSession(load_commands=False, transcript=transcript) as gdb:
        gdb.command("python import signal; signal.signal(signal.SIGINT, lambda *_: None)")
        stubborn = f"python print(open({str(pipe)!r}).read())"
        with pytest.raises(NotInterrupted, match=r"; it takes no notice of being interrupted$"):
            WithoutTarget(gdb).command(stubborn, timeout=0.2)
        pipe.write_text("released")
        assert gdb.command("output 6 * 7") == "released\n42"
    commands = [line for line in transcript.getvalue().splitlines() if line.startswith("(gdb) ")]
    assert commands[-2:] == [f"(gdb) {stubborn}", "(gdb) output 6 * 7"]
