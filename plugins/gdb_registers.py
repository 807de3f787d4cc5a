"""Registers as GDB reads them, by canonical name."""

from __future__ import annotations

from functools import cache

import gdb

from kexecdbg.arm64.bits import mask
from kexecdbg.arm64.interfaces import HAVE_EL2
from kexecdbg.arm64.register_names import canonical_name
from kexecdbg.machine.state import shows_no_el2
from kexecdbg.machine.stub_memory import StubMemory

from .gdb_stub import GdbStub


class GdbRegisters:
    """Register values of the selected CPU at this stop, read when asked for.

    ``identification`` has what is known of the CPU's ID registers, which never change, and gets what is read of them.
    """

    def __init__(self, identification: dict[str, int] | None = None) -> None:
        self._frame = gdb.newest_frame()
        self._names = register_names(self._frame.architecture())
        self._identification = {} if identification is None else identification
        self._values: dict[str, int | None] = {**self._identification}

    def get(self, name: str, /) -> int | None:
        """The value, or ``None`` when the target does not have the register or cannot read it."""
        if name not in self._values:
            value = self._values[name] = self._read(name)
            if value is not None and name.startswith("ID_"):
                self._identification[name] = value
        return self._values[name]

    def names(self) -> tuple[str, ...]:
        """Canonical names of all registers that the target provides."""
        return tuple(self._names)

    def _read(self, name: str) -> int | None:
        if name == HAVE_EL2:
            # Another stub than QEMU's may leave registers out that the CPU has.
            return 0 if shows_no_el2(self._names) and StubMemory.is_possible(GdbStub()) else None
        gdb_name = self._names.get(name)
        if gdb_name is None:
            return None
        try:
            value = self._frame.read_register(gdb_name)
            if value.is_optimized_out:
                return None
            return int(value.cast(gdb.lookup_type("unsigned long"))) & mask(8 * value.type.sizeof)
        except gdb.error as error:
            # GDB's ways to say that the target calls the value unavailable, or answers that it cannot read it
            # (gdb/remote.c, fetch_register_using_p(); OpenOCD, of a higher exception level's registers).
            refused = ("not available", "Could not fetch register")
            if isinstance(error, gdb.MemoryError) or any(text in str(error) for text in refused):
                return None
            raise


@cache
def register_names(architecture: gdb.Architecture) -> dict[str, str]:
    """GDB's register names by canonical name, as the target describes them."""
    names: dict[str, str] = {}
    for descriptor in architecture.registers():
        canonical = canonical_name(descriptor.name)
        # QEMU has duplicates (VBAR and VBAR_EL1 on some versions); the canonical spelling wins.
        if canonical is not None and (canonical not in names or descriptor.name == canonical):
            names[canonical] = descriptor.name
    return names
