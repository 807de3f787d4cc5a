"""What ran before: the ways through the code behind the PC that lead to it, as far as they can be read off the code.

A CPU keeps no record of where it came from. Within a window of instructions before the PC the direct branches, the
fall-through and the return address in X30 tell which instructions came before which. Each way is evaluated; a general
register that nothing has written since has the value it has now, the others are unknown. A way begins where nothing
more can be said: at an entry of the code, behind a call or an exception, at the window's first instruction. What a rule
finds missing has to be missing on every way.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from kexecdbg.arm64.evaluation import (
    EvaluatedRegisters,
    Evaluator,
    MemoryAccess,
    Step,
    Stop,
    StopReason,
    SystemWrite,
)
from kexecdbg.arm64.evaluation.branches import branch
from kexecdbg.arm64.evaluation.loads_and_stores import Indexing, load_store
from kexecdbg.arm64.evaluation.registers import ZERO_OR_SP
from kexecdbg.arm64.instructions import Flow, Instruction
from kexecdbg.arm64.interfaces import PhysicalMemory
from kexecdbg.checks.code_before import CodeBefore, PresentMemory, writes
from kexecdbg.machine.state import CpuState

_MOST_WAYS = 32
"""Where more ways lead to the PC than this, nothing is said: too little holds for all of them."""
_MOST_STEPS = 2048
"""Instructions that are evaluated in all, at most."""
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
    code = CodeBefore(state, memory, pc)
    pending = [_Walker.at(entry, code) for entry in code.entries]
    ways: dict[Way, None] = {}
    for _ in range(_MOST_STEPS):
        if not pending:
            return tuple(ways)
        walker = pending.pop()
        for further in walker.advance():
            if further.address == pc:
                ways[_with_present_values(further.steps, state)] = None
            else:
                pending.append(further)
        if len(ways) > _MOST_WAYS:
            break
    return ()


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


@dataclass
class _Walker:
    """One way in the making.

    Attributes:
        code: what it goes through.
        registers: as they are at ``address``.
        address: of the next instruction.
        steps: what came before, since the last thing whose effects are unknown.
        been: addresses that it has gone through.
    """

    code: CodeBefore
    registers: EvaluatedRegisters
    address: int
    steps: Way
    been: frozenset[int]

    @classmethod
    def at(cls, entry: int, code: CodeBefore) -> _Walker:
        """A way that begins at ``entry``."""
        registers = EvaluatedRegisters(_Unknown(code.state, keeps_hcr=entry not in code.writes_hcr))
        registers.flags = None
        _know_again(registers, code.state, code.kept_from(entry))
        return cls(code, registers, entry, (), frozenset())

    def advance(self) -> Iterator[_Walker]:
        """The ways that this one becomes with its next instruction: several where a branch cannot be decided."""
        code, address = self.code, self.address
        instruction = code.instructions[address]
        if address in code.headers:
            self.registers.forget_general()
            _know_again(self.registers, code.state, code.kept_from(address))
        self.registers.pc = address
        been = self.been | {address}
        following = [target for target in code.following[address] if target not in been]
        evaluator = Evaluator(self.registers, code.memory)
        calls = instruction.flow is Flow.CALL and instruction.target not in following
        result = _leaf_call(evaluator, instruction) if calls else evaluator.execute(instruction)
        new: tuple[Step, ...] | None = None
        if isinstance(result, Step):
            new = (result,)
            if branch(instruction.word, address) is not None:
                following = [target for target in following if target == self.registers.pc]
        elif isinstance(result, tuple):
            new = result
        elif result.reason is StopReason.UNDECIDED:
            new = (Step(instruction),)
        else:
            self.registers.forget_general()
        for target in following:
            yield self._gone_on(target, instruction, new, been)

    def _gone_on(
        self, target: int, instruction: Instruction, new: tuple[Step, ...] | None, been: frozenset[int]
    ) -> _Walker:
        """This way at ``target``; ``new`` is what was done to get there, ``None`` if that is unknown."""
        code, registers = self.code, self.registers.copy()
        kept = code.kept_from(target)
        _know_again(registers, code.state, kept if new is None else kept - code.kept_from(self.address))
        if writes(instruction, "HCR_EL2") and target not in code.writes_hcr:
            registers.write_system("HCR_EL2", code.state.get("HCR_EL2"))
        if new is None:
            return _Walker(code, registers, target, (), been)
        moved = tuple(_with_moved_base(step, registers, code.memory) for step in new)
        return _Walker(code, registers, target, (*self.steps, *moved), been)


def _know_again(registers: EvaluatedRegisters, state: CpuState, numbers: frozenset[int]) -> None:
    """Give registers that have kept their value since the value that they have now."""
    for number in numbers:
        value = state.get("SP" if number == ZERO_OR_SP else f"X{number}")
        if value is not None:
            registers.write_or_sp(number, value)


def _with_moved_base(step: Step, registers: EvaluatedRegisters, memory: PresentMemory) -> Step:
    """``step`` with the address of a load or store that moved its base there, and whose base is only known since."""
    access = load_store(step.instruction.word)
    if access is None or access.indexing is not Indexing.PRE or access.base is None:
        return step
    address = registers.read_or_sp(access.base)
    if address is None:
        return step
    pa = memory.locate(registers, address, access.access).pa
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


def _with_present_values(steps: Way, state: CpuState) -> Way:
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
