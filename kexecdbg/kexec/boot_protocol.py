"""What a new kernel must find at its first instruction.

Linux Documentation/arch/arm64/booting.rst: x0 is the physical address of the device tree, x1 to x3 are 0, the MMU and
the data cache are off, interrupts are masked, the CPU is at EL2 or EL1.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from kexecdbg.arm64.bits import bit, bits
from kexecdbg.arm64.interfaces import PhysicalMemory
from kexecdbg.arm64.regimes import SCTLR_M, current_el, regime_of
from kexecdbg.errors import MemoryUnreadableError
from kexecdbg.machine.state import CpuState

_SCTLR_C = 2
_DAIF = (9, 6)
_IMAGE_MAGIC = b"ARM\x64"
_IMAGE_MAGIC_OFFSET = 56
_DEVICE_TREE_MAGIC = b"\xd0\x0d\xfe\xed"
_DEVICE_TREE_ALIGNMENT = 8


@dataclass(frozen=True)
class BootCheck:
    """One requirement of the boot protocol.

    Attributes:
        name: what it is about.
        met: whether it is met; ``None`` when that cannot be told.
        text: what was found, as a clause.
    """

    name: str
    met: bool | None
    text: str


def image_entry(memory: PhysicalMemory, starts: Iterable[int]) -> int | None:
    """The first of the physical addresses ``starts`` that an arm64 Image begins at (booting.rst, "magic" at 56)."""
    for start in starts:
        try:
            if memory.read(start + _IMAGE_MAGIC_OFFSET, len(_IMAGE_MAGIC)) == _IMAGE_MAGIC:
                return start
        except MemoryUnreadableError:
            continue
    return None


def boot_checks(
    state: CpuState, memory: PhysicalMemory, device_tree: int | None, expected_el: int | None
) -> tuple[BootCheck, ...]:
    """The registers at the new kernel's first instruction against the boot protocol.

    Args:
        state: the registers there.
        memory: physical memory.
        device_tree: the physical address that x0 must hold; ``None`` when only the new kernel's loader knows it.
        expected_el: the exception level that it must be entered at, where it is known.
    """
    return tuple(_checks(state, memory, device_tree, expected_el))


def _checks(
    state: CpuState, memory: PhysicalMemory, device_tree: int | None, expected_el: int | None
) -> Iterator[BootCheck]:
    yield _device_tree(state.get("X0"), memory, device_tree)
    for name in ("X1", "X2", "X3"):
        value = state.get(name)
        yield BootCheck(name.lower(), None if value is None else value == 0, _hex(value))
    el = current_el(state)
    facts = regime_of(el, state).facts
    sctlr = state.get(facts.sctlr)
    for name, position in (("MMU", SCTLR_M), ("data cache", _SCTLR_C)):
        on = None if sctlr is None else bool(bit(sctlr, position))
        text = f"{facts.sctlr} is unknown" if on is None else f"{'on' if on else 'off'} in {facts.sctlr} {_hex(sctlr)}"
        yield BootCheck(name, None if on is None else not on, text)
    pstate = state.get("PSTATE")
    masked = None if pstate is None else bits(pstate, *_DAIF) == 0xF
    yield BootCheck("interrupts", masked, f"PSTATE.DAIF {'unknown' if pstate is None else bits(pstate, *_DAIF):#x}")
    yield BootCheck(
        "level",
        el in (1, 2) if expected_el is None else el == expected_el,
        f"EL{el}" + ("" if expected_el in (None, el) else f", not EL{expected_el}"),
    )


def _device_tree(x0: int | None, memory: PhysicalMemory, expected: int | None) -> BootCheck:
    if x0 is None:
        return BootCheck("x0", None, "unknown")
    if expected is not None and x0 != expected:
        return BootCheck("x0", False, f"{x0:#x}, not {expected:#x}, the device tree's address")
    if x0 % _DEVICE_TREE_ALIGNMENT:
        return BootCheck("x0", False, f"{x0:#x} is not a multiple of {_DEVICE_TREE_ALIGNMENT}")
    try:
        magic = memory.read(x0, struct.calcsize(">I"))
    except MemoryUnreadableError as error:
        return BootCheck("x0", False, f"{x0:#x}: {error.reason}")
    if magic != _DEVICE_TREE_MAGIC:
        return BootCheck("x0", False, f"{x0:#x}: no device tree is there, it begins with {magic.hex()}")
    return BootCheck("x0", True, f"{x0:#x}, a device tree")


def _hex(value: int | None) -> str:
    return "unknown" if value is None else f"{value:#x}"
