"""The code before the PC as a graph: which instructions lead to it, and what is not written on the way."""

from __future__ import annotations

from kexecdbg.arm64.evaluation import Location, TranslatedMemory
from kexecdbg.arm64.evaluation.written_registers import EVERY_REGISTER, written_registers
from kexecdbg.arm64.faults import Access
from kexecdbg.arm64.instructions import INSTRUCTION_SIZE, Flow, Instruction, decode_instruction
from kexecdbg.arm64.interfaces import PhysicalMemory, RegisterValues
from kexecdbg.errors import MemoryUnreadableError
from kexecdbg.machine.state import CpuState

_WINDOW = 96
"""Instructions before the PC that are looked at."""


class PresentMemory:
    """Addresses lead where they lead now; what data memory held cannot be told."""

    def __init__(self, state: CpuState, memory: PhysicalMemory) -> None:
        self._state, self._memory = state, TranslatedMemory(memory)

    def locate(self, registers: RegisterValues, va: int, access: Access) -> Location:
        """As the present state translates, without faults."""
        return Location(self._memory.locate(self._state, va, Access.READ).pa)

    def fetch(self, pa: int) -> int:
        """Code and literals as they are now."""
        return self._memory.fetch(pa)

    def read(self, pa: int, size: int) -> bytes:
        """Always raises."""
        raise MemoryUnreadableError(pa, size, "what it held then cannot be told")

    def store(self, pa: int | None, size: int, data: bytes | None) -> None:
        """Nothing: memory is unknown anyway."""

    def translation_changed(self) -> None:
        """Nothing: the present translation is used throughout."""


class CodeBefore:
    """The instructions before the PC that can lead to it, as a graph.

    Attributes:
        state, memory: the present ones.
        instructions: by address.
        following: the addresses that an instruction leads to on a way to the PC.
        entries: where ways begin.
        headers: addresses that an instruction further down leads back to.
        kept: by address, the general registers that nothing writes from there to the PC.
        writes_hcr: addresses from which on HCR_EL2 may be written.
    """

    def __init__(self, state: CpuState, memory: PhysicalMemory, pc: int) -> None:
        self.state, self.memory = state, PresentMemory(state, memory)
        self._window: dict[int, Instruction] = {}
        self._before: dict[int, list[int]] = {}
        self._read_window(pc)
        self.instructions: dict[int, Instruction] = {}
        self.following: dict[int, list[int]] = {}
        self._collect(pc)
        caller = self._caller(pc)
        if caller is not None:
            self._read_window(caller.address)
            self._window[caller.address] = caller
            self.instructions[caller.address] = caller
            assert caller.target is not None
            self.following[caller.address] = [caller.target]
            self._collect(caller.address)
        led_to = {address for following in self.following.values() for address in following}
        self.entries = [address for address in self.instructions if address not in led_to]
        self.headers = {
            target for address, following in self.following.items() for target in following if target <= address
        }
        self.kept, self.writes_hcr = self._look_ahead()

    def _read_window(self, end: int) -> None:
        for address in range(end - _WINDOW * INSTRUCTION_SIZE, end, INSTRUCTION_SIZE):
            instruction = None if address in self._window else self._read(address)
            if instruction is not None:
                self._window[address] = instruction
                for successor in _successors(instruction):
                    self._before.setdefault(successor, []).append(address)

    def _read(self, address: int) -> Instruction | None:
        location = self.memory.locate(self.state, address, Access.FETCH)
        try:
            return None if location.pa is None else decode_instruction(self.memory.fetch(location.pa), address)
        except MemoryUnreadableError:
            return None

    def _collect(self, end: int) -> None:
        """Add everything in the window that leads to ``end``."""
        pending = [end]
        while pending:
            target = pending.pop()
            for address in self._before.get(target, []):
                if address not in self.instructions:
                    self.instructions[address] = self._window[address]
                    pending.append(address)
                following = self.following.setdefault(address, [])
                if target not in following:
                    following.append(target)

    def _caller(self, pc: int) -> Instruction | None:
        """The call that entered the code, if X30 still tells and no call in it has overwritten that."""
        link = self.state.get("X30")
        if link is None or any(found.flow is Flow.CALL for found in self.instructions.values()):
            return None
        call = self._read(link - INSTRUCTION_SIZE)
        if call is None or call.flow is not Flow.CALL or call.target not in {*self.instructions, pc}:
            return None
        return None if self._before.get(call.target) else call

    def _look_ahead(self) -> tuple[dict[int, frozenset[int]], set[int]]:
        written = {address: _written_by(found) for address, found in self.instructions.items()}
        writes_hcr = {address for address, found in self.instructions.items() if writes(found, "HCR_EL2")}
        changed = True
        while changed:
            changed = False
            for address in sorted(self.instructions, reverse=True):
                following = [target for target in self.following[address] if target in written]
                union = written[address].union(*(written[target] for target in following))
                if union != written[address]:
                    written[address], changed = union, True
                if address not in writes_hcr and not writes_hcr.isdisjoint(following):
                    writes_hcr.add(address)
                    changed = True
        return {address: EVERY_REGISTER - numbers for address, numbers in written.items()}, writes_hcr

    def kept_from(self, address: int) -> frozenset[int]:
        """General registers that nothing writes from ``address`` to the PC."""
        return self.kept.get(address, EVERY_REGISTER)


def _successors(instruction: Instruction) -> tuple[int, ...]:
    if instruction.flow is Flow.CALL:
        return (instruction.address + INSTRUCTION_SIZE,)
    return instruction.successors()


def _written_by(instruction: Instruction) -> frozenset[int]:
    return EVERY_REGISTER if instruction.flow is Flow.CALL else written_registers(instruction)


def writes(instruction: Instruction, register: str) -> bool:
    move = instruction.system_move
    return move is not None and move.is_write and move.register == register
