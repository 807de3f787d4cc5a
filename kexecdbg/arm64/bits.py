"""Bit fields of integers, numbered as the Arm ARM numbers them."""

from __future__ import annotations


def bit(value: int, position: int) -> int:
    """Bit ``position`` of ``value``: 0 or 1."""
    return (value >> position) & 1


def bits(value: int, msb: int, lsb: int) -> int:
    """The field ``value[msb:lsb]`` as an unsigned integer."""
    return (value >> lsb) & mask(msb - lsb + 1)


def mask(width: int) -> int:
    """An integer with the ``width`` lowest bits set."""
    return (1 << width) - 1


def field_mask(msb: int, lsb: int) -> int:
    """An integer with the bits ``msb`` to ``lsb`` set."""
    return mask(msb - lsb + 1) << lsb


def signed(value: int, width: int) -> int:
    """``value`` read as a two's complement number of ``width`` bits."""
    return value - (1 << width) if bit(value, width - 1) else value
