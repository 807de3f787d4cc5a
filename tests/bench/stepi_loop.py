"""Sourced into GDB by ``tests.bench.record``: how fast a loop of ``stepi`` in GDB's own Python is."""

from __future__ import annotations

import json
import time

import gdb

_NAMES = (*(f"x{number}" for number in range(31)), "sp", "pc", "cpsr")


def kexecdbg_stepi_rates(steps: int) -> None:
    """Print steps a second as JSON: of ``stepi`` alone, and with the general registers read after each."""
    print(json.dumps({"alone": _rate(steps, reads=False), "reading": _rate(steps, reads=True)}))


def _rate(steps: int, reads: bool) -> float:
    started = time.perf_counter()
    for _ in range(steps):
        gdb.execute("stepi", to_string=True)
        if reads:
            frame = gdb.newest_frame()
            [int(frame.read_register(name)) for name in _NAMES]
    return steps / (time.perf_counter() - started)
