"""Arithmetic of data processing instructions on numbers of 32 or 64 bits (Arm ARM, shared pseudocode)."""

from __future__ import annotations

from collections.abc import Callable

from kexecdbg.arm64.bits import bit, bits, mask, signed
from kexecdbg.arm64.evaluation.registers import EvaluatedRegisters

Operation = Callable[[EvaluatedRegisters, int], None]
"""Carries an instruction out on registers; the second argument is the instruction's address."""


def width_of(word: int) -> int:
    """Operand width in bits: bit 31 (sf) of the word."""
    return 64 if bit(word, 31) else 32


def add_with_carry(left: int, right: int, carry: int, width: int) -> tuple[int, int]:
    """Sum and flags NZCV (bit 3 down) of ``width``-bit numbers; pseudocode ``AddWithCarry``."""
    left, right = left & mask(width), right & mask(width)
    total = left + right + carry
    result = total & mask(width)
    overflow = signed(left, width) + signed(right, width) + carry != signed(result, width)
    return result, negative_zero(result, width) | (total >> width & 1) << 1 | overflow


def negative_zero(result: int, width: int) -> int:
    """Flags N and Z of a result, C and V clear."""
    return bit(result, width - 1) << 3 | (result == 0) << 2


def write_sum(
    registers: EvaluatedRegisters,
    left: int | None,
    right: int | None,
    word: int,
    write: Callable[[int, int | None, bool], None],
) -> None:
    """ADD, ADDS, SUB, SUBS: bit 30 subtracts, bit 29 sets the flags."""
    subtract, set_flags, width = bit(word, 30), bit(word, 29), width_of(word)
    if left is None or right is None:
        result = flags = None
    else:
        result, flags = add_with_carry(left, ~right if subtract else right, subtract, width)
    if set_flags:
        registers.flags = flags
        registers.write(bits(word, 4, 0), result, width == 64)
    else:
        write(bits(word, 4, 0), result, width == 64)


def write_logical(
    registers: EvaluatedRegisters,
    left: int | None,
    right: int | None,
    word: int,
    write: Callable[[int, int | None, bool], None],
) -> None:
    """AND, ORR, EOR, ANDS by bits 30:29."""
    width, operation = width_of(word), bits(word, 30, 29)
    result = None
    if left is not None and right is not None:
        result = (left & right, left | right, left ^ right, left & right)[operation] & mask(width)
    if operation == 0b11:
        registers.flags = None if result is None else negative_zero(result, width)
        registers.write(bits(word, 4, 0), result, width == 64)
    else:
        write(bits(word, 4, 0), result, width == 64)


def decode_bit_mask(n: int, imms: int, immr: int, width: int) -> tuple[int, int] | None:
    """``wmask`` and ``tmask`` of a bitfield or logical immediate; ``None`` if invalid (pseudocode DecodeBitMasks)."""
    length = (n << 6 | ~imms & 0x3F).bit_length() - 1
    if length < 1 or width < 1 << length:
        return None
    size, levels = 1 << length, mask(length)
    s, r = imms & levels, immr & levels
    difference = (s - r) & levels
    element = mask(s + 1)
    rotated = (element >> r | element << (size - r)) & mask(size)
    wmask = tmask = 0
    for position in range(0, width, size):
        wmask |= rotated << position
        tmask |= mask(difference + 1) << position
    return wmask, tmask


def rotate_right(value: int, amount: int, width: int) -> int:
    """``value`` of ``width`` bits rotated right."""
    value, amount = value & mask(width), amount % width
    return (value >> amount | value << (width - amount)) & mask(width)


def shift(value: int | None, kind: int, amount: int, width: int) -> int | None:
    """LSL, LSR, ASR, ROR by ``kind``; pseudocode ``ShiftReg``."""
    if value is None:
        return None
    value &= mask(width)
    if kind == 0b00:
        return value << amount & mask(width)
    if kind == 0b01:
        return value >> amount
    if kind == 0b10:
        return signed(value, width) >> amount & mask(width)
    return rotate_right(value, amount, width)


def extend(value: int | None, option: int, amount: int) -> int | None:
    """``value`` extended by ``option`` (UXTB .. SXTX) and shifted left; pseudocode ``ExtendReg``."""
    if value is None:
        return None
    width = 8 << (option & 0b11)
    value &= mask(width)
    return (signed(value, width) if option & 0b100 else value) << amount & mask(64)


def signed_quotient(left: int, right: int) -> int:
    """Quotient rounded towards zero; 0 for a division by 0, as SDIV has it."""
    if right == 0:
        return 0
    quotient = abs(left) // abs(right)
    return quotient if (left < 0) == (right < 0) else -quotient


def reverse_bits(value: int, width: int) -> int:
    """RBIT."""
    return int(f"{value:0{width}b}"[::-1], 2)


def reverse_bytes(value: int, width: int, container: int) -> int:
    """Bytes reversed within each ``container`` of bits."""
    result = 0
    for position in range(0, width, container):
        part = value >> position & mask(container)
        result |= int.from_bytes(part.to_bytes(container // 8, "little"), "big") << position
    return result
