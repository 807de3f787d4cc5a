"""``record``: both engines against a ``stepi`` loop in GDB's Python, and the log engine against QEMU's own log."""

from __future__ import annotations

import json
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from kexecdbg.lab.boot import LabMachine, boot
from kexecdbg.lab.recipe import LabGuest
from kexecdbg.lab.scenarios import find_scenarios
from kexecdbg.machine.gdb_remote import GdbRemote
from kexecdbg.qemu.cpu_log_window import CpuLogWindow
from kexecdbg.session.gdb import GdbSession
from kexecdbg.trace.recording.options import Engine, RecordingOptions
from kexecdbg.trace.recording.record import Recording
from kexecdbg.trace.recording.result import Limits

SUMMARY = "steps a second: recording by stepping and from the log against stepi in GDB's Python"

_GUEST = "B"
"""Runs to its end: 304,692 instructions, most of them in copy loops and in a checksum."""
_STEPI_STEPS = 1500
_STEPPED = 6000
_LOGGED = 290_000
_ROUNDS = 3
_LEAST_LOG, _LEAST_STEPPING = 100.0, 3.0
_SECONDS = 300.0
_BYTES_OF_DUMP = 719
"""Of one state in QEMU's log (7.2, 10.0: target/arm/cpu.c, aarch64_cpu_dump_state())."""


@dataclass(frozen=True)
class _Rates:
    """Steps a second, measured one right after the other."""

    stepi: float
    stepi_reading: float
    stepping: float
    log: float
    qemu_log: float


def run() -> str:
    """Measure and report."""
    rounds = [_measure() for _ in range(_ROUNDS)]
    lines = [f"recording the lab's relocation, {_ROUNDS} rounds, medians; every round in turn, one after the other"]

    def median(of: Callable[[_Rates], float]) -> float:
        return statistics.median(map(of, rounds))

    def line(name: str, rate: float, ratio: float, least: float | None = None) -> None:
        verdict = "" if least is None else f"  at least x{least:g}, {'met' if ratio >= least else 'MISSED'}"
        lines.append(f"  {name:<52} {rate:>9,.0f}/s  x{ratio:<6.1f}{verdict}")

    line("stepi in GDB's Python", median(lambda r: r.stepi), 1)
    reading = "the same, reading X0 to X30, SP, PC and PSTATE"
    line(reading, median(lambda r: r.stepi_reading), median(lambda r: r.stepi_reading / r.stepi))
    line("recorded by stepping", median(lambda r: r.stepping), median(lambda r: r.stepping / r.stepi), _LEAST_STEPPING)
    line("recorded from the log", median(lambda r: r.log), median(lambda r: r.log / r.stepi), _LEAST_LOG)
    line("QEMU's own log, read and thrown away", median(lambda r: r.qemu_log), median(lambda r: r.qemu_log / r.stepi))
    share = median(lambda r: r.log / r.qemu_log)
    lines.append(f"  recording from the log runs at {share:.0%} of the rate at which QEMU writes it")
    return "\n".join(lines)


def _measure() -> _Rates:
    alone, reading = _stepi_rates()
    return _Rates(
        alone, reading, _recorded(Engine.STEPPING, _STEPPED), _recorded(Engine.LOG, _LOGGED), _qemu_log_rate()
    )


def _guest() -> AbstractContextManager[LabMachine[LabGuest]]:
    return boot(find_scenarios([_GUEST])[0].guest.build())


def _stepi_rates() -> tuple[float, float]:
    loop = Path(__file__).with_name("stepi_loop.py")
    with _guest() as machine, GdbSession(load_commands=False) as gdb:
        gdb.connect(str(machine.qemu.gdb_socket))
        gdb.command("set osabi auto")  # as GDB is without us: GdbSession speeds its steps up
        gdb.command(f"source {loop}")
        printed = gdb.command(f"python kexecdbg_stepi_rates({_STEPI_STEPS})", _SECONDS)
    rates = json.loads(printed.splitlines()[-1])  # GDB/MI reports every stop on the same stream
    return rates["alone"], rates["reading"]


def _recorded(engine: Engine, steps: int) -> float:
    """With every loop's rounds as steps of their own, from the first word to the stub to the finished file."""
    with (
        tempfile.TemporaryDirectory() as directory,
        _guest() as machine,
        GdbRemote(str(machine.qemu.gdb_socket)) as remote,
    ):
        options = RecordingOptions(engine, Limits(steps=steps), fold=False)
        started = time.perf_counter()
        result = Recording(remote, Path(directory) / "run.kxt", options).run()
        return result.steps / (time.perf_counter() - started)


def _qemu_log_rate() -> float:
    """What the log engine could come to at most: the same log, read and not looked at."""
    read = 0
    with _guest() as machine, GdbRemote(str(machine.qemu.gdb_socket)) as remote:
        window = CpuLogWindow()
        window.open(remote.monitor)
        ended = threading.Event()

        def drain() -> None:
            nonlocal read
            while data := window.read():
                read += len(data)
                if read >= _LOGGED * _BYTES_OF_DUMP:
                    ended.set()

        thread = threading.Thread(target=drain)
        started = time.perf_counter()
        thread.start()
        remote.start()
        ended.wait(_SECONDS)
        seconds = time.perf_counter() - started
        rate = read / _BYTES_OF_DUMP / seconds
        remote.interrupt()
        window.close(remote.monitor)
        thread.join()
        window.release()
    return rate
