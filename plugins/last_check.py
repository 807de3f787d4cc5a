"""The last verdict of this debug session, and what was stepped then, for commands that come after it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import gdb

from . import cpus

if TYPE_CHECKING:
    from kexecdbg.checks.stepping import Stepped
    from kexecdbg.checks.verdict import Verdict

_last: Verdict | None = None
_cpu: int | None = None
_stepped: Stepped | None = None


def remember(verdict: Verdict) -> None:
    """Keep ``verdict``, on the selected CPU, until the machine ends or another one replaces it."""
    global _last, _cpu
    selected = cpus.selected_cpu()
    _last, _cpu = verdict, selected.number if selected else None


def last() -> Verdict | None:
    """The last verdict, if the machine it was about is still there."""
    return _last


def cpu() -> int | None:
    """The number of the CPU that the last verdict was about."""
    return _cpu


def remember_steps(steps: Stepped) -> None:
    """Keep what was stepped around the switch that the last verdict is about."""
    global _stepped
    if _stepped is not None and _stepped.site == steps.site and not steps.set_up:
        steps = replace(steps, set_up=_stepped.set_up)  # it had stopped at the switch before
    _stepped = steps


def stepped() -> Stepped | None:
    """What was stepped last, around a switch that need not be the last verdict's, if the machine is still there."""
    return _stepped


def kept() -> Callable[[], None]:
    """What to call after a reconnection to the same machine, so that nothing is forgotten by the disconnection."""
    held = _last, _cpu, _stepped

    def put_back() -> None:
        global _last, _cpu, _stepped
        _last, _cpu, _stepped = held

    return put_back


def _forget(event: gdb.Event) -> None:
    global _last, _cpu, _stepped
    _last = _cpu = _stepped = None


gdb.events.exited.connect(_forget)
