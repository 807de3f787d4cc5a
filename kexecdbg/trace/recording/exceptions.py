"""Recognises that a step took an exception."""

from __future__ import annotations

from collections.abc import Collection

from kexecdbg.arm64.interfaces import RegisterValues
from kexecdbg.arm64.syndromes.ec import ABORTS_OF_LOWER_EL, WRITE_FAR, ec_of
from kexecdbg.arm64.vectors import is_vector
from kexecdbg.trace.records import ExceptionTaken

EXCEPTION_REGISTERS = (
    *(f"{name}_EL{el}" for el in (1, 2, 3) for name in ("ESR", "FAR", "ELR", "SPSR")),
    "HPFAR_EL2",
    *(f"SP_EL{el}" for el in range(4)),
)
"""What taking an exception, or returning from one, can change besides PSTATE and the PC. QEMU keeps SP_ELx up to date
only when it changes the level (target/arm/internals.h, aarch64_save_sp)."""
STACK_REGISTERS = tuple(f"SP_EL{el}" for el in range(4))


def sets_far(esr: int) -> bool:
    """Whether the exception with this syndrome writes FAR_ELx."""
    return ec_of(esr) in WRITE_FAR


def is_stage_2_fault(esr: int, from_el: int, to_el: int) -> bool:
    """Whether the exception is an abort of a lower level that EL2 gets, which writes HPFAR_EL2."""
    return to_el == 2 and from_el < to_el and ec_of(esr) in ABORTS_OF_LOWER_EL


def exception_between(
    from_el: int, returns_to: Collection[int], after: RegisterValues, pc: int, to_el: int
) -> ExceptionTaken | None:
    """The exception that was taken, if the CPU is at a vector's entry and its ELR fits.

    Args:
        from_el: exception level before.
        returns_to: what ELR can be: the instruction, or the ones after it.
        after: the registers now.
        pc, to_el: the PC and the exception level now.
    """
    if not is_vector(pc, after.get(f"VBAR_EL{to_el}")) or after.get(f"ELR_EL{to_el}") not in returns_to:
        return None
    esr = after.get(f"ESR_EL{to_el}")
    far = after.get(f"FAR_EL{to_el}") if esr is None or sets_far(esr) else None
    return ExceptionTaken(from_el, to_el, esr, far, after.get(f"ELR_EL{to_el}"), after.get(f"SPSR_EL{to_el}"))
