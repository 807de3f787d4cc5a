"""Recognises the instruction that switches an MMU on, and the value it is about to write."""

from __future__ import annotations

from dataclasses import dataclass

from kexecdbg.arm64.bits import bit
from kexecdbg.arm64.features import effective_e2h
from kexecdbg.arm64.instructions import Instruction, accessed_register
from kexecdbg.arm64.interfaces import RegisterValues
from kexecdbg.arm64.regimes import SCTLR_M, current_el

_SCTLR_NAMES = frozenset({"SCTLR_EL1", "SCTLR_EL2", "SCTLR_EL3", "SCTLR_EL12"})


@dataclass(frozen=True)
class PendingWrite:
    """A system register write that the instruction at the PC is about to make.

    Attributes:
        register: the register it reaches, with the effective E2H applied.
        value: what it will write.
    """

    register: str
    value: int

    @property
    def enables_mmu(self) -> bool:
        """Whether it is an SCTLR_ELx write with M set."""
        return self.register in _SCTLR_NAMES and bool(bit(self.value, SCTLR_M))


def writes_sctlr(instruction: Instruction) -> bool:
    """Whether ``instruction`` is an MSR to an SCTLR_ELx, whatever value it writes."""
    move = instruction.system_move
    return move is not None and move.is_write and move.register in _SCTLR_NAMES


def is_undefined(register: str, el: int, e2h: bool | None) -> bool:
    """Whether an MSR of the control register ``register`` is UNDEFINED at ``el`` (Arm ARM D23.2.147, accessing it).

    That is a register of a higher level, and an _EL12 name where the effective E2H is 0 or at EL1. FEAT_NV, which
    traps such accesses of EL1 instead, is left out.
    """
    if register.endswith("_EL12"):
        return el < 2 or e2h is False
    return int(register[-1]) > el


def pending_write(instruction: Instruction, registers: RegisterValues) -> PendingWrite | None:
    """The system register write that ``instruction``, at the PC of ``registers``, makes; ``None`` if it makes none.

    Raises:
        RegisterUnknownError: the exception level is unknown.
    """
    move = instruction.system_move
    if move is None or not move.is_write:
        return None
    value = 0 if move.general == "XZR" else registers.get(move.general)
    if value is None:
        return None
    el = current_el(registers)
    return PendingWrite(accessed_register(move.register, el, bool(effective_e2h(registers))), value)
