"""Finds the switch that a stuck CPU comes from, and judges it as if it were still ahead.

Taking an exception changes no general register and no translation register. A CPU that faults on its own vector still
has the value in the register that ``msr sctlr_elX, xT`` wrote from, and the tables that the next fetch went through.
The state before the switch is the present one with M clear and the PC at the ``msr``; the catalogue judges that, and
the exceptions it predicts must end in the syndrome that the CPU shows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from kexecdbg.arm64.instructions import Instruction
from kexecdbg.arm64.interfaces import PhysicalMemory, RegisterValues
from kexecdbg.arm64.pstate import el_of
from kexecdbg.arm64.regimes import (
    SCTLR_C,
    SCTLR_EE,
    SCTLR_I,
    SCTLR_M,
    SCTLR_WXN,
    Regime,
    current_el,
    mmu_enabled,
)
from kexecdbg.checks.enable_site import pending_write
from kexecdbg.checks.fetching import instruction_at
from kexecdbg.checks.fixing import RepairPlan, plan_repairs
from kexecdbg.checks.judging import judge
from kexecdbg.checks.prediction import ExceptionRecord
from kexecdbg.checks.situation import situation_at
from kexecdbg.checks.stuck.operand_value import can_have_written
from kexecdbg.checks.stuck.search import Searched, find_switches, near
from kexecdbg.checks.stuck.syndrome import HeldSyndrome, Standing
from kexecdbg.checks.verdict import Verdict
from kexecdbg.errors import ArchitectureError, MemoryUnreadableError, RegisterUnknownError, UsageError
from kexecdbg.machine.state import CpuState

_MOST_JUDGED = 16
"""How many writes of the right value are judged."""
_SWITCH_BITS = sum(1 << position for position in (SCTLR_M, SCTLR_C, SCTLR_I, SCTLR_WXN, SCTLR_EE))
"""What a write must agree in with SCTLR_ELx as it is now; other bits may read back differently (RES0, RES1)."""
_GENERAL = (*(f"X{number}" for number in range(31)), "SP")


@dataclass(frozen=True)
class Origin:
    """The switch that the CPU comes from.

    Attributes:
        instruction: the ``msr``; its address is where the code ran, MMU off.
        operand: the general register that it wrote from, ``X14``.
        verdict: the catalogue's verdict on it, made afterwards.
        explains: whether what the verdict predicts ends in just the syndrome that the CPU shows.
        also: addresses of further writes of the same value that would end the same way.
        or_later: addresses of writes of the same value that would not, because the code after them could go on: if one
            of them was the switch, the first exception came later.
        repair: what kexec-fix will do, or why nothing can be repaired from here.
    """

    instruction: Instruction
    operand: str
    verdict: Verdict
    explains: bool
    also: tuple[int, ...]
    or_later: tuple[int, ...]
    repair: RepairPlan | str

    @property
    def first(self) -> ExceptionRecord | None:
        """The first exception after the switch, reconstructed; ``None`` when its next instruction executed."""
        return self.verdict.prediction.first


@dataclass(frozen=True)
class OriginSearch:
    """What came of the search for the switch.

    Attributes:
        origin: the switch, if it was found.
        undecided: addresses of writes that may all have been it, when nothing tells them apart and none explains what
            the CPU shows.
        searched: how much memory was searched.
    """

    origin: Origin | None
    undecided: tuple[int, ...]
    searched: Searched


@dataclass(frozen=True)
class _Rewound:
    """The registers as they were: those of ``now``, some replaced."""

    now: RegisterValues
    replaced: Mapping[str, int]

    def get(self, name: str, /) -> int | None:
        return self.replaced[name] if name in self.replaced else self.now.get(name)


@dataclass(frozen=True)
class _Candidate:
    """A write that may have been the switch.

    Attributes:
        exact: it wrote just the value that SCTLR_ELx has now.
        made: the code before it makes that value; ``None`` when it comes from further away.
        hinted: a general register points close to it.
    """

    instruction: Instruction
    operand: str
    exact: bool
    made: bool | None
    hinted: bool
    verdict: Verdict
    explains: bool


def find_origin(
    state: CpuState,
    memory: PhysicalMemory,
    regime: Regime,
    held: HeldSyndrome | None,
    mapped: Iterable[tuple[int, int]],
    asked: Iterable[tuple[int, int]],
) -> OriginSearch | None:
    """The switch that the CPU in ``state`` comes from; ``None`` when the regime's MMU is off.

    Args:
        state: the CPU, stuck in ``regime``.
        memory: physical memory.
        regime: the translation regime of the current level.
        held: what its syndrome registers hold.
        mapped: physical ranges (end exclusive) that are likely to hold the code, for memory that is slow to search.
        asked: ranges that the user wants searched.
    """
    if not mmu_enabled(regime, state):
        return None
    search = find_switches(state, memory, regime.facts.el, mapped, asked)
    candidates = sorted(_fitting(state, memory, regime, held, search.addresses), key=_rank)
    if not candidates:
        return OriginSearch(None, (), search.searched)
    best, others = candidates[0], candidates[1:]
    also = tuple(other.instruction.address for other in others if _evidence(other) == _evidence(best))
    if not best.explains and also:
        return OriginSearch(None, (best.instruction.address, *also), search.searched)
    lost = held is not None and held.standing is Standing.OVERWRITTEN
    or_later = tuple(other.instruction.address for other in others if lost and best.explains and not other.explains)
    repair = _repair(best.verdict, state)
    origin = Origin(best.instruction, best.operand, best.verdict, best.explains, also, or_later, repair)
    return OriginSearch(origin, (), search.searched)


def _fitting(
    state: CpuState, memory: PhysicalMemory, regime: Regime, held: HeldSyndrome | None, addresses: Iterable[int]
) -> list[_Candidate]:
    sctlr = regime.facts.sctlr
    now = state.require(sctlr, "which switch was executed")
    pstate = _pstate_before(state, held)
    pointers = [value for value in (state.get(name) for name in _GENERAL) if value is not None]
    found: list[_Candidate] = []
    for address in addresses:
        before = CpuState(_Rewound(state, {"PC": address, "PSTATE": pstate, sctlr: now & ~(1 << SCTLR_M)}))
        try:
            instruction = instruction_at(before, memory, address)
        except MemoryUnreadableError:
            continue
        write = pending_write(instruction, before)
        if write is None or write.register != sctlr or (write.value ^ now) & _SWITCH_BITS:
            continue
        assert instruction.system_move is not None
        operand = instruction.system_move.general
        try:
            made = can_have_written(before, memory, regime.facts, operand, write.value)
            if made is False:
                continue
            verdict = judge(situation_at(before, memory))
        except (RegisterUnknownError, ArchitectureError):
            continue
        hinted = any(near(address, pointer) for pointer in pointers)
        explains = _explains(verdict, state, held)
        found.append(_Candidate(instruction, operand, write.value == now, made, hinted, verdict, explains))
        if len(found) == _MOST_JUDGED:
            break
    return found


def _pstate_before(state: CpuState, held: HeldSyndrome | None) -> int:
    """PSTATE of the code, as far as it is known: SPSR of a first exception, else what it is now, interrupts masked."""
    now = state.require("PSTATE", "which exception level the code ran at")
    if held is None or held.standing is not Standing.FIRST or held.spsr is None:
        return now
    return held.spsr if held.source_el == el_of(now) else now


def _explains(verdict: Verdict, state: CpuState, held: HeldSyndrome | None) -> bool:
    predicted = verdict.prediction
    if held is not None and held.standing is Standing.OVERWRITTEN:
        return predicted.then is not None and predicted.then.agrees_with(held.record)
    if held is not None and held.standing is Standing.FIRST:
        if predicted.first is None or held.source_el != current_el(state):
            return False
        return predicted.first.agrees_with(held.record)
    return predicted.first is not None and state.get("PC") == verdict.situation.next_pc


def _evidence(candidate: _Candidate) -> tuple[bool, bool, bool]:
    """How much speaks for a candidate, as a sort key, the most first."""
    return not candidate.explains, not candidate.exact, not candidate.made


def _rank(candidate: _Candidate) -> tuple[bool, ...]:
    """The likeliest first; among equals one that a register points to, and one in a page that the tables map."""
    mapped = candidate.verdict.situation.fetch.pa is not None
    return *_evidence(candidate), not candidate.hinted, not mapped


def _repair(verdict: Verdict, state: CpuState) -> RepairPlan | str:
    try:
        plan = plan_repairs(verdict, state)
    except UsageError as error:
        return str(error)
    return plan if plan.repairs else "; ".join(correction.summary for correction in plan.corrections)
