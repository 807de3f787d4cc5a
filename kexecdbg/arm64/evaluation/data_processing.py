"""Arithmetic, logic and moves between general registers (Arm ARM C4.1, "Data Processing").

Decoded from the word. Each form is a function that reads and writes :class:`EvaluatedRegisters`; an operand that is
unknown makes the result unknown. A form that is not here is unknown as a whole: :func:`data_processing` gives ``None``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from kexecdbg.arm64.bits import bits
from kexecdbg.arm64.evaluation import immediate_forms, register_forms
from kexecdbg.arm64.evaluation.arithmetic import Operation


@lru_cache(maxsize=4096)
def data_processing(word: int) -> Operation | None:
    """What the instruction ``word`` does to the registers; ``None`` when it is not data processing known here."""
    for pattern, value, decode in _FORMS:
        if word & pattern == value:
            return decode(word)
    return None


def is_processing(word: int) -> bool:
    """Whether ``word`` is in the encoding space of data processing, SIMD and floating point included."""
    return bits(word, 28, 26) == 0b100 or bits(word, 27, 25) in (0b101, 0b111)


_FORMS: tuple[tuple[int, int, Callable[[int], Operation | None]], ...] = (
    (0x1F00_0000, 0x1000_0000, immediate_forms.adr),
    (0x1F80_0000, 0x1100_0000, immediate_forms.add_immediate),
    (0x1F80_0000, 0x1200_0000, immediate_forms.logical_immediate),
    (0x1F80_0000, 0x1280_0000, immediate_forms.move_wide),
    (0x1F80_0000, 0x1300_0000, immediate_forms.bitfield),
    (0x7FA0_0000, 0x1380_0000, immediate_forms.extract),
    (0x1F00_0000, 0x0A00_0000, register_forms.logical_shifted),
    (0x1F20_0000, 0x0B00_0000, register_forms.add_shifted),
    (0x1F20_0000, 0x0B20_0000, register_forms.add_extended),
    (0x1FE0_0000, 0x1A00_0000, register_forms.add_carry),
    (0x1FE0_0000, 0x1A40_0000, register_forms.conditional_compare),
    (0x1FE0_0000, 0x1A80_0000, register_forms.conditional_select),
    (0x5FE0_0000, 0x1AC0_0000, register_forms.two_sources),
    (0x5FE0_0000, 0x5AC0_0000, register_forms.one_source),
    (0x1F00_0000, 0x1B00_0000, register_forms.three_sources),
)
"""Bits that pick a form, their value, and its decoder."""
