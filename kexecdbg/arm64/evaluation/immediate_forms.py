"""Data processing with an immediate operand (Arm ARM C4.1, "Data Processing -- Immediate"), each form from its word."""

from __future__ import annotations

from kexecdbg.arm64.bits import bit, bits, mask, signed
from kexecdbg.arm64.evaluation.arithmetic import (
    Operation,
    decode_bit_mask,
    rotate_right,
    width_of,
    write_logical,
    write_sum,
)
from kexecdbg.arm64.evaluation.registers import EvaluatedRegisters


def adr(word: int) -> Operation:
    """ADR, ADRP."""
    offset = signed(bits(word, 23, 5) << 2 | bits(word, 30, 29), 21)
    page = bit(word, 31)

    def apply(registers: EvaluatedRegisters, address: int) -> None:
        result = (address & ~0xFFF) + (offset << 12) if page else address + offset
        registers.write(bits(word, 4, 0), result)

    return apply


def add_immediate(word: int) -> Operation:
    """ADD, ADDS, SUB, SUBS; CMP and CMN are among them."""
    immediate = bits(word, 21, 10) << (12 if bit(word, 22) else 0)

    def apply(registers: EvaluatedRegisters, address: int) -> None:
        left = registers.read_or_sp(bits(word, 9, 5), width_of(word) == 64)
        write_sum(registers, left, immediate, word, registers.write_or_sp)

    return apply


def logical_immediate(word: int) -> Operation | None:
    """AND, ORR, EOR, ANDS; TST is among them."""
    width = width_of(word)
    masks = decode_bit_mask(bit(word, 22), bits(word, 15, 10), bits(word, 21, 16), width)
    if masks is None or (width == 32 and bit(word, 22)) or masks[0] == mask(width):
        return None
    immediate = masks[0]

    def apply(registers: EvaluatedRegisters, address: int) -> None:
        left = registers.read(bits(word, 9, 5), width == 64)
        write_logical(registers, left, immediate, word, registers.write_or_sp)

    return apply


def move_wide(word: int) -> Operation | None:
    """MOVN, MOVZ, MOVK."""
    operation, shift = bits(word, 30, 29), 16 * bits(word, 22, 21)
    if operation == 0b01 or shift >= width_of(word):
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


def bitfield(word: int) -> Operation | None:
    """SBFM, BFM, UBFM, and with them the shifts, extensions and bit field moves."""
    width, operation, rotation = width_of(word), bits(word, 30, 29), bits(word, 21, 16)
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
        low = keep & ~wmask | rotate_right(value, rotation, width) & wmask
        outside = keep
        if operation == 0b00:  # SBFM
            outside = mask(width) if bit(value, top) else 0
        registers.write(target, outside & ~tmask | low & tmask, width == 64)

    return apply


def extract(word: int) -> Operation:
    """EXTR; ROR by an immediate is among them."""
    width, lsb = width_of(word), bits(word, 15, 10)

    def apply(registers: EvaluatedRegisters, address: int) -> None:
        high = registers.read(bits(word, 9, 5), width == 64)
        low = registers.read(bits(word, 20, 16), width == 64)
        result = None if high is None or low is None else (high << width | low) >> lsb
        registers.write(bits(word, 4, 0), result, width == 64)

    return apply
