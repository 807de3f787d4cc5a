"""A CPU that can be stepped, as the recorder wants it."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Protocol

from kexecdbg.machine.gdb_remote import StopReply


class SteppedCpu(Protocol):
    """One CPU of a stopped machine that can be stepped; :class:`kexecdbg.machine.gdb_remote.GdbRemote` is one."""

    @property
    def core_names(self) -> tuple[str, ...]:
        """Names of what :meth:`read_core` gives."""
        ...

    def read_core(self) -> tuple[int, ...]:
        """X0 to X30, SP, PC and PSTATE."""
        ...

    def read_registers(self, names: Iterable[str], /) -> dict[str, int]:
        """Values of those registers that can be read."""
        ...

    def start_step(self) -> None:
        """Let the CPU execute one instruction, the others stand still."""
        ...

    def read_core_and_start_step(self) -> tuple[int, ...]:
        """:meth:`read_core`, then :meth:`start_step`, faster than one after the other."""
        ...

    def wait_stop(self, seconds: float | None = None, /) -> StopReply:
        """Wait for the end of the step."""
        ...

    def run_to(self, addresses: Collection[int], seconds: float | None = None, /) -> int:
        """Run this CPU until the PC is one of ``addresses``, the others stand still.

        Raises:
            MachineEndedError: the machine ended.
            TargetError: it stopped elsewhere, or ``seconds`` passed first.
        """
        ...
