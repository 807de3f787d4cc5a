"""What has to be looked at around one instruction: decided once for each, by decoding."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from functools import lru_cache

from kexecdbg.arm64.evaluation.branches import branch
from kexecdbg.arm64.evaluation.data_processing import is_processing
from kexecdbg.arm64.evaluation.loads_and_stores import LoadStore, is_memory_instruction, load_store
from kexecdbg.arm64.evaluation.system_operations import ZEROES_BLOCK, hint, pstate_write, system_instruction
from kexecdbg.arm64.instructions import INSTRUCTION_SIZE, Instruction, SystemMove, decode_instruction

_BARRIERS_MASK, _BARRIERS = 0xFFFF_F01F, 0xD503_301F
"""Barriers and CLREX (Arm ARM C4.1.94, "Barriers")."""

_WFI = 0xD503_207F


class Concern(enum.Flag):
    """What an instruction can do besides changing general registers, the flags and the PC."""

    NOTHING = 0
    SYSTEM_WRITE = enum.auto()
    """It writes the system register of ``Plan.system_move``."""
    SYSTEM_READ = enum.auto()
    TRANSLATION = enum.auto()
    """It can change translations, or what is fetched: TLB and instruction cache maintenance."""
    ADDRESS_TRANSLATION = enum.auto()
    """AT: it writes PAR_EL1."""
    STACK_SELECT = enum.auto()
    """It can change which SP_ELx is SP."""
    EXCEPTION = enum.auto()
    """It takes an exception, or returns from one."""
    MEMORY = enum.auto()
    """A load or store, described in ``Plan.access``."""
    ZEROES_BLOCK = enum.auto()
    """DC ZVA; ``Plan.operand`` is the register with the address."""
    UNKNOWN_STORE = enum.auto()
    """It may write memory, and nobody knows where."""
    WAITS = enum.auto()
    """WFI: the CPU may execute nothing more."""


@dataclass(frozen=True)
class Plan:
    """One instruction at one address.

    Attributes:
        instruction: it.
        concerns: what to look at.
        successors: where execution goes without an exception, for everything but an indirect branch.
        access: the load or store.
        operand: number of the general register of DC ZVA.
    """

    instruction: Instruction
    concerns: Concern
    successors: tuple[int, ...]
    access: LoadStore | None = None
    operand: int = 31

    @property
    def is_loop_end(self) -> bool:
        """Whether it is a conditional branch backwards."""
        return len(self.successors) == 2 and self.successors[0] <= self.instruction.address

    @property
    def word(self) -> int:
        """The encoding."""
        return self.instruction.word

    @property
    def system_move(self) -> SystemMove | None:
        """The MSR or MRS, if it is one."""
        return self.instruction.system_move


@lru_cache(maxsize=1 << 16)
def plan_for(word: int, address: int) -> Plan:
    """The plan for the instruction ``word`` at virtual ``address``."""
    instruction = decode_instruction(word, address)
    following = (address + INSTRUCTION_SIZE) & (1 << 64) - 1
    jump = branch(word, address)
    if jump is not None:
        concerns = Concern.EXCEPTION | Concern.STACK_SELECT if jump.returns_from_exception else Concern.NOTHING
        successors = () if jump.target is None else (jump.target, following)
        return Plan(instruction, concerns, successors)
    access = load_store(word)
    if access is not None:
        concerns = Concern.NOTHING if access.prefetch else Concern.MEMORY
        return Plan(instruction, concerns, (following,), access=access)
    concerns, operand = _other(instruction)
    return Plan(instruction, concerns, (following,), operand=operand)


def _other(instruction: Instruction) -> tuple[Concern, int]:
    word = instruction.word
    if is_memory_instruction(word):
        return Concern.UNKNOWN_STORE, 31
    move = instruction.system_move
    if move is not None:
        selects = Concern.STACK_SELECT if move.register == "SPSel" else Concern.NOTHING
        return (Concern.SYSTEM_WRITE | selects if move.is_write else Concern.SYSTEM_READ), 31
    system = system_instruction(word)
    if system is not None:
        return _system_instruction(system.operation), system.register
    field = pstate_write(word)
    if field is not None:
        return (Concern.STACK_SELECT if field.field == "SPSel" else Concern.NOTHING), 31
    if word == _WFI:
        return Concern.WAITS, 31
    if hint(word) is not None or is_processing(word) or word & _BARRIERS_MASK == _BARRIERS:
        return Concern.NOTHING, 31
    return Concern.EXCEPTION, 31


def _system_instruction(operation: str) -> Concern:
    if operation.startswith(("TLBI", "IC ")):
        return Concern.TRANSLATION
    if operation.startswith("AT "):
        return Concern.ADDRESS_TRANSLATION
    if operation in ZEROES_BLOCK:
        return Concern.ZEROES_BLOCK
    return Concern.NOTHING
