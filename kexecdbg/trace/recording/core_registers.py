"""General registers as the evaluator of single instructions wants them, made quickly from a row of values."""

from __future__ import annotations

from collections.abc import Sequence

from kexecdbg.arm64.evaluation import EvaluatedRegisters
from kexecdbg.arm64.interfaces import RegisterValues
from kexecdbg.arm64.pstate import flags_of

GENERAL = 31


class CoreRegisters(EvaluatedRegisters):
    """Registers for evaluating data processing, branches and addresses; others are those of ``source``.

    The base class asks its source for every register, by name; that takes longer than evaluating an instruction does.

    Args:
        source: where other registers come from.
        general: X0 to X30; the list is taken over.
        sp, pc, pstate: the others.
    """

    def __init__(self, source: RegisterValues, general: list[int | None], sp: int, pc: int, pstate: int) -> None:
        self._source = source
        self._general = general
        self.sp = sp
        self.pc = pc
        self._pstate = pstate
        self.flags = flags_of(pstate)
        self._system = {}
        self._unknown_views = frozenset()

    def general(self) -> Sequence[int | None]:
        """X0 to X30 as they are now."""
        return self._general
