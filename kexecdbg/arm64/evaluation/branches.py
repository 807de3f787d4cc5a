"""Branches decoded from the word (Arm ARM C4.1.66), decided by registers that may be unknown."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from kexecdbg.arm64.bits import bit, bits, signed
from kexecdbg.arm64.evaluation.conditions import condition_holds
from kexecdbg.arm64.evaluation.registers import EvaluatedRegisters

_WORD = (1 << 64) - 1


def _always(registers: EvaluatedRegisters) -> bool | None:
    return True


@dataclass(frozen=True)
class Branch:
    """One branch.

    Attributes:
        taken: whether it is taken; ``None`` when that depends on an unknown value.
        target: of a direct branch, where it goes.
        register: of an indirect branch, the number of the register that holds the target.
        links: it writes X30.
        authenticates: the target is authenticated first (FEAT_PAuth), where that is switched on.
        returns_from_exception: ERET.
    """

    taken: Callable[[EvaluatedRegisters], bool | None] = _always
    target: int | None = None
    register: int | None = None
    links: bool = False
    authenticates: bool = False
    returns_from_exception: bool = False

    def target_of(self, registers: EvaluatedRegisters) -> int | None:
        """Where it goes if it is taken; ``None`` when that cannot be told."""
        return self.target if self.register is None else registers.read(self.register)


@lru_cache(maxsize=4096)
def branch(word: int, address: int) -> Branch | None:
    """The branch that ``word`` at ``address`` encodes, or ``None`` when it is none."""
    if word & 0x7C00_0000 == 0x1400_0000:
        return Branch(target=(address + 4 * signed(bits(word, 25, 0), 26)) & _WORD, links=bool(bit(word, 31)))
    near = (address + 4 * signed(bits(word, 23, 5), 19)) & _WORD
    if word & 0xFF00_0000 == 0x5400_0000:
        condition = bits(word, 3, 0)
        return Branch(lambda registers: condition_holds(condition, registers.flags), near)
    if word & 0x7E00_0000 == 0x3400_0000:
        return Branch(_compares(word), near)
    if word & 0x7E00_0000 == 0x3600_0000:
        return Branch(_tests(word), (address + 4 * signed(bits(word, 18, 5), 14)) & _WORD)
    if word & 0xFE00_0000 == 0xD600_0000:
        return _indirect(word)
    return None


def _compares(word: int) -> Callable[[EvaluatedRegisters], bool | None]:
    """CBZ, CBNZ."""
    number, wide, wanted = bits(word, 4, 0), bool(bit(word, 31)), not bit(word, 24)

    def taken(registers: EvaluatedRegisters) -> bool | None:
        value = registers.read(number, wide)
        return None if value is None else (value == 0) == wanted

    return taken


def _tests(word: int) -> Callable[[EvaluatedRegisters], bool | None]:
    """TBZ, TBNZ."""
    number, position, wanted = bits(word, 4, 0), bit(word, 31) << 5 | bits(word, 23, 19), bit(word, 24)

    def taken(registers: EvaluatedRegisters) -> bool | None:
        value = registers.read(number)
        return None if value is None else bit(value, position) == wanted

    return taken


def _indirect(word: int) -> Branch | None:
    operation, register = bits(word, 24, 21), bits(word, 9, 5)
    authenticates = bool(bits(word, 15, 10))
    if bits(word, 20, 16) != 0b11111:
        return None
    if operation & 0b0111 == 0b100:
        return Branch(returns_from_exception=True, authenticates=authenticates)
    if operation & 0b0111 > 0b010:
        return None
    if operation == 0b0010 and authenticates:  # RETAA, RETAB
        register = 30
    return Branch(register=register, links=operation & 0b0111 == 0b001, authenticates=authenticates)
