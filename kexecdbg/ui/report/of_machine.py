"""A stopped machine as the subject of a report: the switch ahead, or the one that it is stuck after."""

from __future__ import annotations

from kexecdbg.arm64.interfaces import PhysicalMemory
from kexecdbg.arm64.walk import walk
from kexecdbg.checks.judging import judge
from kexecdbg.checks.situation import situation_at
from kexecdbg.checks.stepping import Observation, Stepped
from kexecdbg.checks.stuck.diagnosis import Condition, Diagnosis, diagnose
from kexecdbg.checks.verdict import Judgement, Verdict
from kexecdbg.errors import MemoryUnreadableError, UsageError
from kexecdbg.machine.state import CpuState
from kexecdbg.ui.report.subject import Origin, Recorded, Subject, SymbolOf
from kexecdbg.ui.report.time_line import steps_of_stepping
from kexecdbg.ui.style import Style
from kexecdbg.ui.why_text import summary


def subject_of_machine(
    state: CpuState,
    memory: PhysicalMemory,
    origin: Origin,
    symbol_of: SymbolOf,
    halted: bool | None = None,
    stepped: Stepped | None = None,
    passed: Verdict | None = None,
) -> Subject:
    """What there is to report of a machine that is stopped in ``state``.

    Args:
        state, memory: the machine.
        origin: where the report comes from.
        symbol_of: names virtual addresses.
        halted: whether the CPU executes nothing; ``None`` when the machine does not say.
        stepped: what kexec-step executed last, if it did; it counts when it was around the same switch.
        passed: the verdict on the switch that the CPU has just been stepped over, if it was.

    Raises:
        RegisterUnknownError: PC, PSTATE, SCTLR_ELx or HCR_EL2 is unknown.
    """
    verdict, reason, judgement = _verdict(state, memory, halted, passed)
    if stepped is not None and (verdict is None or stepped.site != verdict.situation.site):
        stepped = None
    observed = None if stepped is None else stepped.observed
    return Subject(
        origin=origin,
        state=state,
        memory=memory,
        verdict=verdict,
        reason=reason,
        recorded=None if verdict is None or observed is None else _recorded(observed, verdict),
        steps=() if stepped is None else steps_of_stepping(stepped),
        symbol_of=symbol_of,
        without_verdict=judgement,
    )


def _verdict(
    state: CpuState, memory: PhysicalMemory, halted: bool | None, passed: Verdict | None
) -> tuple[Verdict | None, str, Judgement]:
    """The verdict with what led to it; without one, why there is none and what can be said all the same."""
    try:
        return judge(situation_at(state, memory)), "", Judgement.UNKNOWN
    except (MemoryUnreadableError, UsageError) as error:
        no_switch = f"There is no switch to judge: {error}."
    diagnosis = diagnose(state, memory, halted)
    now = f"{summary(diagnosis, Style())}."
    if diagnosis.origin is not None:
        of_origin = f"{now} This is the verdict on the switch that it comes from."
        return diagnosis.origin.verdict, of_origin, Judgement.UNKNOWN
    if diagnosis.stuck is not False:
        return None, now if diagnosis.stuck else no_switch, Judgement.UNKNOWN
    if passed is not None:
        return passed, f"{now} This is the verdict on the switch that it was stepped over.", Judgement.UNKNOWN
    if diagnosis.condition is Condition.RUNS and diagnosis.mmu_on:
        return None, _with_mmu_on(diagnosis, state, memory), Judgement.SOUND
    does_nothing = diagnosis.condition in (Condition.HALTED, Condition.WAITS)
    return None, f"There is no switch to judge. {now}" if does_nothing else no_switch, Judgement.UNKNOWN


def _with_mmu_on(diagnosis: Diagnosis, state: CpuState, memory: PhysicalMemory) -> str:
    """Why a CPU whose MMU is on can go on: what its next fetch translates to."""
    fetch = walk(state, memory, diagnosis.pc, regime=diagnosis.regime)
    source = "" if fetch.pa is None else f" and fetched from {fetch.pa:#x}"
    return (
        f"The {diagnosis.regime.value} MMU is on, and no switch of it is ahead. The instruction at the PC, "
        f"{diagnosis.pc:#x}, is executable{source}: the CPU is not stuck."
    )


def _recorded(observed: Observation, verdict: Verdict) -> Recorded:
    text = "Seen by kexec-step, one instruction at a time."
    return Recorded(observed.first, observed.agrees_with(verdict), text)
