"""What a debugger that controls a stopped machine can do; GDB is one (plugins/adapter.py)."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from kexecdbg.machine.memory import WritablePhysicalMemory
from kexecdbg.machine.state import CpuState


class Debugger(Protocol):
    """Control over one CPU of a stopped machine."""

    @property
    def memory(self) -> WritablePhysicalMemory:
        """Physical memory."""
        ...

    def state(self) -> CpuState:
        """The registers as they are now; values are read on demand and belong to this stop."""
        ...

    def step(self) -> None:
        """Execute one instruction.

        Raises:
            TargetError: the machine ended or does not answer.
        """
        ...

    def run_to(self, addresses: Collection[int], seconds: float | None = None) -> int:
        """Run until the PC is one of ``addresses`` (virtual), and return the PC.

        Hardware breakpoints, so that it works across a change of translation. An address equal to the present PC does
        not count until it is reached again.

        Raises:
            TargetError: the machine ended, stopped elsewhere, or ``seconds`` passed first.
        """
        ...

    def write_register(self, name: str, value: int) -> None:
        """Set a general register, ``PC`` or ``PSTATE``, and read it back.

        Raises:
            TargetError: it did not take.
        """
        ...
