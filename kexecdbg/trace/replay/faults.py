"""The first fault of a trace."""

from __future__ import annotations

from kexecdbg.arm64.syndromes.ec import FAULTS, ec_of
from kexecdbg.trace.reader import Trace


def first_fault(trace: Trace) -> int | None:
    """Number of the state right after the first fault, its syndrome still in ESR, FAR and ELR; ``None`` without one.

    Raises:
        TraceError: a part of the file is damaged.
    """
    for number, exception in trace.exceptions():
        if exception.esr is not None and ec_of(exception.esr) in FAULTS:
            return number + 1
    return None
