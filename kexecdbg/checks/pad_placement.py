"""Puts a landing pad into the machine, and takes it away."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from kexecdbg.arm64.interfaces import PhysicalMemory
from kexecdbg.arm64.regimes import current_el
from kexecdbg.checks.fetching import fetched_from
from kexecdbg.checks.landing_pad import B_SELF, LandingPad
from kexecdbg.errors import KexecdbgError, TargetError
from kexecdbg.machine.debugger import Debugger
from kexecdbg.machine.memory import WritablePhysicalMemory, write_and_verify
from kexecdbg.machine.state import CpuState

_MSR_VBAR_X9 = {1: 0xD518_C009, 2: 0xD51C_C009, 3: 0xD51E_C009}
"""``msr vbar_elN, x9`` by N."""
_ISB = 0xD503_3FDF


class PlantingDebugger(Debugger, Protocol):
    """A debugger that can have the CPU execute an instruction that is not in the code."""

    def execute_instead(self, word: int) -> CpuState:
        """As :meth:`kexecdbg.checks.relocating.control.RelocationControl.execute_instead`."""
        ...


@dataclass(frozen=True)
class Removal:
    """What became of a landing pad that was taken away.

    Attributes:
        kept: what could not be put back, one clause each, with the reason.
        vbar: what VBAR_ELx is now.
        parked: whether the CPU is still where the pad was.
    """

    kept: tuple[str, ...]
    vbar: int | None
    parked: bool


def place(debugger: PlantingDebugger, memory: WritablePhysicalMemory, pad: LandingPad) -> None:
    """Write ``pad``; on any failure everything is put back.

    Args:
        debugger: control over the CPU, which is at the switch.
        memory: physical memory, written in a way that the machine notices that code has changed.
        pad: as it was planned for this switch.

    Raises:
        TargetError: something has changed since it was planned, or a write did not take.
    """
    try:
        if pad.descriptor is not None:
            _exchange(
                memory, pad.descriptor.address, pad.word.pack(pad.descriptor.old), pad.word.pack(pad.descriptor.new)
            )
        for address, saved in pad.places():
            _exchange(memory, address, saved, B_SELF)
        if pad.moves_vectors:
            _write_vbar(debugger, pad, pad.base)
    except BaseException:
        remove(debugger, memory, pad)
        raise


def remove(debugger: PlantingDebugger, memory: WritablePhysicalMemory, pad: LandingPad) -> Removal:
    """Put back what ``pad`` changed, as far as it is still there; arguments as those of :func:`place`."""
    kept = []
    # VBAR_ELx first: a CPU in the pad can only execute there.
    if pad.moves_vectors and debugger.state().get(pad.vbar) == pad.base:
        reason = _why_vbar_stays(debugger, pad)
        if reason is None:
            try:
                _write_vbar(debugger, pad, pad.old_base)
            except KexecdbgError as error:
                reason = str(error)
        if reason is not None:
            kept.append(f"{pad.vbar} stays {pad.base:#x} (it was {pad.old_base:#x}): {reason}")
    for address, ours, saved in _changes(pad):
        found = memory.read(address, len(saved))
        if found == ours:
            write_and_verify(memory, address, saved)
        elif found != saved:
            kept.append(f"{address:#x} has changed since, to {found.hex()}; it was {saved.hex()}")
    state = debugger.state()
    return Removal(tuple(kept), state.get(pad.vbar), pad.holds(state.get("PC")))


def is_in_memory(memory: PhysicalMemory, pad: LandingPad) -> bool:
    """Whether anything that ``pad`` changed is still there; not after the machine was started again.

    One that changed nothing, where each vector was ``b .`` already, always is.

    Raises:
        MemoryUnreadableError: its memory cannot be read, as on another machine.
    """
    changes = list(_changes(pad))
    return not changes or any(memory.read(address, len(ours)) == ours for address, ours, _ in changes)


def _changes(pad: LandingPad) -> Iterator[tuple[int, bytes, bytes]]:
    """Physical address of each place in memory where ``pad`` makes a difference, what it has there, what was there."""
    for address, saved in pad.places():
        if saved != B_SELF:
            yield address, B_SELF, saved
    if pad.descriptor is not None:
        repair = pad.descriptor
        yield repair.address, pad.word.pack(repair.new), pad.word.pack(repair.old)


def _exchange(memory: WritablePhysicalMemory, address: int, expected: bytes, new: bytes) -> None:
    found = memory.read(address, len(expected))
    if found != expected:
        raise TargetError(
            f"physical {address:#x} holds {found.hex()}, not {expected.hex()} any more; nothing is changed"
        )
    write_and_verify(memory, address, new)


def _why_vbar_stays(debugger: PlantingDebugger, pad: LandingPad) -> str | None:
    """Why the CPU cannot execute an ``msr`` where it is; ``None`` if it can."""
    state = debugger.state()
    pc, el = state.require("PC", "where to execute an instruction"), current_el(state)
    if el != pad.el:
        return f"the CPU is at EL{el}"
    if fetched_from(state, debugger.memory, pc) is None:
        return f"the CPU cannot fetch at its PC, {pc:#x}"
    return None


def _write_vbar(debugger: PlantingDebugger, pad: LandingPad, value: int) -> None:
    """Have the CPU execute ``msr vbar_elN, x9`` and ``isb`` where it is, and leave it there as it was."""
    before = debugger.state()
    registers = {name: before.require(name, "what to put back") for name in ("X9", "PSTATE", "PC")}
    debugger.write_register("X9", value)
    try:
        debugger.execute_instead(_MSR_VBAR_X9[pad.el])
        debugger.execute_instead(_ISB)
    finally:
        for name, held in registers.items():
            debugger.write_register(name, held)
    found = debugger.state().get(pad.vbar)
    if found != value:
        shown = "unknown" if found is None else f"{found:#x}"
        raise TargetError(f"{pad.vbar}: msr was executed with {value:#x} and it reads back {shown}")
