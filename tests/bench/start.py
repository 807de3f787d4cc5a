"""``start``: what loading the commands adds to GDB's start, and how fast the shell command answers."""

from __future__ import annotations

import subprocess
import sys

from kexecdbg.resources import data_root
from kexecdbg.session.gdb import gdb_program
from tests.bench.measure import Measurement, median_seconds, report

SUMMARY = "GDB with gdbinit against GDB alone; kexecdbg decode against an empty Python"


def run() -> str:
    """Measure and report."""
    quit_at_once = [gdb_program(), "-nx", "-batch", "-ex", "quit"]
    with_commands = [gdb_program(), "-nx", "-batch", "-x", str(data_root() / "gdbinit"), "-ex", "quit"]
    decode = [sys.executable, "-m", "kexecdbg", "decode", "TCR_EL2=0x80843510"]
    bare = _seconds(quit_at_once)
    loaded = _seconds(with_commands)
    return "\n".join(
        [
            report(
                "GDB's start",
                [
                    Measurement("gdb-multiarch alone", bare),
                    Measurement("with gdbinit", loaded),
                    Measurement("what gdbinit adds", loaded - bare, limit=0.150),
                ],
            ),
            report(
                "the shell command's start",
                [
                    Measurement("python -c pass", _seconds([sys.executable, "-c", "pass"])),
                    Measurement("kexecdbg decode TCR_EL2=0x80843510", _seconds(decode), limit=0.2),
                ],
            ),
        ]
    )


def _seconds(command: list[str]) -> float:
    return median_seconds(lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL))
