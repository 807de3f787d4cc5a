"""The first fault of a trace."""

from __future__ import annotations

from kexecdbg.arm64.bits import bits
from kexecdbg.trace.reader import Trace

_FAULT_CLASSES = frozenset({0x00, 0x0E, 0x20, 0x21, 0x22, 0x24, 0x25, 0x26, 0x2F})
"""ESR_ELx.EC (Arm ARM D24.2.40): unknown instruction, illegal state, aborts, misaligned PC or SP, SError.

System calls, traps to a hypervisor and debug exceptions are not faults.
"""


def first_fault(trace: Trace) -> int | None:
    """Number of the state right after the first fault, its syndrome still in ESR, FAR and ELR; ``None`` without one.

    Raises:
        TraceError: a part of the file is damaged.
    """
    for number, exception in trace.exceptions():
        if exception.esr is not None and bits(exception.esr, 31, 26) in _FAULT_CLASSES:
            return number + 1
    return None
