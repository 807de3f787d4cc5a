"""Arithmetic, logic and moves between general registers (Arm ARM C4.1, "Data Processing").

Decoded from the word. Each form is a function that reads and writes :class:`EvaluatedRegisters`; an operand that is
unknown makes the result unknown. A form that is not here is unknown as a whole: :func:`data_processing` gives ``None``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from kexecdbg.arm64.bits import bit, bits, mask, signed
from kexecdbg.arm64.evaluation.conditions import condition_holds
from kexecdbg.arm64.evaluation.registers import EvaluatedRegisters

Effect = Callable[[EvaluatedRegisters, int], None]
"""Carries an instruction out on registers; the second argument is the instruction's address."""


@lru_cache(maxsize=4096)
def data_processing(word: int) -> Effect | None:
    """What the instruction ``word`` does to the registers; ``None`` when it is not data processing known here."""
    for pattern, value, decode in _FORMS:
        if word & pattern == value:
            return decode(word)
    return None


def is_processing(word: int) -> bool:
    """Whether ``word`` is in the encoding space of data processing, SIMD and floating point included."""
    return bits(word, 28, 26) == 0b100 or bits(word, 27, 25) in (0b101, 0b111)


# Results and flags


def _width(word: int) -> int:
    return 64 if bit(word, 31) else 32


def add_with_carry(left: int, right: int, carry: int, width: int) -> tuple[int, int]:
    """Sum and flags NZCV (bit 3 down) of ``width``-bit numbers; pseudocode ``AddWithCarry``."""
    left, right = left & mask(width), right & mask(width)
    total = left + right + carry
    result = total & mask(width)
    overflow = signed(left, width) + signed(right, width) + carry != signed(result, width)
    return result, _negative_zero(result, width) | (total >> width & 1) << 1 | overflow


def _negative_zero(result: int, width: int) -> int:
    return bit(result, width - 1) << 3 | (result == 0) << 2


def _sum(
    registers: EvaluatedRegisters,
    left: int | None,
    right: int | None,
    word: int,
    write: Callable[[int, int | None, bool], None],
) -> None:
    """ADD, ADDS, SUB, SUBS: bit 30 subtracts, bit 29 sets the flags."""
    subtract, set_flags, width = bit(word, 30), bit(word, 29), _width(word)
    if left is None or right is None:
        result = flags = None
    else:
        result, flags = add_with_carry(left, ~right if subtract else right, subtract, width)
    if set_flags:
        registers.flags = flags
        registers.write(bits(word, 4, 0), result, width == 64)
    else:
        write(bits(word, 4, 0), result, width == 64)


# Immediate forms


def _adr(word: int) -> Effect:
    offset = signed(bits(word, 23, 5) << 2 | bits(word, 30, 29), 21)
    page = bit(word, 31)

    def apply(registers: EvaluatedRegisters, address: int) -> None:
        result = (address & ~0xFFF) + (offset << 12) if page else address + offset
        registers.write(bits(word, 4, 0), result)

    return apply


def _add_immediate(word: int) -> Effect:
    immediate = bits(word, 21, 10) << (12 if bit(word, 22) else 0)

    def apply(registers: EvaluatedRegisters, address: int) -> None:
        left = registers.read_or_sp(bits(word, 9, 5), _width(word) == 64)
        _sum(registers, left, immediate, word, registers.write_or_sp)

    return apply


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


def _logical_immediate(word: int) -> Effect | None:
    width = _width(word)
    masks = decode_bit_mask(bit(word, 22), bits(word, 15, 10), bits(word, 21, 16), width)
    if masks is None or (width == 32 and bit(word, 22)) or masks[0] == mask(width):
        return None
    immediate = masks[0]

    def apply(registers: EvaluatedRegisters, address: int) -> None:
        left = registers.read(bits(word, 9, 5), width == 64)
        _logical(registers, left, immediate, word, registers.write_or_sp)

    return apply


def _logical(
    registers: EvaluatedRegisters,
    left: int | None,
    right: int | None,
    word: int,
    write: Callable[[int, int | None, bool], None],
) -> None:
    """AND, ORR, EOR, ANDS by bits 30:29."""
    width, operation = _width(word), bits(word, 30, 29)
    result = None
    if left is not None and right is not None:
        result = (left & right, left | right, left ^ right, left & right)[operation] & mask(width)
    if operation == 0b11:
        registers.flags = None if result is None else _negative_zero(result, width)
        registers.write(bits(word, 4, 0), result, width == 64)
    else:
        write(bits(word, 4, 0), result, width == 64)


def _move_wide(word: int) -> Effect | None:
    operation, shift = bits(word, 30, 29), 16 * bits(word, 22, 21)
    if operation == 0b01 or shift >= _width(word):
        return None
    immediate, target, wide = bits(word, 20, 5) << shift, bits(word, 4, 0), bool(bit(word, 31))

    def apply(registers: EvaluatedRegisters, address: int) -> None:
        if operation == 0b11:  # MOVK
            old = registers.read(target, wide)
            result = None if old is None else old & ~(0xFFFF << shift) | immediate
        else:
            result = immediate if operation == 0b10 else ~immediate
        registers.write(target, result, wide)

    return apply


def _bitfield(word: int) -> Effect | None:
    width, operation, rotation = _width(word), bits(word, 30, 29), bits(word, 21, 16)
    masks = decode_bit_mask(bit(word, 22), bits(word, 15, 10), rotation, width)
    top = bits(word, 15, 10)
    if masks is None or operation == 0b11 or bit(word, 22) != bit(word, 31) or max(top, rotation) >= width:
        return None
    wmask, tmask = masks
    source, target = bits(word, 9, 5), bits(word, 4, 0)

    def apply(registers: EvaluatedRegisters, address: int) -> None:
        value = registers.read(source, width == 64)
        keep = registers.read(target, width == 64) if operation == 0b01 else 0
        if value is None or keep is None:
            registers.write(target, None)
            return
        low = keep & ~wmask | _rotate_right(value, rotation, width) & wmask
        outside = keep
        if operation == 0b00:  # SBFM
            outside = mask(width) if bit(value, top) else 0
        registers.write(target, outside & ~tmask | low & tmask, width == 64)

    return apply


def _rotate_right(value: int, amount: int, width: int) -> int:
    value, amount = value & mask(width), amount % width
    return (value >> amount | value << (width - amount)) & mask(width)


def _extract(word: int) -> Effect:
    width, lsb = _width(word), bits(word, 15, 10)

    def apply(registers: EvaluatedRegisters, address: int) -> None:
        high = registers.read(bits(word, 9, 5), width == 64)
        low = registers.read(bits(word, 20, 16), width == 64)
        result = None if high is None or low is None else (high << width | low) >> lsb
        registers.write(bits(word, 4, 0), result, width == 64)

    return apply


# Register forms


def _shift(value: int | None, kind: int, amount: int, width: int) -> int | None:
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
    return _rotate_right(value, amount, width)


def _shifted_operand(registers: EvaluatedRegisters, word: int) -> int | None:
    value = registers.read(bits(word, 20, 16), bool(bit(word, 31)))
    return _shift(value, bits(word, 23, 22), bits(word, 15, 10), _width(word))


def _logical_shifted(word: int) -> Effect | None:
    if bits(word, 15, 10) >= _width(word):
        return None

    def apply(registers: EvaluatedRegisters, address: int) -> None:
        right = _shifted_operand(registers, word)
        if bit(word, 21) and right is not None:  # BIC, ORN, EON, BICS
            right = ~right & mask(_width(word))
        left = registers.read(bits(word, 9, 5), bool(bit(word, 31)))
        _logical(registers, left, right, word, registers.write)

    return apply


def _add_shifted(word: int) -> Effect | None:
    if bits(word, 23, 22) == 0b11 or bits(word, 15, 10) >= _width(word):
        return None

    def apply(registers: EvaluatedRegisters, address: int) -> None:
        left = registers.read(bits(word, 9, 5), bool(bit(word, 31)))
        _sum(registers, left, _shifted_operand(registers, word), word, registers.write)

    return apply


def extend(value: int | None, option: int, amount: int) -> int | None:
    """``value`` extended by ``option`` (UXTB .. SXTX) and shifted left; pseudocode ``ExtendReg``."""
    if value is None:
        return None
    width = 8 << (option & 0b11)
    value &= mask(width)
    return (signed(value, width) if option & 0b100 else value) << amount & mask(64)


def _add_extended(word: int) -> Effect | None:
    if bits(word, 12, 10) > 4 or bits(word, 23, 22):
        return None

    def apply(registers: EvaluatedRegisters, address: int) -> None:
        left = registers.read_or_sp(bits(word, 9, 5), bool(bit(word, 31)))
        right = extend(registers.read(bits(word, 20, 16)), bits(word, 15, 13), bits(word, 12, 10))
        _sum(registers, left, right, word, registers.write_or_sp)

    return apply


def _add_carry(word: int) -> Effect | None:
    if bits(word, 15, 10):
        return None

    def apply(registers: EvaluatedRegisters, address: int) -> None:
        width = _width(word)
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


def _conditional_compare(word: int) -> Effect | None:
    if not bit(word, 29) or bit(word, 10) or bit(word, 4):
        return None

    def apply(registers: EvaluatedRegisters, address: int) -> None:
        width = _width(word)
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


def _conditional_select(word: int) -> Effect | None:
    if bit(word, 29) or bit(word, 11):
        return None

    def apply(registers: EvaluatedRegisters, address: int) -> None:
        wide = bool(bit(word, 31))
        holds = condition_holds(bits(word, 15, 12), registers.flags)
        taken, other = registers.read(bits(word, 9, 5), wide), registers.read(bits(word, 20, 16), wide)
        if other is not None:
            other = (~other if bit(word, 30) else other) + bit(word, 10)
            other &= mask(_width(word))
        if holds is None and taken != other:
            registers.write(bits(word, 4, 0), None)
        else:
            registers.write(bits(word, 4, 0), other if holds is False else taken, wide)

    return apply


def _two_sources(word: int) -> Effect | None:
    operation, width = bits(word, 15, 10), _width(word)
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
            result = _signed_quotient(signed(left, width), signed(right, width))
        else:
            result = _shift(left, operation & 0b11, right % width, width)
        registers.write(bits(word, 4, 0), result, width == 64)

    return apply


def _signed_quotient(left: int, right: int) -> int:
    if right == 0:
        return 0
    quotient = abs(left) // abs(right)
    return quotient if (left < 0) == (right < 0) else -quotient


def _reverse_bits(value: int, width: int) -> int:
    return int(f"{value:0{width}b}"[::-1], 2)


def _reverse_bytes(value: int, width: int, container: int) -> int:
    result = 0
    for position in range(0, width, container):
        part = value >> position & mask(container)
        result |= int.from_bytes(part.to_bytes(container // 8, "little"), "big") << position
    return result


_ONE_SOURCE: dict[tuple[int, int], Callable[[int, int], int]] = {
    **{(sf, 0b000000): _reverse_bits for sf in (0, 1)},
    **{(sf, 0b000001): lambda value, width: _reverse_bytes(value, width, 16) for sf in (0, 1)},
    **{(sf, 0b000010): lambda value, width: _reverse_bytes(value, width, 32) for sf in (0, 1)},
    (1, 0b000011): lambda value, width: _reverse_bytes(value, width, 64),
    **{(sf, 0b000100): lambda value, width: width - value.bit_length() for sf in (0, 1)},
    **{
        (sf, 0b000101): lambda value, width: (
            width - 1 - ((value ^ mask(width) if bit(value, width - 1) else value).bit_length())
        )
        for sf in (0, 1)
    },
}
"""RBIT, REV16, REV32 (REV of 32 bits), REV, CLZ, CLS by (sf, opcode)."""


def _one_source(word: int) -> Effect | None:
    width = _width(word)
    function = _ONE_SOURCE.get((bit(word, 31), bits(word, 15, 10)))
    if function is None or bit(word, 29) or bits(word, 20, 16):
        return None
    known = function

    def apply(registers: EvaluatedRegisters, address: int) -> None:
        value = registers.read(bits(word, 9, 5), width == 64)
        registers.write(bits(word, 4, 0), None if value is None else known(value, width), width == 64)

    return apply


def _three_sources(word: int) -> Effect | None:
    wide, operation, subtract = bit(word, 31), bits(word, 23, 21), bit(word, 15)
    long, unsigned = operation & 0b11, operation >> 2
    if bits(word, 30, 29) or long == 0b11 or (not wide and operation) or (long == 0b10 and subtract):
        return None
    if operation == 0b100:
        return None

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


_FORMS: tuple[tuple[int, int, Callable[[int], Effect | None]], ...] = (
    (0x1F00_0000, 0x1000_0000, _adr),
    (0x1F80_0000, 0x1100_0000, _add_immediate),
    (0x1F80_0000, 0x1200_0000, _logical_immediate),
    (0x1F80_0000, 0x1280_0000, _move_wide),
    (0x1F80_0000, 0x1300_0000, _bitfield),
    (0x7FA0_0000, 0x1380_0000, _extract),
    (0x1F00_0000, 0x0A00_0000, _logical_shifted),
    (0x1F20_0000, 0x0B00_0000, _add_shifted),
    (0x1F20_0000, 0x0B20_0000, _add_extended),
    (0x1FE0_0000, 0x1A00_0000, _add_carry),
    (0x1FE0_0000, 0x1A40_0000, _conditional_compare),
    (0x1FE0_0000, 0x1A80_0000, _conditional_select),
    (0x5FE0_0000, 0x1AC0_0000, _two_sources),
    (0x5FE0_0000, 0x5AC0_0000, _one_source),
    (0x1F00_0000, 0x1B00_0000, _three_sources),
)
"""Bits that pick a form, their value, and its decoder."""
