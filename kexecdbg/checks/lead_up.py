"""What ran before: the ways through the code behind the PC that lead to it, as far as they can be read off the code.

A CPU keeps no record of where it came from. Within a window of instructions before the PC the direct branches, the
fall-through and the return address in X30 tell which instructions came before which. Each way is evaluated; a general
register that nothing has written since has the value it has now, the others are unknown. A way begins where nothing
more can be said: at an entry of the code, behind a call or an exception, at the window's first instruction. What a rule
finds missing has to be missing on every way.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from kexecdbg.arm64.evaluation import (
    EvaluatedRegisters,
    Evaluator,
    Location,
    MemoryAccess,
    Step,
    Stop,
    StopReason,
    SystemWrite,
    TranslatedMemory,
)
from kexecdbg.arm64.evaluation.branches import branch
from kexecdbg.arm64.evaluation.loads_and_stores import Indexing, load_store
from kexecdbg.arm64.evaluation.registers import ZERO_OR_SP
from kexecdbg.arm64.evaluation.written_registers import EVERY_REGISTER, written_registers
from kexecdbg.arm64.faults import Access
from kexecdbg.arm64.instructions import INSTRUCTION_SIZE, Flow, Instruction, decode_instruction
from kexecdbg.arm64.interfaces import PhysicalMemory, RegisterValues
from kexecdbg.errors import MemoryUnreadableError
from kexecdbg.machine.state import CpuState

_WINDOW = 96
"""Instructions before the PC that are looked at."""
_MOST_WAYS = 32
"""Where more ways lead to the PC than this, none is followed: too little can be said for all of them."""
_LONGEST_LEAF = 32
"""Instructions of a function that is followed from its call to its return, at most."""

Way = tuple[Step, ...]
"""Instructions that ran one after the other, the last one right before the PC."""


def ways_to(state: CpuState, memory: PhysicalMemory) -> tuple[Way, ...]:
    """The ways that lead to the PC of ``state``; empty when nothing can be said.

    A value that an instruction wrote to a system register, unknown in itself, is the register's present one if no
    later instruction wrote to it.
    """
    pc = state.get("PC")
    if pc is None:
        return ()
    code = _Code(state, memory, pc)
    ways = []
    for number, path in enumerate(code.paths()):
        if number == _MOST_WAYS:
            return ()
        way = _evaluated(path, state, memory)
        if way is not None:
            ways.append(way)
    return tuple(dict.fromkeys(ways))


class _Code:
    """The window before the PC as a graph."""

    def __init__(self, state: CpuState, memory: PhysicalMemory, pc: int) -> None:
        self._state, self._pc = state, pc
        self._space = TranslatedMemory(memory)
        self.instructions: dict[int, Instruction] = {}
        self._before: dict[int, list[int]] = {}
        for address in range(pc - _WINDOW * INSTRUCTION_SIZE, pc, INSTRUCTION_SIZE):
            instruction = self._read(address)
            if instruction is not None:
                self.instructions[address] = instruction
                for successor in _successors(instruction):
                    self._before.setdefault(successor, []).append(address)

    def _read(self, address: int) -> Instruction | None:
        location = self._space.locate(self._state, address, Access.FETCH)
        try:
            return None if location.pa is None else decode_instruction(self._space.fetch(location.pa), address)
        except MemoryUnreadableError:
            return None

    def paths(self) -> Iterator[list[Instruction]]:
        """Every way to the PC through the window without going through an instruction twice."""
        pending: list[list[int]] = [[self._pc]]
        while pending:
            path = pending.pop()
            earlier = [address for address in self._before.get(path[0], []) if address not in path]
            caller = self._caller(path)
            if not earlier and caller is not None and caller not in path:
                earlier = [caller]
            if not earlier or len(path) > _WINDOW:
                yield [self.instructions[address] for address in path[:-1]]
            pending += [[address, *path] for address in earlier]

    def _caller(self, path: list[int]) -> int | None:
        """The call that entered ``path``, if X30 still tells."""
        link = self._state.get("X30")
        if link is None or any(self.instructions[address].flow is Flow.CALL for address in path[:-1]):
            return None
        call = self._read(link - INSTRUCTION_SIZE)
        if call is None or call.flow is not Flow.CALL or call.target != path[0]:
            return None
        self.instructions[call.address] = call
        for address in range(call.address - _WINDOW * INSTRUCTION_SIZE, call.address, INSTRUCTION_SIZE):
            instruction = self.instructions.get(address) or self._read(address)
            if instruction is not None and address not in self.instructions:
                self.instructions[address] = instruction
                for successor in _successors(instruction):
                    self._before.setdefault(successor, []).append(address)
        return call.address


def _successors(instruction: Instruction) -> tuple[int, ...]:
    if instruction.flow is Flow.CALL:
        return (instruction.address + INSTRUCTION_SIZE,)
    return instruction.successors()


class _Unknown:
    """Registers before the window: what cannot change is known, and HCR_EL2 unless the way writes it."""

    _CONSTANT = ("ID_", "MIDR", "MPIDR", "REVIDR", "CTR_EL0", "DCZID_EL0")

    def __init__(self, state: CpuState, keeps_hcr: bool) -> None:
        self._state = state
        self._known = {"PSTATE"} | ({"HCR_EL2"} if keeps_hcr else set())

    def get(self, name: str, /) -> int | None:
        """See :class:`kexecdbg.arm64.interfaces.RegisterValues`."""
        if name in self._known or name.startswith(self._CONSTANT) or name == "HaveEL2":
            return self._state.get(name)
        return None


class _PresentMemory:
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


def _evaluated(path: list[Instruction], state: CpuState, memory: PhysicalMemory) -> Way | None:
    """The steps of ``path`` since the last thing whose effects are unknown; ``None`` if the path cannot be taken."""
    last_hcr = max((n for n, found in enumerate(path) if _writes(found, "HCR_EL2")), default=None)
    registers = EvaluatedRegisters(_Unknown(state, keeps_hcr=last_hcr is None))
    registers.flags = None
    space = _PresentMemory(state, memory)
    evaluator = Evaluator(registers, space)
    headers = _loop_headers(path)
    kept = _kept_from(path)
    _know_again(registers, state, kept[0])
    steps: list[Step] = []
    for number, instruction in enumerate(path):
        if instruction.address in headers:
            registers.forget_general()
            _know_again(registers, state, kept[number])
        following = path[number + 1].address if number + 1 < len(path) else None
        registers.pc = instruction.address
        calls = instruction.flow is Flow.CALL and (number + 1 == len(path) or instruction.target != following)
        result = _leaf_call(evaluator, instruction) if calls else evaluator.execute(instruction)
        if isinstance(result, Step):
            decided = branch(instruction.word, instruction.address) is not None and number + 1 < len(path)
            if decided and registers.pc != following:
                return None
            _know_again(registers, state, kept[number + 1] - kept[number])
            steps.append(_with_moved_base(result, evaluator))
        elif isinstance(result, tuple):
            steps += result
        elif result.reason is StopReason.UNDECIDED:
            steps.append(Step(instruction))
        else:
            registers.forget_general()
            _know_again(registers, state, kept[number + 1])
            steps = []
        if number == last_hcr:
            registers.write_system("HCR_EL2", state.get("HCR_EL2"))
    return _with_present_values(steps, state)


def _kept_from(path: list[Instruction]) -> list[frozenset[int]]:
    """For each position on the path, the registers that nothing from there on writes; at last, all of them."""
    kept = [EVERY_REGISTER]
    for instruction in reversed(path):
        written = EVERY_REGISTER if instruction.flow is Flow.CALL else written_registers(instruction)
        kept.append(kept[-1] - written)
    return kept[::-1]


def _know_again(registers: EvaluatedRegisters, state: CpuState, numbers: frozenset[int]) -> None:
    """Give registers that have kept their value since the value that they have now."""
    for number in numbers:
        value = state.get("SP" if number == ZERO_OR_SP else f"X{number}")
        if value is not None:
            registers.write_or_sp(number, value)


def _with_moved_base(step: Step, evaluator: Evaluator) -> Step:
    """``step`` with the address of a load or store that moved its base there, and whose base is only known since."""
    access = load_store(step.instruction.word)
    if access is None or access.indexing is not Indexing.PRE or access.base is None:
        return step
    address = evaluator.registers.read_or_sp(access.base)
    if address is None:
        return step
    pa = evaluator.space.locate(evaluator.registers, address, access.access).pa
    effects = tuple(
        replace(effect, address=address, pa=pa)
        if isinstance(effect, MemoryAccess) and effect.address is None
        else effect
        for effect in step.effects
    )
    return Step(step.instruction, effects)


def _leaf_call(evaluator: Evaluator, call: Instruction) -> tuple[Step, ...] | Stop:
    """A call and what it calls, if that is a few straight lines down to RET."""
    entered = evaluator.execute(call)
    if isinstance(entered, Stop):
        return entered
    steps = [entered]
    for _ in range(_LONGEST_LEAF):
        instruction = evaluator.peek()
        if isinstance(instruction, Stop) or instruction.flow not in (Flow.NEXT, Flow.RETURN):
            break
        step = evaluator.execute(instruction)
        if isinstance(step, Stop):
            break
        steps.append(step)
        if instruction.flow is Flow.RETURN:
            return tuple(steps)
    return Stop(StopReason.UNKNOWN_TARGET, call.address, call)


def _writes(instruction: Instruction, register: str) -> bool:
    move = instruction.system_move
    return move is not None and move.is_write and move.register == register


def _loop_headers(path: list[Instruction]) -> set[int]:
    """Addresses that a branch further down the path goes back to."""
    position = {instruction.address: number for number, instruction in enumerate(path)}
    return {
        instruction.target
        for number, instruction in enumerate(path)
        if instruction.target is not None and position.get(instruction.target, number) < number
    }


def _with_present_values(steps: list[Step], state: CpuState) -> Way:
    """``steps`` with the present value of a register in its last write, where that was unknown."""
    seen: set[str] = set()
    result: list[Step] = []
    for step in reversed(steps):
        effects = []
        for effect in reversed(step.effects):
            if isinstance(effect, SystemWrite):
                if effect.value is None and effect.register not in seen:
                    effect = SystemWrite(effect.register, state.get(effect.register))
                seen.add(effect.register)
            effects.append(effect)
        result.append(Step(step.instruction, tuple(reversed(effects))))
    return tuple(reversed(result))
