"""Steps a CPU a few times and sees whether it gets anywhere. This changes the machine; it is done when asked for."""

from __future__ import annotations

from dataclasses import dataclass, replace

from kexecdbg.arm64.regimes import current_el, regime_of
from kexecdbg.arm64.vectors import is_vector
from kexecdbg.checks.stuck.diagnosis import Condition, Diagnosis
from kexecdbg.errors import UsageError
from kexecdbg.machine.debugger import Debugger
from kexecdbg.machine.state import CpuState

_COULD_BE_LOOP = frozenset({Condition.RUNS, Condition.HANDLER_LOOP, Condition.UNKNOWN})


@dataclass(frozen=True)
class Sample:
    """A CPU between two instructions: PC and the syndrome registers of its exception level."""

    pc: int
    esr: int | None
    far: int | None
    elr: int | None


@dataclass(frozen=True)
class Watch:
    """What some steps showed.

    Attributes:
        samples: before the first step, and after each.
        exceptions: the samples that an exception had just led to.
    """

    samples: tuple[Sample, ...]
    exceptions: tuple[Sample, ...]

    @property
    def steps(self) -> int:
        """How many instructions were stepped."""
        return len(self.samples) - 1

    @property
    def repeated_exception(self) -> Sample | None:
        """The last exception, if the same one was taken before: same syndrome, same place."""
        return self.exceptions[-1] if len(self.exceptions) > len(set(self.exceptions)) else None

    @property
    def period(self) -> int | None:
        """After how many steps the CPU was where it had been, with the same syndrome; ``None`` when it never was."""
        last = self.samples[-1]
        return next((n for n in range(1, len(self.samples)) if self.samples[-1 - n] == last), None)


def watch(debugger: Debugger, diagnosis: Diagnosis, steps: int) -> tuple[Diagnosis, Watch]:
    """Step ``steps`` instructions of the CPU that ``diagnosis`` is about; the diagnosis with what that tells.

    Raises:
        UsageError: the next step would overwrite the only syndrome of the first exception.
        TargetError: the CPU cannot be stepped.
    """
    if diagnosis.keeps_first_syndrome:
        raise UsageError("the syndrome of the first exception is still there, and one step would overwrite it")
    samples = [_sample(debugger.state())]
    exceptions = []
    for _ in range(steps):
        debugger.step()
        state = debugger.state()
        samples.append(_sample(state))
        if _took_exception(state, samples[-2]):
            exceptions.append(samples[-1])
    watched = Watch(tuple(samples), tuple(exceptions))
    if diagnosis.condition in _COULD_BE_LOOP and watched.repeated_exception is not None:
        diagnosis = replace(diagnosis, condition=Condition.FAULT_LOOP)
    return diagnosis, watched


def _sample(state: CpuState) -> Sample:
    facts = regime_of(current_el(state), state).facts
    pc = state.require("PC", "where the CPU is")
    return Sample(pc, state.get(facts.esr), state.get(facts.far), state.get(facts.elr))


def _took_exception(state: CpuState, before: Sample) -> bool:
    facts = regime_of(current_el(state), state).facts
    pc, vbar = state.get("PC"), state.get(facts.vbar)
    return pc is not None and is_vector(pc, vbar) and state.get(facts.elr) == before.pc
