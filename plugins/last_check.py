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
_stepped_to: int | None = None


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
    global _stepped, _stepped_to
    if _stepped is not None and _stepped.site == steps.site and not steps.set_up:
        steps = replace(steps, set_up=_stepped.set_up)  # it had stopped at the switch before
    _stepped, _stepped_to = steps, gdb.selected_frame().pc()


def stepped() -> Stepped | None:
    """What was stepped last, around a switch that need not be the last verdict's, if the machine is still there."""
    return _stepped


def passed() -> Verdict | None:
    """The last verdict, if the selected CPU is still where it was after it had been stepped over that switch."""
    selected = cpus.selected_cpu()
    if _last is None or _stepped is None or _stepped.observed is None or _stepped.site != _last.situation.site:
        return None
    return _last if selected and selected.number == _cpu and gdb.selected_frame().pc() == _stepped_to else None


def kept() -> Callable[[], None]:
    """What to call after a reconnection to the same machine, so that nothing is forgotten by the disconnection."""
    held = _last, _cpu, _stepped, _stepped_to

    def put_back() -> None:
        global _last, _cpu, _stepped, _stepped_to
        _last, _cpu, _stepped, _stepped_to = held

    return put_back


def _forget(event: gdb.Event) -> None:
    global _last, _cpu, _stepped, _stepped_to
    _last = _cpu = _stepped = _stepped_to = None


gdb.events.exited.connect(_forget)
