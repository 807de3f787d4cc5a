"""The last verdict of this debug session, and what was stepped then, for commands that come after it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import gdb

from . import cpus

if TYPE_CHECKING:
    from kexecdbg.checks.stepping import Stepped
    from kexecdbg.checks.verdict import Verdict


@dataclass(frozen=True)
class _Remembered:
    """What is kept from one command to the next.

    Attributes:
        verdict: the last one.
        cpu: the number of the CPU that it is about.
        stepped: what was stepped last around a switch, which need not be the verdict's.
        stepped_to: the PC after that.
    """

    verdict: Verdict | None = None
    cpu: int | None = None
    stepped: Stepped | None = None
    stepped_to: int | None = None


_NOTHING = _Remembered()
_remembered = _NOTHING


def remember(verdict: Verdict) -> None:
    """Keep ``verdict``, on the selected CPU, until the machine ends or another one replaces it."""
    global _remembered
    selected = cpus.selected_cpu()
    _remembered = replace(_remembered, verdict=verdict, cpu=selected.number if selected else None)


def last() -> Verdict | None:
    """The last verdict, if the machine it was about is still there."""
    return _remembered.verdict


def cpu() -> int | None:
    """The number of the CPU that the last verdict was about."""
    return _remembered.cpu


def remember_steps(steps: Stepped) -> None:
    """Keep what was stepped around the switch that the last verdict is about."""
    global _remembered
    before = _remembered.stepped
    if before is not None and before.site == steps.site and not steps.set_up:
        steps = replace(steps, set_up=before.set_up)  # it had stopped at the switch before
    _remembered = replace(_remembered, stepped=steps, stepped_to=gdb.selected_frame().pc())


def stepped() -> Stepped | None:
    """What was stepped last, around a switch that need not be the last verdict's, if the machine is still there."""
    return _remembered.stepped


def passed() -> Verdict | None:
    """The last verdict, if the selected CPU is still where it was after it had been stepped over that switch."""
    verdict, steps = _remembered.verdict, _remembered.stepped
    if verdict is None or steps is None or steps.observed is None or steps.site != verdict.situation.site:
        return None
    selected = cpus.selected_cpu()
    is_there = selected is not None and selected.number == _remembered.cpu
    return verdict if is_there and gdb.selected_frame().pc() == _remembered.stepped_to else None


def kept() -> Callable[[], None]:
    """What to call after a reconnection to the same machine, so that nothing is forgotten by the disconnection."""
    held = _remembered

    def put_back() -> None:
        global _remembered
        _remembered = held

    return put_back


def _forget(event: gdb.Event) -> None:
    global _remembered
    _remembered = _NOTHING


gdb.events.exited.connect(_forget)
