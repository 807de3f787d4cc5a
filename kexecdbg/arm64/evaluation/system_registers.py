"""What an MSR or MRS does besides moving a value."""

from __future__ import annotations

from kexecdbg.arm64.bits import bit
from kexecdbg.arm64.instructions import SystemMove
from kexecdbg.arm64.interfaces import RegisterValues
from kexecdbg.arm64.regimes import el2_enabled

_TRANSLATION = (
    "SCTLR", "SCTLR2", "TTBR0", "TTBR1", "TCR", "TCR2", "MAIR", "MAIR2", "HCR", "VTCR", "VTTBR", "VSTCR", "VSTTBR",
    "PIR", "PIRE0", "POR", "S2PIR", "SCR", "PAN",
)  # fmt: skip
"""Registers, without _ELx, that a translation depends on."""

_VOLATILE = ("CNT", "PMC", "PMEV", "RNDR", "ICC_", "ICH_", "ISR_", "DBGDTR", "AMEVCNTR", "PAR_", "CCSIDR2")
"""How the names of registers begin that change by themselves, or when they are read."""

_SELECTED_BY = {"CSSELR_EL1": ("CCSIDR_EL1", "CCSIDR2_EL1"), "ERRSELR_EL1": ("ERXFR_EL1", "ERXSTATUS_EL1")}

_TRAPPED_BY_TVM = frozenset(
    f"{name}_EL1"
    for name in ("SCTLR", "TTBR0", "TTBR1", "TCR", "ESR", "FAR", "AFSR0", "AFSR1", "MAIR", "AMAIR", "CONTEXTIDR")
)
_HCR_TVM, _HCR_TRVM = 26, 30


def changes_translation(register: str) -> bool:
    """Whether translations depend on ``register``."""
    return register.rsplit("_EL", 1)[0] in _TRANSLATION


def is_volatile(register: str) -> bool:
    """Whether ``register`` may read differently each time."""
    return register.startswith(_VOLATILE)


def depends_on(register: str) -> tuple[str, ...]:
    """Registers whose value is another one once ``register`` has been written."""
    return _SELECTED_BY.get(register, ())


def is_trapped(move: SystemMove, el: int, e2h: bool, registers: RegisterValues) -> bool:
    """Whether the access is undefined at exception level ``el``, or trapped by HCR_EL2.TVM or TRVM.

    Other traps are not considered (Arm ARM D24.2, accessibility pseudocode of each register).
    """
    name = move.register
    if name.endswith(("_EL12", "_EL02")):
        return el < 2 or (el == 2 and not e2h)
    level = name[-1]
    if "_EL" in name and level.isdigit() and int(level) > el:
        return True
    if el != 1 or name not in _TRAPPED_BY_TVM or not el2_enabled(registers):
        return False
    hcr = registers.get("HCR_EL2")
    return hcr is not None and bool(bit(hcr, _HCR_TVM if move.is_write else _HCR_TRVM))
