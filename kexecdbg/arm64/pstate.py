"""PSTATE, in the layout of SPSR_ELx (Arm ARM C5.2)."""

from __future__ import annotations

from collections.abc import Mapping

from kexecdbg.arm64.bits import bits, mask

_NZCV_LSB = 28
PSTATE_VIEWS: Mapping[str, int] = {
    "CurrentEL": 0b11 << 2,
    "DAIF": 0b1111 << 6,
    "NZCV": 0b1111 << _NZCV_LSB,
    "PAN": 1 << 22,
    "UAO": 1 << 23,
    "DIT": 1 << 24,
    "TCO": 1 << 25,
    "SSBS": 1 << 12,
    "SPSel": 1,
}
"""The system registers that show part of PSTATE and hold nothing else, and their bits, which keep their place."""


def el_of(pstate: int) -> int:
    """The exception level, 0 to 3, of a PSTATE or SPSR_ELx value: M[3:2]."""
    return bits(pstate, 3, 2)


def uses_sp_elx(pstate: int) -> bool:
    """Whether SP is the level's own, SP_ELx, and not SP_EL0: PSTATE.SP."""
    return pstate & PSTATE_VIEWS["SPSel"] != 0


def stack_register(pstate: int) -> str:
    """The register that SP is with this PSTATE: ``SP_EL0``, or the level's own."""
    return f"SP_EL{el_of(pstate)}" if uses_sp_elx(pstate) else "SP_EL0"


def pan_of(pstate: int) -> bool:
    """PSTATE.PAN: privileged code may not load or store where EL0 may."""
    return pstate & PSTATE_VIEWS["PAN"] != 0


def flags_of(pstate: int) -> int:
    """The condition flags N, Z, C, V, from bit 3 down."""
    return pstate >> _NZCV_LSB & 0b1111


def with_flags(pstate: int, flags: int) -> int:
    """``pstate``, 32 bits, with the condition flags ``flags``, from bit 3 down."""
    return pstate & mask(_NZCV_LSB) | flags << _NZCV_LSB


def differ_in_flags_alone(pstate: int, other: int) -> bool:
    """Whether two PSTATE values are the same but for the condition flags, which may differ."""
    return (pstate ^ other) & ~PSTATE_VIEWS["NZCV"] == 0
