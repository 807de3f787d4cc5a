"""What the architecture code needs from the outside: register values and physical memory.

Nothing in ``arm64`` knows where they come from; the ``machine`` room has the real ones.
"""

from __future__ import annotations

from typing import Protocol

HAVE_EL2 = "HaveEL2"
"""Not a register: 1 or 0 where the machine knows that the CPU has or lacks EL2 (pseudocode ``HaveEL(EL2)``) although
ID_AA64PFR0_EL1 cannot be read."""


class RegisterValues(Protocol):
    """Register values by canonical Arm name (``SCTLR_EL2``, ``X0``, ``PC``); a plain ``dict`` will do."""

    def get(self, name: str, /) -> int | None:
        """The value, an unsigned 64-bit integer, or ``None`` when it is unknown (never 0 for unknown)."""
        ...


class PhysicalMemory(Protocol):
    """Physical memory of a stopped machine."""

    def read(self, address: int, size: int) -> bytes:
        """Exactly ``size`` bytes from the physical address ``address``.

        Raises:
            MemoryUnreadableError: any part is a hole, a device or cannot be read. Never returns zeros instead.
        """
        ...
