"""The exception vectors of a level: sixteen pieces of code from VBAR_ELx on, one for each source and kind of exception.

Arm ARM D1.3.1.5, "Vector offsets from vector table base address".
"""

from __future__ import annotations

import enum

from kexecdbg.arm64.pstate import uses_sp_elx

VECTOR_SIZE = 0x80
"""Bytes of one vector."""
VECTORS_SIZE = 0x800
"""Bytes of the sixteen, and their alignment: the bits of VBAR_ELx below it are RES0."""
_BASE = 0xFFFF_FFFF_FFFF_F800


class VectorSource(enum.IntEnum):
    """Where an exception comes from; the value is the offset of the four vectors for it."""

    SP_EL0 = 0x000
    """The same level, which uses SP_EL0."""
    SP_ELX = 0x200
    """The same level, which uses its own SP."""
    LOWER_EL = 0x400
    """A lower level in AArch64."""
    LOWER_EL_AARCH32 = 0x600


class VectorKind(enum.IntEnum):
    """The kind of exception; the value is the offset of its vector among the four."""

    SYNCHRONOUS = 0x000
    IRQ = 0x080
    FIQ = 0x100
    SERROR = 0x180


def vectors_base(vbar: int) -> int:
    """Address of the first vector, or of the vectors that the address ``vbar`` lies in."""
    return vbar & _BASE


def own_source(pstate: int) -> VectorSource:
    """Where an exception comes from that code with ``pstate`` takes to its own level."""
    return VectorSource.SP_ELX if uses_sp_elx(pstate) else VectorSource.SP_EL0


def in_vectors(address: int, vbar: int | None) -> bool:
    """Whether ``address`` lies in the vectors of ``vbar``; not when that is unknown."""
    return vbar is not None and vectors_base(address) == vectors_base(vbar)


def is_vector(address: int, vbar: int | None) -> bool:
    """Whether ``address`` is the first instruction of a vector of ``vbar``, where an exception goes."""
    return address % VECTOR_SIZE == 0 and in_vectors(address, vbar)
