"""How a register's layout is chosen from its value and from other registers."""

from __future__ import annotations

from kexecdbg.arm64.bits import bit
from kexecdbg.arm64.features import effective_e2h
from kexecdbg.arm64.interfaces import RegisterValues
from kexecdbg.arm64.registers.model import Layout, Register, Selection


def by_e2h(register: Register, value: int, context: RegisterValues) -> Selection:
    """E2H=0 or E2H=1 by the effective HCR_EL2.E2H; when that is unknown, the one the value fits."""
    e2h_0, e2h_1 = register.layouts
    e2h = effective_e2h(context)
    if e2h is not None:
        return Selection(e2h_1 if e2h else e2h_0)
    chosen, because = _guess_e2h(e2h_0, e2h_1, value)
    return Selection(chosen, (f"HCR_EL2 is unknown: {register.name} read as {chosen.label} because {because}",))


def _guess_e2h(e2h_0: Layout, e2h_1: Layout, value: int) -> tuple[Layout, str]:
    missing = e2h_0.res1_mask & ~value
    forbidden = e2h_0.res0_mask & value
    if not missing and not forbidden:
        if e2h_0.res1_mask:
            return e2h_0, f"RES1 {bit_list(e2h_0.res1_mask)} {are(e2h_0.res1_mask)} set"
        if not e2h_1.fits(value):
            return e2h_0, f"{bit_list(e2h_1.res0_mask & value)} would be reserved with E2H=1"
        return e2h_0, "the value fits both layouts and nothing says that E2H is 1"
    parts = []
    if missing:
        parts.append(f"{bit_list(missing)} {are(missing)} clear, RES1 with E2H=0")
    if forbidden:
        parts.append(f"{bit_list(forbidden)} {are(forbidden)} set, RES0 with E2H=0")
    return e2h_1, " and ".join(parts)


def by_fault_bit(register: Register, value: int, context: RegisterValues) -> Selection:
    """PAR_EL1: F=0 or F=1 by bit 0."""
    return Selection(register.layouts[bit(value, 0)])


def by_execution_state(register: Register, value: int, context: RegisterValues) -> Selection:
    """SPSR_ELx: from AArch64 or from AArch32 by bit 4, M[4]."""
    return Selection(register.layouts[bit(value, 4)])


def runs(mask: int) -> list[tuple[int, int]]:
    """The runs of set bits of ``mask`` as (highest, lowest), from the highest down."""
    found: list[tuple[int, int]] = []
    for position in (position for position in range(63, -1, -1) if bit(mask, position)):
        if found and found[-1][1] == position + 1:
            found[-1] = (found[-1][0], position)
        else:
            found.append((position, position))
    return found


def bit_list(mask: int) -> str:
    """``bit 5`` or ``bits 31 and 9:6``: the bits of ``mask`` from the highest down."""
    names = [str(high) if high == low else f"{high}:{low}" for high, low in runs(mask)]
    listed = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
    return f"{'bit' if mask.bit_count() == 1 else 'bits'} {listed}"


def are(mask: int) -> str:
    """The verb for :func:`bit_list`."""
    return "is" if mask.bit_count() == 1 else "are"
