"""Where a stopped CPU is, whether it is stuck there, and what can still be known of how it came to it."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass, replace

from kexecdbg.arm64.bits import bits, mask
from kexecdbg.arm64.faults import Access, Fault, FaultKind
from kexecdbg.arm64.instructions import INSTRUCTION_SIZE, Flow, Instruction
from kexecdbg.arm64.interfaces import PhysicalMemory
from kexecdbg.arm64.ranges import MappedRange
from kexecdbg.arm64.regimes import Regime, current_el, mmu_enabled, regime_of
from kexecdbg.arm64.syndromes.ec import INSTRUCTION_ABORTS, UNKNOWN_REASON
from kexecdbg.arm64.walk import Walk, walk
from kexecdbg.checks.enable_site import pending_write
from kexecdbg.checks.fetching import instruction_at
from kexecdbg.checks.stuck.loops import Loop, loop_at
from kexecdbg.checks.stuck.origin import Origin, OriginSearch, find_origin
from kexecdbg.checks.stuck.suspects import identity_mapped, mapped_ranges, wrong_regime_mappings
from kexecdbg.checks.stuck.syndrome import HeldSyndrome, Standing, held_syndrome, undefined_code
from kexecdbg.checks.stuck.vectors import VectorEntry, handler_code, vector_entry
from kexecdbg.errors import MemoryUnreadableError
from kexecdbg.machine.state import CpuState

_PSCI_CPU_OFF = 0x8400_0002
"""Arm DEN0022, CPU_OFF, in W0 of the SMC or HVC."""


class Condition(enum.Enum):
    """What a stopped CPU is doing; the value completes "the CPU ..."."""

    VECTOR_LOOP = "faults on its own exception vector, for ever"
    HANDLER_LOOP = "faults inside its exception handler"
    FAULT_LOOP = "takes the same exception again and again"
    VECTOR_OUT_OF_REACH = "has taken an exception and cannot execute its vector"
    CANNOT_EXECUTE = "cannot execute its next instruction"
    RESTS_IN_VECTOR = "has taken an exception and rests in its handler"
    ENDLESS_BRANCH = "is in an endless branch"
    WAITS = "waits for an interrupt or an event: it is parked"
    HALTED = "is powered off or was never started"
    AT_SWITCH = "is about to switch the MMU on"
    RUNS = "can go on"
    UNKNOWN = "cannot be judged"

    @property
    def stuck(self) -> bool | None:
        """Whether the CPU cannot go on by itself; ``None`` when that is not known."""
        return None if self is Condition.UNKNOWN else self in _STUCK


_STUCK = frozenset(
    {
        Condition.VECTOR_LOOP,
        Condition.HANDLER_LOOP,
        Condition.FAULT_LOOP,
        Condition.VECTOR_OUT_OF_REACH,
        Condition.CANNOT_EXECUTE,
        Condition.RESTS_IN_VECTOR,
        Condition.ENDLESS_BRANCH,
    }
)
_NOT_OF_A_SWITCH = frozenset({Condition.ENDLESS_BRANCH})
"""Stuck by what the code does, not by a translation."""


@dataclass(frozen=True)
class Diagnosis:
    """What is known about one stopped CPU.

    Attributes:
        condition: what it is doing.
        pc: its program counter.
        pstate: its PSTATE.
        regime: translation regime that fetches from ``pc`` are made in.
        mmu_on: whether stage 1 of that regime is on.
        entry: the exception vector that the PC is in, if it is in one.
        instruction: the instruction at the PC, if it can be fetched and is one.
        loop: the loop that the PC is in, when it matters.
        reason: why the condition is what it is, as a clause; may be empty.
        syndrome: what the syndrome registers hold; ``None`` when they hold nothing.
        lost: what can no longer be read: registers that a later exception overwrote.
        search: what came of the search for the switch that the CPU comes from; ``None`` when there was none.
        suspects: mappings that look made for another regime; empty when the CPU is not stuck.
    """

    condition: Condition
    pc: int
    pstate: int
    regime: Regime
    mmu_on: bool
    entry: VectorEntry | None
    instruction: Instruction | None
    loop: Loop | None
    reason: str
    syndrome: HeldSyndrome | None
    lost: tuple[str, ...] = ()
    search: OriginSearch | None = None
    suspects: tuple[MappedRange, ...] = ()

    @property
    def stuck(self) -> bool | None:
        """Whether the CPU cannot go on by itself; ``None`` when that is not known."""
        return self.condition.stuck

    @property
    def origin(self) -> Origin | None:
        """The switch that the CPU comes from, when it was found."""
        return None if self.search is None else self.search.origin

    @property
    def keeps_first_syndrome(self) -> bool:
        """Whether one more instruction would overwrite the syndrome of the first exception."""
        return (
            self.condition is Condition.VECTOR_OUT_OF_REACH
            and self.syndrome is not None
            and self.syndrome.standing is Standing.FIRST
        )


def diagnose(
    state: CpuState, memory: PhysicalMemory, halted: bool | None = None, search: Iterable[tuple[int, int]] = ()
) -> Diagnosis:
    """What the CPU in ``state`` is doing, and why.

    Args:
        state: its registers.
        memory: physical memory.
        halted: whether it executes nothing, in WFI or powered off; ``None`` when the machine does not say.
        search: physical ranges (end exclusive) that may hold the code that switched the MMU on, if the user knows.

    Raises:
        RegisterUnknownError: PC, PSTATE, SCTLR_ELx or HCR_EL2 is unknown.
    """
    look = _Look(state, memory)
    diagnosis = look.diagnose(halted)
    if not diagnosis.stuck or diagnosis.condition in _NOT_OF_A_SWITCH:
        return diagnosis
    held = diagnosis.syndrome
    ranges = mapped_ranges(state, memory, look.regime) if look.mmu_on else ()
    suspects = wrong_regime_mappings(ranges, look.regime)
    mapped = [*identity_mapped(suspects), *identity_mapped(ranges)]
    found = find_origin(state, memory, look.regime, held, mapped, search)
    return replace(diagnosis, lost=_lost(look.regime, held), search=found, suspects=suspects)


def _lost(regime: Regime, held: HeldSyndrome | None) -> tuple[str, ...]:
    if held is None or held.standing is not Standing.OVERWRITTEN:
        return ()
    facts = regime.facts
    return (facts.esr, facts.far, facts.elr, facts.spsr)


class _Look:
    """One CPU, looked at once."""

    def __init__(self, state: CpuState, memory: PhysicalMemory) -> None:
        self.state = state
        self.memory = memory
        self.pc = state.require("PC", "where the CPU is")
        self.pstate = state.require("PSTATE", "which exception level the CPU is at")
        self.regime = regime_of(current_el(state), state)
        self.mmu_on = mmu_enabled(self.regime, state)
        facts = self.regime.facts
        self.entry = vector_entry(state, facts, self.pc)
        self.fetch: Walk = walk(state, memory, self.pc, regime=self.regime)
        self.fault: Fault | None = self.fetch.fault_for(Access.FETCH, privileged=current_el(state) != 0)
        self.problem = self._problem_of_code()
        self.instruction = self._instruction()
        handler = handler_code(state, memory, facts)
        self.in_handler = self.entry is not None or self.pc in handler
        self.held = held_syndrome(state, memory, facts, self.pc, handler)

    def _problem_of_code(self) -> str:
        """Why the instruction at the PC cannot be executed, as a clause; empty when it can."""
        if bits(self.pc, 1, 0):
            return f"the PC, {self.pc:#x}, is not a multiple of 4"
        if self.fault is not None:
            return f"{self.fault.text}: {self.fault.cause.text}"
        assert self.fetch.pa is not None
        try:
            self.memory.read(self.fetch.pa, INSTRUCTION_SIZE)
        except MemoryUnreadableError as error:
            return f"it is fetched from {self.fetch.pa:#x}, and {error.reason}"
        return undefined_code(self.state, self.memory, self.pc)

    def _instruction(self) -> Instruction | None:
        try:
            return None if self.problem else instruction_at(self.state, self.memory, self.pc)
        except MemoryUnreadableError:
            return None

    def diagnose(self, halted: bool | None) -> Diagnosis:
        """The condition and what it rests on; nothing is searched for yet."""
        if self.fault is not None and self.fault.kind is FaultKind.UNKNOWN and not self._is_recursive():
            return self._diagnosis(Condition.UNKNOWN, self.problem)
        loop = None if self.problem else loop_at(self.state, self.memory, self.pc)
        if halted and not (loop and loop.waits):
            return self._diagnosis(Condition.HALTED, self._why_halted())
        if self._is_recursive():
            return self._diagnosis(Condition.VECTOR_LOOP, self.problem or self._why_recursive())
        if self.problem:
            at_vector = self.entry is not None and self.entry.at_start
            return self._diagnosis(
                Condition.VECTOR_OUT_OF_REACH if at_vector else Condition.CANNOT_EXECUTE, self.problem
            )
        if loop is not None and loop.waits:
            return self._diagnosis(Condition.WAITS, "", loop)
        if loop is not None and loop.does_nothing:
            condition = Condition.RESTS_IN_VECTOR if self.in_handler else Condition.ENDLESS_BRANCH
            return self._diagnosis(condition, "", loop)
        if self.held is not None and self.held.standing is Standing.OVERWRITTEN:
            where = f"the exception in {self.regime.facts.esr} was taken at {self.held.elr:#x}, in the handler itself"
            return self._diagnosis(Condition.HANDLER_LOOP, where)
        if self.instruction is not None:
            write = pending_write(self.instruction, self.state)
            if (
                write is not None
                and write.enables_mmu
                and write.register == self.regime.facts.sctlr
                and not self.mmu_on
            ):
                return self._diagnosis(Condition.AT_SWITCH, "")
        return self._diagnosis(Condition.RUNS, "")

    def _is_recursive(self) -> bool:
        """Whether the exception in the syndrome was taken from the very vector that it went to."""
        held = self.held
        if held is None or self.entry is None or not self.entry.at_start or held.elr != self.pc:
            return False
        return self.entry.kind == "synchronous" and not self.entry.from_lower

    def _why_recursive(self) -> str:
        assert self.held is not None
        if self.held.exception_class in INSTRUCTION_ABORTS | {UNKNOWN_REASON}:
            return (
                f"{self.regime.facts.esr} says so, but the vector could be executed as tables and memory are now: they "
                "have been changed since, or the CPU has others in its TLB and caches"
            )
        return "the first instruction of the vector faults itself"

    def _why_halted(self) -> str:
        try:
            before = instruction_at(self.state, self.memory, self.pc - INSTRUCTION_SIZE)
        except MemoryUnreadableError:
            before = None
        if before is None or before.flow is not Flow.EXCEPTION:
            return ""
        function = (self.state.get("X0") or 0) & mask(32)
        call = "PSCI CPU_OFF" if function == _PSCI_CPU_OFF else f"function {function:#x} in W0"
        return f"the last instruction was {before.text} at {before.address:#x}, {call}"

    def _diagnosis(self, condition: Condition, reason: str, loop: Loop | None = None) -> Diagnosis:
        return Diagnosis(
            condition,
            self.pc,
            self.pstate,
            self.regime,
            self.mmu_on,
            self.entry,
            self.instruction,
            loop,
            reason,
            self.held,
        )
