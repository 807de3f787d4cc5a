"""A debugger that is nothing but memory and registers."""

from __future__ import annotations

from collections.abc import Collection

from kexecdbg.arm64.instructions import decode_instruction
from kexecdbg.machine.memory import BytesMemory
from kexecdbg.machine.state import CpuState
from tests.unit.checks.moments import Moment


class PaperDebugger:
    """Registers and memory without a machine: it can be read and written, not run."""

    def __init__(self, moment: Moment, **registers: int) -> None:
        self.memory: BytesMemory = moment.memory()
        self.registers = {**moment.values(), **registers}
        self.dropped: frozenset[str] = frozenset()

    def state(self) -> CpuState:
        return CpuState(dict(self.registers))

    def write_register(self, name: str, value: int) -> None:
        self.registers[name] = value

    def step(self) -> None:
        raise AssertionError("nothing is to be executed")

    def run_to(self, addresses: Collection[int], seconds: float | None = None) -> int:
        raise AssertionError("nothing is to be executed")

    def execute_instead(self, word: int) -> CpuState:
        """MSR (register) and barriers; an ``msr`` to one of ``dropped`` does nothing."""
        move = decode_instruction(word, 0).system_move
        if move is not None and move.is_write and move.register not in self.dropped:
            self.registers[move.register] = self.registers[move.general]
        return self.state()

    def word(self, address: int, order: str = "little") -> int:
        return int.from_bytes(self.memory.read(address, 8), "big" if order == "big" else "little")
