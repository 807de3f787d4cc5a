"""Runs the machine until the guest has printed a line on its console, seen through QEMU's log."""

from __future__ import annotations

import os
import signal
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kexecdbg.errors import TargetError
from kexecdbg.qemu.console_trace import TRACE_OFF, TRACE_ON, console_text

from .gdb_stub import monitor

if TYPE_CHECKING:
    from .adapter import GdbDebugger

_INTERVAL_SECONDS = 0.05


@dataclass(frozen=True)
class ConsoleLine:
    """A line that the guest printed, and whether the machine is still there."""

    line: str
    machine_runs: bool


def run_to_console_line(target: GdbDebugger, seconds: float | None) -> ConsoleLine:
    """Run until the first whole line is printed. QEMU's log is off afterwards.

    Raises:
        TargetError: nothing was printed within ``seconds``, or QEMU cannot trace its PL011.
    """
    with tempfile.TemporaryDirectory(prefix="kexecdbg-console-") as directory:
        log = Path(directory) / "log"
        for command in (f"logfile {log}", *TRACE_ON):
            answer = monitor(command).strip()
            if answer:
                raise TargetError(f"the console cannot be followed: 'monitor {command}' says {answer!r}")
        printed = threading.Event()
        ended = threading.Event()
        thread = threading.Thread(target=_watch, args=(log, printed, ended), name="console", daemon=True)
        thread.start()
        alive = True
        try:
            target.run((), seconds, {})
        except TargetError:
            alive = False  # it may have printed its line and powered itself off
        finally:
            ended.set()
            thread.join()
        line = _first_line(log)
        if alive:
            for command in TRACE_OFF:
                monitor(command)
        if line is None:
            raise TargetError("the new kernel printed nothing" + ("" if alive else " before the machine ended"))
        return ConsoleLine(line, alive)


def _watch(log: Path, printed: threading.Event, ended: threading.Event) -> None:
    while not ended.wait(_INTERVAL_SECONDS):
        if not printed.is_set() and _first_line(log) is not None:
            printed.set()
            os.kill(os.getpid(), signal.SIGINT)  # as Ctrl-C would stop the machine


def _first_line(log: Path) -> str | None:
    try:
        text = console_text(log.read_text(errors="replace"))
    except FileNotFoundError:
        return None
    lines = text.replace("\r", "").lstrip("\n").split("\n")
    return lines[0] if len(lines) > 1 else None
