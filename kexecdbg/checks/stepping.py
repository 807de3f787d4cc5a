"""Runs to the instruction that switches the MMU on, steps over it, and compares what happens with the prediction."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

from kexecdbg.arm64.instructions import (
    INSTRUCTION_SIZE,
    Flow,
    Instruction,
    ReachableCode,
    accessed_register,
    reachable_code,
)
from kexecdbg.arm64.regimes import Regime, current_el, regime_of
from kexecdbg.arm64.vectors import VECTOR_SIZE, in_vectors
from kexecdbg.checks.enable_site import pending_write, writes_sctlr
from kexecdbg.checks.fetching import code_reader, instruction_at
from kexecdbg.checks.judging import judge
from kexecdbg.checks.prediction import ExceptionRecord
from kexecdbg.checks.situation import situation_at
from kexecdbg.checks.verdict import Verdict
from kexecdbg.errors import MemoryUnreadableError, TargetError
from kexecdbg.machine.debugger import Debugger
from kexecdbg.machine.state import CpuState

_SET_UP_WINDOW = 64
"""How many instructions before the switch are searched for its set-up."""
_ROUNDS = 256
"""How many indirect branches and SCTLR writes without M are followed before giving up."""
_LONGEST_SET_UP = 512
"""How many instructions are stepped and recorded at most."""

_SET_UP_REGISTERS = ("TTBR0", "TTBR1", "TCR", "TCR2", "MAIR", "VBAR")
_GENERAL = (*(f"X{number}" for number in range(31)), "SP", "PSTATE")
_SYSTEM = (
    "HCR_EL2",
    *(
        f"{name}_EL{el}"
        for el in (1, 2, 3)
        for name in ("SCTLR", "TCR", "MAIR", "TTBR0", "TTBR1", "VBAR", "ESR", "FAR", "ELR", "SPSR")
    ),
)
_OBSERVED = (*_GENERAL, *_SYSTEM)
"""Registers whose change a step shows. A gdbstub sends the general ones at once, each system register by itself."""


@dataclass(frozen=True)
class RegisterChange:
    """A register that an instruction changed; ``old`` is ``None`` when it was not known before."""

    name: str
    old: int | None
    new: int


@dataclass(frozen=True)
class StepRecord:
    """One executed instruction and what it changed."""

    instruction: Instruction
    changes: tuple[RegisterChange, ...]


@dataclass(frozen=True)
class Observation:
    """What the CPU did after the write.

    Attributes:
        steps: the write, what runs up to the first exception or the next fetch, and, if asked for, one step more.
        first: the first exception, or ``None`` when there was none.
        then: the second exception; ``None`` when there was none or it was not looked for.
        followed: whether a second exception was looked for.
        unread: what the target does not let us see of all that, as a clause; empty when it shows everything.
    """

    steps: tuple[StepRecord, ...]
    first: ExceptionRecord | None
    then: ExceptionRecord | None
    followed: bool
    unread: str = ""

    def agrees_with(self, verdict: Verdict) -> bool | None:
        """Whether the CPU did what was predicted, as far as it was followed; ``None`` when it cannot be seen."""
        if self.unread:
            return None
        predicted = verdict.prediction
        if not _same(predicted.first, self.first):
            return False
        return not self.followed or _same(predicted.then, self.then)


@dataclass(frozen=True)
class Stepped:
    """What was stepped around a switch.

    Attributes:
        site: address of the write.
        set_up: the instructions before it.
        observed: what the CPU did from the write on; ``None`` when it was not executed.
    """

    site: int
    set_up: tuple[StepRecord, ...]
    observed: Observation | None


def _same(predicted: ExceptionRecord | None, observed: ExceptionRecord | None) -> bool:
    if predicted is None or observed is None:
        return predicted is observed
    if observed.far is None:
        # A gdbstub without FAR_ELx: all that can be seen agrees or does not.
        observed = replace(observed, far=predicted.far)
    return predicted.agrees_with(observed)


def run_to_switch(debugger: Debugger, seconds: float | None = None) -> tuple[StepRecord, ...]:
    """Run until the PC is at an ``msr`` to an SCTLR_ELx that sets M, found by decoding the code ahead.

    From the first write of its set-up (TTBR, TCR, MAIR, VBAR) on, every instruction is stepped; their records are
    returned. ``seconds`` bounds each run between two stops.

    Raises:
        TargetError: no such instruction was reached, or the machine ended.
    """
    for _ in range(_ROUNDS):
        state = debugger.state()
        pc = state.require("PC", "which instruction comes next")
        if _at_switch(state, debugger):
            return ()
        _check_fetchable(state, debugger, pc)
        code = _code_ahead(state, debugger, pc)
        switches = [instruction for instruction in code.instructions.values() if writes_sctlr(instruction)]
        ends = {switch.address for switch in switches}
        set_ups = {start for switch in switches if (start := _set_up_start(code, switch)) is not None}
        stops = ends | set_ups | set(code.open_ends)
        if not stops:
            decoded = len(code.instructions)
            looked_at = "1 instruction" if decoded == 1 else f"{decoded} instructions"
            raise TargetError(f"{pc:#x}: no write to an SCTLR_ELx is reachable from here ({looked_at})")
        if pc not in stops:
            pc = debugger.run_to(stops, seconds)
        if pc in set_ups:
            records, state = _step_through(debugger, pc, ends)
            if _at_switch(state, debugger):
                return records
        elif _at_switch(debugger.state(), debugger):
            return ()
        else:
            debugger.step()
    raise TargetError(f"no write that sets SCTLR_ELx.M was reached after {_ROUNDS} branches; step closer and try again")


def _at_switch(state: CpuState, debugger: Debugger) -> bool:
    pc = state.require("PC", "which instruction comes next")
    try:
        write = pending_write(instruction_at(state, debugger.memory, pc), state)
    except MemoryUnreadableError:
        return False
    return write is not None and write.enables_mmu


def _check_fetchable(state: CpuState, debugger: Debugger, pc: int) -> None:
    try:
        instruction_at(state, debugger.memory, pc)
    except MemoryUnreadableError as error:
        # Stepping on from here would overwrite the syndrome that says how it came to this.
        raise TargetError(
            f"{pc:#x}: {error.reason}, so no switch is ahead; kexec-why says why the CPU is stuck"
        ) from error


def _code_ahead(state: CpuState, debugger: Debugger, pc: int) -> ReachableCode:
    return reachable_code(code_reader(state, debugger.memory), [pc])


def _set_up_start(code: ReachableCode, switch: Instruction) -> int | None:
    """Address of the first translation register write in the instructions before ``switch``."""
    first = switch.address - _SET_UP_WINDOW * INSTRUCTION_SIZE
    for address in range(first, switch.address, INSTRUCTION_SIZE):
        instruction = code.instructions.get(address)
        move = instruction.system_move if instruction else None
        if move and move.is_write and move.register.rsplit("_EL", 1)[0] in _SET_UP_REGISTERS:
            return address
    return None


def _step_through(debugger: Debugger, first: int, ends: Collection[int]) -> tuple[tuple[StepRecord, ...], CpuState]:
    """Step and record from ``first`` until the PC is one of ``ends``, or leaves the code that leads there.

    Also gives the state there.
    """
    records = []
    state = debugger.state()
    for _ in range(_LONGEST_SET_UP):
        record, state = step_recorded(debugger, state)
        records.append(record)
        pc = state.require("PC", "which instruction comes next")
        if pc in ends or not first <= pc < first + _SET_UP_WINDOW * INSTRUCTION_SIZE:
            break
    return tuple(records), state


def step_recorded(debugger: Debugger, before: CpuState) -> tuple[StepRecord, CpuState]:
    """Step one instruction from the state ``before`` and say what it changed; the record, and the state after it."""
    pc = before.require("PC", "which instruction comes next")
    try:
        instruction = instruction_at(before, debugger.memory, pc)
    except MemoryUnreadableError:
        instruction = Instruction(pc, 0, "(cannot be fetched)", Flow.UNDEFINED)
    old = {name: before.get(name) for name in _OBSERVED}
    debugger.step()
    after = debugger.state()
    kept = set(_SYSTEM) - _possibly_written(instruction, before, after)
    after = after.with_unchanged({name: value for name in kept if (value := old[name]) is not None})
    changes = []
    for name, value in old.items():
        new = after.get(name)
        if new is not None and new != value:
            changes.append(RegisterChange(name, value, new))
    return StepRecord(instruction, tuple(changes)), after


def _possibly_written(instruction: Instruction, before: CpuState, after: CpuState) -> frozenset[str]:
    """Which of :data:`_SYSTEM` ``instruction`` can have changed, which has led from ``before`` to ``after``.

    Only MSR, an exception and the return from one write to any of them (Arm ARM D1.3, AArch64.TakeException()).
    """
    pc = after.get("PC")
    # A vector may be what follows in any case.
    at_vector = pc is None or pc % VECTOR_SIZE == 0
    if instruction.flow is Flow.EXCEPTION or at_vector or pc not in instruction.successors():
        return frozenset(_SYSTEM)
    move = instruction.system_move
    if move is None or not move.is_write:
        return frozenset()
    if move.register == "HCR_EL2":  # whose E2H decides which registers the names of others stand for
        return frozenset(_SYSTEM)
    el = current_el(before)
    return frozenset(accessed_register(move.register, el, e2h) for e2h in (False, True))


def judge_here(debugger: Debugger) -> Verdict:
    """The verdict on the write at the PC."""
    return judge(situation_at(debugger.state(), debugger.memory))


def step_over_switch(debugger: Debugger, verdict: Verdict, follow: bool) -> Observation:
    """Execute the write that ``verdict`` judged and go on until the predicted exception, with ``follow`` one step more.

    When none is predicted, the next fetch is all that is executed. The first syndrome is in the registers after the
    step that faults and is destroyed by the next one when the vectors fault too, so it is kept in the result.

    Raises:
        TargetError: the write itself did not go to the next instruction, or the machine ended.
    """
    record, state, first, unread = _step_watching_exceptions(debugger, debugger.state())
    steps = [record]
    pc = state.require("PC", "where the write went")
    predicted = verdict.prediction.first
    write_faults = predicted is not None and predicted.elr == verdict.situation.site
    if pc != verdict.situation.next_pc and not (write_faults and (first is not None or unread)):
        raise TargetError(
            f"the write at {verdict.situation.site:#x} itself was not executed: the PC is {pc:#x}; "
            "it may be trapped to a higher exception level (HCR_EL2.TVM, or SCR_EL3)"
        )
    for _ in range(0 if first is not None or unread else _steps_to_exception(verdict)):
        record, state, first, unread = _step_watching_exceptions(debugger, state)
        steps.append(record)
        if first is not None or unread:
            break
    then = None
    if follow and first is not None:
        record, _, then, unread = _step_watching_exceptions(debugger, state)
        steps.append(record)
    return Observation(tuple(steps), first, then, follow, unread)


def _steps_to_exception(verdict: Verdict) -> int:
    """How many instructions after the write to execute, the one that is predicted to fault included."""
    prediction = verdict.prediction
    if prediction.first is None or prediction.at is None:
        return 1
    return prediction.at.executed + 1


def _step_watching_exceptions(
    debugger: Debugger, before: CpuState
) -> tuple[StepRecord, CpuState, ExceptionRecord | None, str]:
    """One step: its record, the state after it, the exception if it took one, and what of that cannot be read."""
    record, after = step_recorded(debugger, before)
    return record, after, *_exception_taken(after, record.instruction)


def _exception_taken(state: CpuState, interrupted: Instruction) -> tuple[ExceptionRecord | None, str]:
    """The exception that has just been taken from ``interrupted``, if one has, and what cannot be read of it."""
    regime: Regime = regime_of(current_el(state), state)
    facts = regime.facts
    pc = state.require("PC", "whether an exception was taken")
    vbar, elr, esr = (state.get(name) for name in (facts.vbar, facts.elr, facts.esr))
    # Where VBAR cannot be read: hardly any instruction goes to such an address with its own in ELR.
    to_vector = vbar is None and pc % VECTOR_SIZE == 0 and pc not in interrupted.successors()
    jumped = to_vector and elr == interrupted.address
    if not (in_vectors(pc, vbar) or jumped) or elr not in (interrupted.address, None):
        return None, ""
    if elr is None or esr is None:
        lacking = " and ".join(name for name, value in ((facts.esr, esr), (facts.elr, elr)) if value is None)
        return (
            None,
            f"the CPU went to {pc:#x}, in its vectors; the target does not provide {lacking}, which would say why",
        )
    return ExceptionRecord(esr, state.get(facts.far), interrupted.address), ""
