"""What the gdbstub of a replay can do: everything that QEMU's can, or less, as those of real boards."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass, field


class Feature(enum.Enum):
    """What a gdbstub may lack; the value is its name in options."""

    SYSTEM_REGISTERS = "system-registers"
    """Registers beside those that GDB itself requires."""
    PHYSICAL_MEMORY = "physical-memory"
    """QEMU's PhyMemMode: memory packets with physical addresses."""
    MONITOR = "monitor"
    """QEMU's monitor, which knows the memory map."""
    REVERSE = "reverse"
    """Steps and runs backwards."""


class StubKind(enum.Enum):
    """Whose gdbstub a replay stands for; the value is its name in options."""

    QEMU = "qemu"
    OPENOCD = "openocd"


OPENOCD_BANKED = tuple(f"{name}_EL{el}" for el in (1, 2, 3) for name in ("ELR", "ESR", "SPSR"))
"""The system registers that OpenOCD offers, in the feature ``net.sourceforge.openocd.banked`` (OpenOCD
src/target/armv8.c, armv8_regs, up to 0.12 and its main branch): no SCTLR, TCR, TTBR, MAIR, HCR or VBAR."""
OPENOCD_32_BITS = frozenset(name for name in OPENOCD_BANKED if not name.startswith("ELR"))
"""Those that OpenOCD 0.12 gives 32 bits; its main branch gives them 64."""


@dataclass(frozen=True)
class StubFeatures:
    """What a replay's gdbstub can do.

    Attributes:
        kind: whose it stands for.
        without: what it lacks beside that.
    """

    kind: StubKind = StubKind.QEMU
    without: frozenset[Feature] = field(default=frozenset())

    def has(self, feature: Feature) -> bool:
        """Whether it has ``feature``. OpenOCD's has a monitor of its own, not QEMU's."""
        return self.kind is StubKind.QEMU and feature not in self.without

    @property
    def has_openocd_monitor(self) -> bool:
        """Whether ``monitor`` reaches OpenOCD's command interpreter."""
        return self.kind is StubKind.OPENOCD and Feature.MONITOR not in self.without

    def system_registers(self, names: Iterable[str]) -> tuple[str, ...]:
        """Those of the recorded registers ``names`` that are no core registers and are offered."""
        if Feature.SYSTEM_REGISTERS in self.without:
            return ()
        if self.kind is StubKind.OPENOCD:
            return tuple(name for name in names if name in OPENOCD_BANKED)
        return tuple(names)
