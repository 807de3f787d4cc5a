"""What driving a relocation asks of a debugger beside what every command does."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager
from typing import Protocol

from kexecdbg.machine.debugger import Debugger
from kexecdbg.machine.state import CpuState


class RelocationControl(Debugger, Protocol):
    """Control over the machine; after a stop, the CPU that stopped is the one that everything else works on."""

    def run(self, stops: Collection[int], seconds: float | None, passes: Mapping[int, int]) -> int:
        """Run all CPUs until one of them is at one of ``stops``, and return the PC.

        The stops are hardware breakpoints by virtual address, which hold whatever the translation is by then. An
        address in ``passes`` counts only when it is reached once more than so often. The PC is another one when
        ``seconds`` passed, or the user interrupted.

        Raises:
            TargetError: the machine ended.
        """
        ...

    def execute_instead(self, word: int) -> CpuState:
        """Execute the instruction ``word`` in place of the one at the PC, and put instruction, X9 and PC back.

        Returns the registers as they were right after it.

        Raises:
            CodeUnwritableError: nobody can write an instruction there; nothing has been changed.
            TargetError: it was not executed, or something could not be put back.
        """
        ...

    def running_cpus(self) -> tuple[int, ...]:
        """Numbers of the other CPUs that execute instructions: neither waiting for an interrupt nor powered off."""
        ...

    def on_cpu(self, number: int) -> AbstractContextManager[None]:
        """A context in which everything else works on CPU ``number``."""
        ...
