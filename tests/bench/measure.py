"""Timing and the table that every benchmark prints."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Measurement:
    """One measured thing: the median of several runs in seconds, and the figure to stay under, if there is one."""

    name: str
    seconds: float
    limit: float | None = None


def median_seconds(work: Callable[[], object], repeat: int = 7) -> float:
    """Median wall time of ``repeat`` runs of ``work``, after one that is not counted."""
    work()
    durations = []
    for _ in range(repeat):
        started = time.perf_counter()
        work()
        durations.append(time.perf_counter() - started)
    return statistics.median(durations)


def report(title: str, measurements: Sequence[Measurement]) -> str:
    """The measurements as a table; ratios are to the first one, which is what the machine itself takes."""
    base = measurements[0].seconds
    lines = [title]
    for item in measurements:
        limit = "" if item.limit is None else f"  limit {_milliseconds(item.limit)}"
        verdict = "" if item.limit is None else (", met" if item.seconds <= item.limit else ", MISSED")
        lines.append(f"  {item.name:<44} {_milliseconds(item.seconds)}  x{item.seconds / base:<7.1f}{limit}{verdict}")
    return "\n".join(lines)


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:9.2f} ms"
