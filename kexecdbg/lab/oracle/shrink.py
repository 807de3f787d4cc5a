"""The smallest case that still disagrees: every bit that can go, goes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from kexecdbg.arm64.regimes import HCR_RW
from kexecdbg.lab.oracle.cases import REGISTERS, Case

StillDisagrees = Callable[[Case], bool]

_KEEP = {"VBAR_EL1", "VBAR_EL2"}
_KEEP_BITS = {"HCR_EL2": 1 << HCR_RW}  # without it EL1 is AArch32
_ROUNDS = 4


def shrink(case: Case, still_disagrees: StillDisagrees) -> Case:
    """Take away from ``case`` what ``still_disagrees`` does not need: words of memory, then bits, largest first.

    ``still_disagrees`` asks QEMU; it must be false for a case that cannot be asked.
    """
    for _ in range(_ROUNDS):
        before = case
        for candidate in _without_words(case):
            case = _try(case, candidate, still_disagrees)
        for name in REGISTERS:
            if name not in _KEEP:
                case = _fewer_bits_in_register(case, name, still_disagrees)
        for address in list(case.memory):
            case = _fewer_bits_in_word(case, address, still_disagrees)
        case = _fewer_address_bits(case, still_disagrees)
        if case.pan:
            case = _try(case, lambda now: replace(now, pan=False), still_disagrees)
        if case == before:
            break
    return case


Change = Callable[[Case], Case]


def _try(case: Case, change: Change, still_disagrees: StillDisagrees) -> Case:
    smaller = change(case)
    return smaller if smaller != case and still_disagrees(smaller) else case


def _without_words(case: Case) -> Iterator[Change]:
    for address in case.memory:

        def drop(now: Case, address: int = address) -> Case:
            return replace(now, memory={place: word for place, word in now.memory.items() if place != address})

        yield drop


def _fewer_bits(value: int, accepts: Callable[[int], bool]) -> int:
    """``value`` with as few bits as ``accepts`` lets it have."""
    if not value or accepts(0):
        return 0
    width = 32
    while width:
        for low in range(0, 64, width):
            candidate = value & ~(((1 << width) - 1) << low)
            if candidate != value and accepts(candidate):
                value = candidate
        width //= 2
    return value


def _fewer_bits_in_register(case: Case, name: str, still_disagrees: StillDisagrees) -> Case:
    def with_value(value: int) -> Case:
        return replace(case, registers={**case.registers, name: value | _KEEP_BITS.get(name, 0)})

    if not case.registers.get(name, 0):
        return case
    return with_value(_fewer_bits(case.registers[name], lambda value: still_disagrees(with_value(value))))


def _fewer_bits_in_word(case: Case, address: int, still_disagrees: StillDisagrees) -> Case:
    def with_word(word: int) -> Case:
        return replace(case, memory={**case.memory, address: word})

    return with_word(_fewer_bits(case.memory[address], lambda word: still_disagrees(with_word(word))))


def _fewer_address_bits(case: Case, still_disagrees: StillDisagrees) -> Case:
    def with_address(va: int) -> Case:
        return replace(case, va=va)

    return with_address(_fewer_bits(case.va, lambda va: still_disagrees(with_address(va))))
