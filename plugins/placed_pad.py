"""The landing pad that is in the machine, so that a later command can take it away."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import gdb

from kexecdbg.errors import KexecdbgError, MemoryUnreadableError, TargetError, UsageError

from . import cpus

if TYPE_CHECKING:
    from kexecdbg.checks.landing_pad import LandingPad
    from kexecdbg.checks.pad_placement import Removal
    from kexecdbg.machine.stub_memory import StubMemory

    from .adapter import GdbDebugger

_placed: LandingPad | None = None
_cpu: int | None = None


def cpu() -> int | None:
    """The number of the CPU that the landing pad in the machine is for; ``None`` when there is none."""
    return _cpu if _placed is not None else None


def is_for_selected_cpu(target: GdbDebugger) -> bool:
    """Whether there is a landing pad, and it is for the CPU that commands work on."""
    selected = cpus.selected_cpu()
    return selected is not None and selected.number == _cpu and _there(target) is not None


def place(target: GdbDebugger, pad: LandingPad) -> None:
    """Put ``pad`` into the machine; on any failure it is as before.

    Raises:
        UsageError: there is one already.
        TargetError: it could not be written.
    """
    from kexecdbg.checks.pad_placement import place as write

    global _placed, _cpu
    refuse_second(target)
    selected = cpus.selected_cpu()
    try:
        write(target, _code_memory(target), pad)
    finally:
        _forget_what_gdb_has_read()
    _placed, _cpu = pad, selected.number if selected else None


def refuse_second(target: GdbDebugger) -> None:
    """Raise UsageError when there is a landing pad in the machine already."""
    pad = _there(target)
    if pad is not None:
        raise UsageError(
            f"there is a landing pad at {pad.base:#x} already; kexec-step --remove-landing-pad takes it away"
        )


def _there(target: GdbDebugger) -> LandingPad | None:
    """The landing pad, while it is in memory: GDB may have left the machine and come back, or it is another machine."""
    from kexecdbg.checks.pad_placement import is_in_memory

    if _placed is None:
        return None
    try:
        return _placed if is_in_memory(_code_memory(target), _placed) else None
    except (MemoryUnreadableError, TargetError):
        return None  # a machine without this memory, or without the map that it takes to place one


def remove(target: GdbDebugger) -> tuple[LandingPad, Removal]:
    """Take the landing pad away: what it was, and what became of it.

    Raises:
        UsageError: there is none.
    """
    from kexecdbg.checks.pad_placement import remove as put_back

    global _placed
    pad = _there(target)
    if pad is None:
        raise UsageError("there is no landing pad; kexec-step --landing-pad places one")
    try:
        removal = put_back(target, _code_memory(target), pad)
    finally:
        _forget_what_gdb_has_read()
    _placed = None
    return pad, removal


def give_up(target: GdbDebugger) -> None:
    """Take the landing pad away after a failure, as far as the machine still answers."""
    if _placed is not None:
        with contextlib.suppress(KexecdbgError, gdb.error):
            remove(target)


def _code_memory(target: GdbDebugger) -> StubMemory:
    """Physical memory through the stub: there QEMU notices that code has changed, in the shared file it does not."""
    from kexecdbg.machine.memory_map import memory_map_of
    from kexecdbg.machine.stub_memory import StubMemory

    from .gdb_stub import GdbStub

    memory_map = memory_map_of(target.memory)
    if memory_map is None:
        raise TargetError("the machine's memory map is not known; QEMU's monitor has to answer info mtree -f")
    return StubMemory(GdbStub(), memory_map)


def _forget_what_gdb_has_read() -> None:
    """GDB keeps code that it has read until the target runs, and these writes went past it."""
    gdb.execute("maintenance flush dcache", to_string=True)
