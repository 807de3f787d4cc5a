"""The switches in a recorded run, and the exceptions that are faults."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from kexecdbg.arm64.bits import bits
from kexecdbg.arm64.instructions import decode_instruction
from kexecdbg.arm64.regimes import current_el, mmu_enabled, regime_of
from kexecdbg.checks.enable_site import PendingWrite, pending_write
from kexecdbg.machine.state import CpuState
from kexecdbg.trace.reader import Trace
from kexecdbg.trace.records import ExceptionTaken

_CALLS = (0x15, 0x16, 0x17)
"""Exception classes of SVC, HVC and SMC, which code makes on purpose (Arm ARM D24.2.40, ESR_ELx.EC)."""


def switches(trace: Trace) -> Iterator[tuple[int, PendingWrite]]:
    """The steps that switch an MMU on or change the tables in use, each with what it writes."""
    for block in trace.blocks():
        words: list[int] = np.unique(block.words).tolist()
        writes = [word for word in words if (move := decode_instruction(word, 0).system_move) and move.is_write]
        for place in np.flatnonzero(np.isin(block.words, writes)).tolist():
            number = block.first + place
            step, state = trace.step(number), trace.state(number)
            if step.instruction is None:
                continue
            write = pending_write(step.instruction, state)
            if write is not None and (write.enables_mmu or _changes_tables_in_use(write, state)):
                yield number, write


def _changes_tables_in_use(write: PendingWrite, state: CpuState) -> bool:
    regime = regime_of(current_el(state), state)
    tables = (regime.facts.ttbr0, regime.facts.ttbr1, regime.facts.tcr)
    return write.register in tables and mmu_enabled(regime, state)


def faults(trace: Trace, first: int = 0) -> list[ExceptionTaken]:
    """The exceptions from step ``first`` on that are no calls, in order."""
    return [
        taken
        for number, taken in trace.exceptions()
        if number >= first and (taken.esr is None or bits(taken.esr, 31, 26) not in _CALLS)
    ]
