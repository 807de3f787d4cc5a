"""The control registers as they were at the last stop, for ``kexec-regs --diff``; each CPU has its own history."""

from __future__ import annotations

import gdb

from kexecdbg.errors import KexecdbgError
from kexecdbg.machine.control_registers import control_registers

from . import cpus

_NAMES = tuple(name for el in (1, 2, 3) for name in control_registers(el))

_before: dict[int, dict[str, int]] = {}
_now: dict[int, dict[str, int]] = {}
_missed = False


def values_at_last_stop() -> dict[str, int]:
    """Control registers of EL1 to EL3 at the selected CPU's stop before this one; empty when there was none.

    A stop is that of the CPU that GDB selects then; what the others did at that time is not recorded.
    """
    cpu = cpus.selected_cpu()
    return dict(_before.get(cpu.number, {})) if cpu else {}


def after_command() -> None:
    """Record the stop that a command of ours, which stepped by itself, has left the CPU at."""
    if _missed:
        _record()


def _record() -> None:
    global _missed
    from .gdb_registers import GdbRegisters

    cpu = cpus.selected_cpu()
    try:
        registers = GdbRegisters()
    except (gdb.error, KexecdbgError):
        return  # no registers to read at this stop; the next stop counts from the last one that had them
    if cpu is None:
        return
    _missed = False
    _before[cpu.number] = _now.get(cpu.number, {})
    _now[cpu.number] = {name: value for name in _NAMES if (value := registers.get(name)) is not None}


def _stopped(event: gdb.StopEvent) -> None:
    global _missed
    from .during_command import stepping_inside_command

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
