"""A register value as people write it."""

from __future__ import annotations

import re

from kexecdbg.errors import UsageError

_HEX_DIGITS = re.compile(r"[0-9a-fA-F]+")
_KERNEL_DIGITS = 16
_SURPRISING_DIGITS = 5
"""A decimal number this long was perhaps meant as hexadecimal."""
_REGISTER_BITS = 64
_MOST_DECIMAL_DIGITS = 31
_MOST_SHOWN = 40


def parse_register_value(name: str, text: str) -> tuple[int, str]:
    """The value that ``text`` gives the register ``name``, and a note when it could have been meant in another base.

    Hexadecimal with ``0x``, with letters among the digits, or with 16 digits and a leading zero as kernels print it;
    decimal otherwise. ``_`` may separate digits.

    Raises:
        UsageError: it is no number, or has more than 64 bits.
    """
    digits = text.replace("_", "")
    note = ""
    if digits.lower().startswith("0x") and _HEX_DIGITS.fullmatch(digits[2:]):
        value = int(digits[2:], 16)
    elif digits.isascii() and digits.isdecimal() and not (len(digits) == _KERNEL_DIGITS and digits[0] == "0"):
        value = int(digits) if len(digits) <= _MOST_DECIMAL_DIGITS else 1 << _REGISTER_BITS
        if len(digits) >= _SURPRISING_DIGITS:
            note = f"{name}={text} is read as decimal, {value:#x}; write 0x{digits} for hexadecimal"
    elif _HEX_DIGITS.fullmatch(digits):
        value = int(digits, 16)
    else:
        raise UsageError(f"{name}: {_shortened(text)!r} is not a number; give it as 0x80843510 or in decimal")
    if value >> _REGISTER_BITS:
        raise UsageError(f"{name}: {_shortened(text)} has more than 64 bits")
    return value, note


def _shortened(text: str) -> str:
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}..."
