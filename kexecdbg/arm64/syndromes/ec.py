"""The exception classes, ESR_ELx.EC, that are asked for by name, and what they have in common (Arm ARM D24.2.42)."""

from __future__ import annotations

from kexecdbg.arm64.bits import bits

UNKNOWN_REASON, ILLEGAL_STATE = 0x00, 0x0E
SVC, HVC, SMC = 0x15, 0x16, 0x17
GRANULE_PROTECTION_CHECK = 0x1E
INSTRUCTION_ABORT_LOWER, INSTRUCTION_ABORT_SAME = 0x20, 0x21
PC_ALIGNMENT, SP_ALIGNMENT = 0x22, 0x26
DATA_ABORT_LOWER, DATA_ABORT_SAME = 0x24, 0x25
SERROR = 0x2F
WATCHPOINT_LOWER, WATCHPOINT_SAME = 0x34, 0x35

CALLS = frozenset({SVC, HVC, SMC})
"""What code takes on purpose."""
INSTRUCTION_ABORTS = frozenset({INSTRUCTION_ABORT_LOWER, INSTRUCTION_ABORT_SAME})
DATA_ABORTS = frozenset({DATA_ABORT_LOWER, DATA_ABORT_SAME})
ABORTS = INSTRUCTION_ABORTS | DATA_ABORTS
ABORTS_OF_LOWER_EL = frozenset({INSTRUCTION_ABORT_LOWER, DATA_ABORT_LOWER})
HAVE_FNV = ABORTS | {WATCHPOINT_LOWER, WATCHPOINT_SAME}
"""Those with FnV, bit 10: FAR_ELx is not valid."""
WRITE_FAR = HAVE_FNV | {PC_ALIGNMENT, GRANULE_PROTECTION_CHECK}
"""Those that write FAR_ELx (Arm ARM D24.2.47)."""
FAULTS = ABORTS | {UNKNOWN_REASON, ILLEGAL_STATE, PC_ALIGNMENT, SP_ALIGNMENT, SERROR}
"""Those that show that something is wrong: no calls, no traps to a hypervisor, no debug exceptions."""


def ec_of(esr: int) -> int:
    """The exception class in an ESR_ELx value."""
    return bits(esr, 31, 26)
