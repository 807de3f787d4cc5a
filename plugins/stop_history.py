"""The control registers as they were at the last stop, for ``kexec-regs --diff``."""

from __future__ import annotations

import gdb

from kexecdbg.errors import KexecdbgError
from kexecdbg.machine.control_registers import control_registers

_NAMES = tuple(name for el in (1, 2, 3) for name in control_registers(el))

_before: dict[str, int] = {}
_now: dict[str, int] = {}
_missed = False


def values_at_last_stop() -> dict[str, int]:
    """Control registers of EL1 to EL3 at the stop before this one; empty when there was none."""
    return dict(_before)


def after_command() -> None:
    """Record the stop that a command of ours, which stepped by itself, has left the CPU at."""
    if _missed:
        _record()


def _record() -> None:
    global _before, _now, _missed
    from .adapter import GdbRegisters

    try:
        registers = GdbRegisters()
    except (gdb.error, KexecdbgError):
        return  # no registers to read at this stop; the next stop counts from the last one that had them
    _before, _missed = _now, False
    _now = {name: value for name in _NAMES if (value := registers.get(name)) is not None}


def _stopped(event: gdb.StopEvent) -> None:
    global _missed
    from .adapter import stepping_inside_command

    if stepping_inside_command():
        _missed = True
    else:
        _record()


def _forget(event: gdb.ExitedEvent) -> None:
    global _missed
    _before.clear()
    _now.clear()
    _missed = False


gdb.events.stop.connect(_stopped)
gdb.events.exited.connect(_forget)
