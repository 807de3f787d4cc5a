"""``start``: what loading the commands adds to GDB's start, and how fast the shell command answers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from kexecdbg.resources import data_root
from kexecdbg.session.gdb import gdb_program
from tests.bench.measure import Measurement, median_seconds, report

SUMMARY = "GDB with gdbinit against GDB alone; kexecdbg decode, trace and replay against an empty Python"

TRACE = Path(__file__).parents[1] / "traces" / "freeze-2019.kxt"


def run() -> str:
    """Measure and report."""
    quit_at_once = [gdb_program(), "-nx", "-batch", "-ex", "quit"]
    with_commands = [gdb_program(), "-nx", "-batch", "-x", str(data_root() / "gdbinit"), "-ex", "quit"]
    kexecdbg = [sys.executable, "-m", "kexecdbg"]
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
                    Measurement(
                        "kexecdbg decode TCR_EL2=0x80843510",
                        _seconds([*kexecdbg, "decode", "TCR_EL2=0x80843510"]),
                        limit=0.2,
                    ),
                    Measurement("kexecdbg trace FILE", _seconds([*kexecdbg, "trace", str(TRACE)]), limit=0.25),
                    Measurement(
                        "kexecdbg replay FILE, until it listens",
                        median_seconds(lambda: _until_it_speaks([*kexecdbg, "replay", str(TRACE)])),
                        limit=0.25,
                    ),
                ],
            ),
        ]
    )


def _seconds(command: list[str]) -> float:
    return median_seconds(lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL))


def _until_it_speaks(command: list[str]) -> None:
    """Start it and wait for its first line of output; it is ended then."""
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.terminate()
