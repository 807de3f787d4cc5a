"""The moment that is judged: the machine as it will be right after the write that switches the MMU on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, wraps
from typing import Any, TypeVar

from kexecdbg.arm64.bits import bit
from kexecdbg.arm64.evaluation import Evaluation, Step, Stop, StopReason
from kexecdbg.arm64.faults import Access, Fault
from kexecdbg.arm64.instructions import INSTRUCTION_SIZE, Instruction
from kexecdbg.arm64.interfaces import PhysicalMemory
from kexecdbg.arm64.ranges import TableScan
from kexecdbg.arm64.regimes import SCTLR_EE, SCTLR_M, Regime, current_el, mmu_enabled, regime_of
from kexecdbg.arm64.vectors import own_source, vectors_base
from kexecdbg.arm64.walk import Walk, walk
from kexecdbg.checks.enable_site import PendingWrite, pending_write
from kexecdbg.checks.evaluated_code import Approach, aftermath, approach
from kexecdbg.checks.fetching import fetched_from, instruction_at
from kexecdbg.checks.lead_up import Way, ways_to
from kexecdbg.checks.relocation import Relocation, find_relocation
from kexecdbg.checks.table_scans import scan_tables
from kexecdbg.checks.touches import Touch, TouchKind, touches_of
from kexecdbg.errors import MemoryUnreadableError, UsageError
from kexecdbg.machine.memory_map import MemoryMap, memory_map_of
from kexecdbg.machine.overlay_memory import OverlayMemory
from kexecdbg.machine.state import CpuState

_Answer = TypeVar("_Answer")


class NoSwitchError(UsageError):
    """The PC is at no switch, and none is ahead.

    Attributes:
        reason: what is there instead, and how far the code could be followed; the message says also what to type.
    """

    def __init__(self, reason: str, hint: str) -> None:
        self.reason = reason
        super().__init__(f"{reason}; {hint}")


@dataclass(frozen=True)
class Situation:
    """The state before and after the write at ``site``, and memory.

    Attributes:
        before: the state at the write: now, or as the code that leads there will have made it.
        after: the state once the write has been made.
        memory: physical memory at that time.
        site: address of the write, or of the next instruction when the write is only assumed.
        next_pc: first address that is fetched after the write.
        approach: the instructions from the PC to the write; none when the PC is there.
        start: the state now, when there is an approach.
    """

    before: CpuState
    after: CpuState
    memory: PhysicalMemory
    site: int
    next_pc: int
    approach: tuple[Step, ...] = ()
    start: CpuState | None = None

    @cached_property
    def el(self) -> int:
        """Exception level of the code."""
        return current_el(self.before)

    @cached_property
    def regime(self) -> Regime:
        """The translation regime the next fetch is made in."""
        return regime_of(self.el, self.after)

    @property
    def is_assumed(self) -> bool:
        """Whether there is no write: the user gave the registers as they are after it."""
        return self.site == self.next_pc

    @cached_property
    def is_live(self) -> bool:
        """Whether the MMU is on before the write already: it changes the translation that is in use."""
        sctlr = self.before.get(self.regime.facts.sctlr)
        return sctlr is not None and bool(bit(sctlr, SCTLR_M)) and not self.is_assumed

    @cached_property
    def fetch(self) -> Walk:
        """Translation of the next instruction, after the write."""
        return self.walk(self.next_pc)

    @cached_property
    def fetch_fault(self) -> Fault | None:
        """The fault of the next fetch."""
        return self.fetch.fault_for(Access.FETCH)

    @cached_property
    def vector(self) -> int:
        """Address of the vector that a synchronous exception from this EL to the same EL takes."""
        base = self.after.require(self.regime.facts.vbar, "where an exception goes")
        return vectors_base(base) + own_source(self.after.require("PSTATE", "which vector an exception takes"))

    @cached_property
    def vector_fetch(self) -> Walk:
        """Translation of the exception vector, after the write."""
        return self.walk(self.vector)

    @cached_property
    def vector_fault(self) -> Fault | None:
        """The fault of a fetch from the exception vector."""
        return self.vector_fetch.fault_for(Access.FETCH)

    @cached_property
    def lead_up(self) -> tuple[Way, ...]:
        """The ways to the write, as far back as the code tells; each ends right before it. None if it is assumed."""
        if self.is_assumed:
            return ()
        ways = ways_to(self.start or self.before, self.memory)
        return tuple((*way, *self.approach) for way in ways or ((),) if way or self.approach)

    @cached_property
    def aftermath(self) -> Evaluation:
        """What the code does after the write, as if no access faulted, as far as that can be told.

        Empty when the next fetch does not lead to the code that runs now.
        """
        if self.fetch_fault is None and not self.finds_intended_code(self.fetch):
            return Evaluation((), Stop(StopReason.UNREADABLE, self.next_pc))
        return aftermath(self.before, self.after, self.memory, self.next_pc)

    @cached_property
    def touches(self) -> tuple[Touch, ...]:
        """What the code touches after the write, in execution order; the vector, last, only if it faults.

        Every one is certain as long as no earlier one faults.
        """
        vbar = self.after.get(self.regime.facts.vbar)
        vector = () if vbar is None else (Touch(TouchKind.VECTOR, self.vector, INSTRUCTION_SIZE, Access.FETCH),)
        return (*touches_of(self.aftermath), *vector)

    @cached_property
    def memory_map(self) -> MemoryMap | None:
        """Which addresses are memory, when the machine says so."""
        return memory_map_of(self.memory)

    @cached_property
    def scans(self) -> tuple[TableScan, ...]:
        """Everything that the tables map after the write, TTBR0's first; nothing while the regime's MMU stays off."""
        return scan_tables(self.after, self.memory, self.regime)

    @cached_property
    def relocation(self) -> Relocation | None:
        """The kexec relocation that this code carries out; ``None`` when no register points to its argument."""
        return find_relocation(self.before, self.after, self.memory, self.next_pc)

    def walk(self, va: int, registers: Mapping[str, int] | None = None, words: Mapping[int, int] | None = None) -> Walk:
        """Translate ``va`` in the state after the write, with further ``registers`` and memory ``words`` replaced."""
        if not registers and not words:
            if va not in self._walks:
                self._walks[va] = walk(self.after, self.memory, va, regime=self.regime)
            return self._walks[va]
        state = self.after.with_values(registers) if registers else self.after
        big_endian = bool(bit(state.get(self.regime.facts.sctlr) or 0, SCTLR_EE))
        memory = OverlayMemory(self.memory, words, big_endian) if words else self.memory
        return walk(state, memory, va, regime=self.regime)

    @cached_property
    def _walks(self) -> dict[int, Walk]:
        return {}

    @cached_property
    def _answers(self) -> dict[Callable[[Situation], Any], Any]:
        """Those of the questions that are :func:`asked_once`."""
        return {}

    def cures_fetch(self, registers: Mapping[str, int] | None = None, words: Mapping[int, int] | None = None) -> bool:
        """Whether the next fetch would get the intended instruction with these replacements."""
        result = self.walk(self.next_pc, registers, words)
        return result.fault_for(Access.FETCH) is None and self.finds_intended_code(result)

    @cached_property
    def intended_code(self) -> bytes | None:
        """The next instructions as the code that runs now sees them, at most 64 bytes; ``None`` if unreadable."""
        return self._read(fetched_from(self.before, self.memory, self.next_pc), 64 - self.next_pc % 64)

    def finds_intended_code(self, result: Walk) -> bool:
        """Whether the walk ``result`` of the next PC leads to the instructions that the code now running sees."""
        if result.pa is None or self.intended_code is None:
            return False
        return self._read(result.pa, len(self.intended_code)) == self.intended_code

    def _read(self, address: int | None, size: int) -> bytes | None:
        try:
            return None if address is None else self.memory.read(address, size)
        except MemoryUnreadableError:
            return None


def asked_once(question: Callable[[Situation], _Answer]) -> Callable[[Situation], _Answer]:
    """Decorates a question to a situation that many rules ask: each situation keeps its answer."""

    @wraps(question)
    def answer(situation: Situation) -> _Answer:
        answers = situation._answers
        if question not in answers:
            answers[question] = question(situation)
        found: _Answer = answers[question]
        return found

    return answer


def situation_at(state: CpuState, memory: PhysicalMemory) -> Situation:
    """The switch that ``state`` is at, or that the code from its PC on leads to.

    The instruction at the PC is an ``msr`` to an SCTLR_ELx that sets M, or one to TTBR or TCR while the MMU is on; or
    an ``msr`` that switches the MMU on is ahead, and the code up to it can be evaluated; or the user assumed an
    SCTLR_ELx with M set: then the write counts as made and the PC is the next fetch.

    Raises:
        NoSwitchError: none of these is the case.
        UsageError: the assumed SCTLR_ELx has M clear.
        RegisterUnknownError, MemoryUnreadableError: the PC or its instruction is not known.
    """
    pc = state.require("PC", "which instruction comes next")
    el = current_el(state)
    regime = regime_of(el, state)
    if regime.facts.sctlr in state.assumed_names():
        if not mmu_enabled(regime, state):
            raise UsageError(
                f"with {regime.facts.sctlr} = {state.get(regime.facts.sctlr):#x} the MMU stays off; set bit 0, M"
            )
        return Situation(state, state, memory, site=pc, next_pc=pc)
    instruction = instruction_at(state, memory, pc)
    write = pending_write(instruction, state)
    if write is not None and (write.enables_mmu or _changes_live_tables(write, regime, state)):
        return _at_write(state, memory, write)
    found = approach(state, memory)
    if found.reached:
        ahead = pending_write(instruction_at(found.state, found.memory, found.evaluation.stop.address), found.state)
        assert ahead is not None
        return replace(_at_write(found.state, found.memory, ahead), approach=found.evaluation.steps, start=state)
    raise _no_switch(state, regime, instruction, found)


def _changes_live_tables(write: PendingWrite, regime: Regime, state: CpuState) -> bool:
    facts = regime.facts
    return write.register in (facts.ttbr0, facts.ttbr1, facts.tcr) and mmu_enabled(regime, state)


def _at_write(state: CpuState, memory: PhysicalMemory, write: PendingWrite) -> Situation:
    site = state.require("PC", "which instruction comes next")
    after = state.with_values({write.register: write.value})
    return Situation(state, after, memory, site, site + INSTRUCTION_SIZE)


def _no_switch(state: CpuState, regime: Regime, instruction: Instruction, found: Approach) -> NoSwitchError:
    clauses = [f"{instruction.address:#x}: {instruction.text} does not switch the MMU on"]
    if found.evaluation.steps:
        clauses.append(f"followed to {found.evaluation.stop.text}")
    if mmu_enabled(regime, state):
        clauses.append("the MMU is already on")
        return NoSwitchError("; ".join(clauses), "kexec-why explains a CPU that is stuck")
    hint = f"run kexec-step to get there, or give --assume {regime.facts.sctlr}=VALUE"
    return NoSwitchError("; ".join(clauses), hint)
