"""Data processing on registers (Arm ARM C4.1, "Data Processing -- Register"), each form from its word."""

from __future__ import annotations

from collections.abc import Callable

from kexecdbg.arm64.bits import bit, bits, mask, signed
from kexecdbg.arm64.evaluation.arithmetic import (
    Operation,
    add_with_carry,
    extend,
    reverse_bits,
    reverse_bytes,
    shift,
    signed_quotient,
    width_of,
    write_logical,
    write_sum,
)
from kexecdbg.arm64.evaluation.conditions import condition_holds
from kexecdbg.arm64.evaluation.registers import EvaluatedRegisters


def _shifted_operand(registers: EvaluatedRegisters, word: int) -> int | None:
    value = registers.read(bits(word, 20, 16), bool(bit(word, 31)))
    return shift(value, bits(word, 23, 22), bits(word, 15, 10), width_of(word))


def logical_shifted(word: int) -> Operation | None:
    """AND, BIC, ORR, ORN, EOR, EON, ANDS, BICS with a shifted operand."""
    if bits(word, 15, 10) >= width_of(word):
        return None

    def apply(registers: EvaluatedRegisters, address: int) -> None:
        right = _shifted_operand(registers, word)
        if bit(word, 21) and right is not None:  # BIC, ORN, EON, BICS
            right = ~right & mask(width_of(word))
        left = registers.read(bits(word, 9, 5), bool(bit(word, 31)))
        write_logical(registers, left, right, word, registers.write)

    return apply


def add_shifted(word: int) -> Operation | None:
    """ADD, ADDS, SUB, SUBS with a shifted operand."""
    if bits(word, 23, 22) == 0b11 or bits(word, 15, 10) >= width_of(word):
        return None

    def apply(registers: EvaluatedRegisters, address: int) -> None:
        left = registers.read(bits(word, 9, 5), bool(bit(word, 31)))
        write_sum(registers, left, _shifted_operand(registers, word), word, registers.write)

    return apply


def add_extended(word: int) -> Operation | None:
    """ADD, ADDS, SUB, SUBS with an extended operand."""
    if bits(word, 12, 10) > 4 or bits(word, 23, 22):
        return None

    def apply(registers: EvaluatedRegisters, address: int) -> None:
        left = registers.read_or_sp(bits(word, 9, 5), bool(bit(word, 31)))
        right = extend(registers.read(bits(word, 20, 16)), bits(word, 15, 13), bits(word, 12, 10))
        write_sum(registers, left, right, word, registers.write_or_sp)

    return apply


def add_carry(word: int) -> Operation | None:
    """ADC, ADCS, SBC, SBCS."""
    if bits(word, 15, 10):
        return None

    def apply(registers: EvaluatedRegisters, address: int) -> None:
        width = width_of(word)
        left = registers.read(bits(word, 9, 5), width == 64)
        right = registers.read(bits(word, 20, 16), width == 64)
        if left is None or right is None or registers.flags is None:
            result = flags = None
        else:
            carry = bit(registers.flags, 1)
            result, flags = add_with_carry(left, ~right if bit(word, 30) else right, carry, width)
        if bit(word, 29):
            registers.flags = flags
        registers.write(bits(word, 4, 0), result, width == 64)

    return apply


def conditional_compare(word: int) -> Operation | None:
    """CCMN, CCMP."""
    if not bit(word, 29) or bit(word, 10) or bit(word, 4):
        return None

    def apply(registers: EvaluatedRegisters, address: int) -> None:
        width = width_of(word)
        left = registers.read(bits(word, 9, 5), width == 64)
        number = bits(word, 20, 16)
        right = number if bit(word, 11) else registers.read(number, width == 64)
        holds = condition_holds(bits(word, 15, 12), registers.flags)
        if holds is False:
            registers.flags = bits(word, 3, 0)
        elif holds is None or left is None or right is None:
            registers.flags = None
        else:
            subtract = bit(word, 30)
            _, registers.flags = add_with_carry(left, ~right if subtract else right, subtract, width)

    return apply


def conditional_select(word: int) -> Operation | None:
    """CSEL, CSINC, CSINV, CSNEG."""
    if bit(word, 29) or bit(word, 11):
        return None

    def apply(registers: EvaluatedRegisters, address: int) -> None:
        wide = bool(bit(word, 31))
        holds = condition_holds(bits(word, 15, 12), registers.flags)
        taken, other = registers.read(bits(word, 9, 5), wide), registers.read(bits(word, 20, 16), wide)
        if other is not None:
            other = (~other if bit(word, 30) else other) + bit(word, 10)
            other &= mask(width_of(word))
        if holds is None and taken != other:
            registers.write(bits(word, 4, 0), None)
        else:
            registers.write(bits(word, 4, 0), other if holds is False else taken, wide)

    return apply


def two_sources(word: int) -> Operation | None:
    """UDIV, SDIV, LSLV, LSRV, ASRV, RORV."""
    operation, width = bits(word, 15, 10), width_of(word)
    if bit(word, 29) or operation not in (0b000010, 0b000011, 0b001000, 0b001001, 0b001010, 0b001011):
        return None

    def apply(registers: EvaluatedRegisters, address: int) -> None:
        left = registers.read(bits(word, 9, 5), width == 64)
        right = registers.read(bits(word, 20, 16), width == 64)
        if left is None or right is None:
            result = None
        elif operation == 0b000010:
            result = left // right if right else 0
        elif operation == 0b000011:
            result = signed_quotient(signed(left, width), signed(right, width))
        else:
            result = shift(left, operation & 0b11, right % width, width)
        registers.write(bits(word, 4, 0), result, width == 64)

    return apply


_ONE_SOURCE: dict[tuple[int, int], Callable[[int, int], int]] = {
    **{(sf, 0b000000): reverse_bits for sf in (0, 1)},
    **{(sf, 0b000001): lambda value, width: reverse_bytes(value, width, 16) for sf in (0, 1)},
    **{(sf, 0b000010): lambda value, width: reverse_bytes(value, width, 32) for sf in (0, 1)},
    (1, 0b000011): lambda value, width: reverse_bytes(value, width, 64),
    **{(sf, 0b000100): lambda value, width: width - value.bit_length() for sf in (0, 1)},
    **{
        (sf, 0b000101): lambda value, width: (
            width - 1 - ((value ^ mask(width) if bit(value, width - 1) else value).bit_length())
        )
        for sf in (0, 1)
    },
}
"""RBIT, REV16, REV32 (REV of 32 bits), REV, CLZ, CLS by (sf, opcode)."""


def one_source(word: int) -> Operation | None:
    """RBIT, REV16, REV32, REV, CLZ, CLS."""
    width = width_of(word)
    function = _ONE_SOURCE.get((bit(word, 31), bits(word, 15, 10)))
    if function is None or bit(word, 29) or bits(word, 20, 16):
        return None
    known = function

    def apply(registers: EvaluatedRegisters, address: int) -> None:
        value = registers.read(bits(word, 9, 5), width == 64)
        registers.write(bits(word, 4, 0), None if value is None else known(value, width), width == 64)

    return apply


def three_sources(word: int) -> Operation | None:
    """MADD, MSUB and the long and high multiplications."""
    wide, operation, subtract = bit(word, 31), bits(word, 23, 21), bit(word, 15)
    long, unsigned = operation & 0b11, operation >> 2
    if bits(word, 30, 29) or long == 0b11 or (not wide and operation) or (long == 0b10 and subtract):
        return None
    if operation == 0b100 or (long == 0b10 and bits(word, 14, 10) != 0b11111):
        return None  # SMULH and UMULH with another Ra are CONSTRAINED UNPREDICTABLE; QEMU 10 makes them undefined

    def apply(registers: EvaluatedRegisters, address: int) -> None:
        factors = [registers.read(bits(word, 9, 5), bool(wide)), registers.read(bits(word, 20, 16), bool(wide))]
        addend = 0 if long == 0b10 else registers.read(bits(word, 14, 10), bool(wide))
        if factors[0] is None or factors[1] is None or addend is None:
            registers.write(bits(word, 4, 0), None)
            return
        left, right = factors[0], factors[1]
        if long == 0b01:
            left, right = left & mask(32), right & mask(32)
        if operation and not unsigned:
            width = 32 if long == 0b01 else 64
            left, right = signed(left, width), signed(right, width)
        product = left * right
        result = product >> 64 if long == 0b10 else addend - product if subtract else addend + product
        registers.write(bits(word, 4, 0), result, bool(wide))

    return apply
