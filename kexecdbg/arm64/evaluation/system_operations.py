"""Barriers, TLB and cache maintenance, MSR (immediate) and hints decoded from the word (Arm ARM C4.1.94)."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from functools import lru_cache

from kexecdbg.arm64.bits import bit, bits
from kexecdbg.arm64.evaluation.effects import Barrier, BarrierKind, Domain
from kexecdbg.arm64.faults import Access
from kexecdbg.arm64.register_names import by_encoding

_DOMAINS = (Domain.OUTER_SHAREABLE, Domain.NON_SHAREABLE, Domain.INNER_SHAREABLE, Domain.FULL_SYSTEM)


@lru_cache(maxsize=256)
def barrier(word: int) -> Barrier | None:
    """The barrier that ``word`` encodes, or ``None``."""
    if word & 0xFFFF_F01F != 0xD503_301F:
        if word & 0xFFFF_F3FF == 0xD503_323F:  # DSB with nXS, FEAT_XS
            return Barrier(BarrierKind.DSB, _DOMAINS[bits(word, 11, 10)])
        return None
    operation, option = bits(word, 7, 5), bits(word, 11, 8)
    if operation == 0b110:
        return Barrier(BarrierKind.ISB)
    if operation == 0b111:
        return Barrier(BarrierKind.SB)
    if operation not in (0b100, 0b101):
        return None
    kind = BarrierKind.DSB if operation == 0b100 else BarrierKind.DMB
    types = bits(option, 1, 0)
    if types == 0:  # reserved, and SSBB and PSSBB: a DSB SY at least (Arm ARM C6.2, DSB)
        return Barrier(kind)
    return Barrier(kind, _DOMAINS[bits(option, 3, 2)], reads=types != 0b10, writes=types != 0b01)


@dataclass(frozen=True)
class SystemInstruction:
    """A ``SYS`` or ``SYSL``.

    Attributes:
        operation: ``TLBI ALLE2``, ``DC CVAC``; ``S1_...`` when the architecture has no name for it.
        register: number of its general register, 31 when there is none.
        is_read: SYSL: the register takes a result.
    """

    operation: str
    register: int
    is_read: bool


@lru_cache(maxsize=1024)
def system_instruction(word: int) -> SystemInstruction | None:
    """The SYS or SYSL that ``word`` encodes, or ``None``."""
    if word & 0xFFD8_0000 != 0xD508_0000 and word & 0xFFD8_0000 != 0xD528_0000:
        return None
    if bits(word, 20, 19) != 0b01:
        return None
    operation = by_encoding(1, bits(word, 18, 16), bits(word, 15, 12), bits(word, 11, 8), bits(word, 7, 5))
    return SystemInstruction(operation, bits(word, 4, 0), bool(bit(word, 21)))


ZEROES_BLOCK = frozenset({"DC ZVA", "DC GVA", "DC GZVA"})
"""Operations that write memory."""
_NEEDS_WRITE_PERMISSION = ZEROES_BLOCK | {"DC IVAC", "DC IGVAC", "DC IGDVAC"}
_BY_VIRTUAL_ADDRESS = (
    _NEEDS_WRITE_PERMISSION
    | {f"DC {scope}{what}" for scope in ("C", "CI", "CG", "CIG", "CGD", "CIGD") for what in ("VAC", "VAP", "VADP")}
    | {"DC CVAU", "IC IVAU"}
)


def access_of(operation: str) -> Access | None:
    """The permission that a cache maintenance instruction by virtual address needs; ``None`` for all others."""
    if operation not in _BY_VIRTUAL_ADDRESS:
        return None
    return Access.WRITE if operation in _NEEDS_WRITE_PERMISSION else Access.READ


@dataclass(frozen=True)
class PstateWrite:
    """An ``MSR`` (immediate): ``field`` as the instruction names it (``DAIFSet``, ``PAN``), 4-bit ``immediate``."""

    field: str
    immediate: int


@lru_cache(maxsize=64)
def pstate_write(word: int) -> PstateWrite | None:
    """The MSR (immediate) that ``word`` encodes, or ``None``."""
    if word & 0xFFF8_F01F != 0xD500_401F:
        return None
    return PstateWrite(by_encoding(0, bits(word, 18, 16), 4, 0, bits(word, 7, 5)), bits(word, 11, 8))


class Hint(enum.Enum):
    """What a hint does to general registers."""

    NOTHING = "nothing"
    WAITS = "waits"
    SIGNS_LINK = "signs or authenticates X30"
    SIGNS_X17 = "signs or authenticates X17"


_POINTER_AUTHENTICATION = {
    **dict.fromkeys((8, 10, 12, 14), Hint.SIGNS_X17),
    **dict.fromkeys((7, *range(24, 32)), Hint.SIGNS_LINK),
}
_WAITS = (2, 3)  # WFE, WFI


@lru_cache(maxsize=64)
def hint(word: int) -> Hint | None:
    """What the hint instruction ``word`` does, or ``None`` when it is no hint. Unallocated hints are NOPs."""
    if word & 0xFFFF_F01F != 0xD503_201F:
        return None
    number = bits(word, 11, 5)
    if number in _WAITS:
        return Hint.WAITS
    return _POINTER_AUTHENTICATION.get(number, Hint.NOTHING)
