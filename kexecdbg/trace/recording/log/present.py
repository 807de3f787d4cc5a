"""What is known in the state that a reconstruction has come to."""

from __future__ import annotations

import sys

from kexecdbg.arm64.bits import bit, bits
from kexecdbg.arm64.pstate import el_of
from kexecdbg.arm64.regimes import SCTLR_EE
from kexecdbg.machine.state import CpuState
from kexecdbg.trace.recording.log.code import CodeMap
from kexecdbg.trace.recording.log.memory import LoggedMemory
from kexecdbg.trace.recording.log.states import States
from kexecdbg.trace.writer import TraceWriter


class Present:
    """The trace so far, and the machine as it is at its end.

    Attributes:
        writer: the trace.
        memory: physical memory.
        values: registers by name; the general ones may be those of an earlier state (:meth:`state` has them right).
        code: instructions and translations.
        most_steps: how many steps the trace may have; ``None`` for any number.
        unknown_stores: how many stores there were of which the log does not show where or what.
    """

    def __init__(self, writer: TraceWriter, memory: LoggedMemory, most_steps: int | None = None) -> None:
        self.writer = writer
        self.memory = memory
        self.values = writer.values()
        self.code = CodeMap(memory, self.values)
        self.most_steps = most_steps
        self.unknown_stores = 0
        self._recorded = frozenset(writer.header.registers)

    @property
    def room(self) -> int:
        """How many steps more the trace may have."""
        return sys.maxsize if self.most_steps is None else self.most_steps - self.writer.steps

    def stores_unknown(self, count: int = 1) -> None:
        """There were stores of which the log does not show where or what."""
        if count:
            self.unknown_stores += count
            self.memory.lose_track()

    def records(self, name: str) -> bool:
        """Whether the trace has this register."""
        return name in self._recorded

    def set(self, name: str, value: int | None) -> None:
        """A register has a new value; ``None`` for one that is not known."""
        if value is None:
            self.values.pop(name, None)
        else:
            self.values[name] = value

    def state(self, states: States) -> CpuState:
        """All registers in the first of ``states``, which is the present state."""
        return CpuState({**self.values, **states.row()})

    @property
    def block_size(self) -> int:
        """Bytes that DC ZVA zeroes (Arm ARM D24.2.34, DCZID_EL0.BS)."""
        return 4 << bits(self.values.get("DCZID_EL0", 4), 3, 0)

    def is_big_endian(self, pstate: int) -> bool:
        """Whether data is big-endian at the exception level of ``pstate`` (SCTLR_ELx.EE)."""
        return bool(bit(self.values.get(f"SCTLR_EL{max(el_of(pstate), 1)}", 0), SCTLR_EE))
