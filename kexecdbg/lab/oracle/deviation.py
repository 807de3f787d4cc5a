"""What a deviation of QEMU is, and the helpers that those who describe one share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from kexecdbg.arm64.regimes import Regime
from kexecdbg.arm64.stage2 import stage2_enabled
from kexecdbg.lab.oracle.cases import Case
from kexecdbg.lab.oracle.predict import Observation, Prediction, machine_registers

Identity = Mapping[str, int]
Rewrite = Callable[[Case, Identity, Prediction], Case]
Adjust = Callable[[Case, Identity, Prediction], Observation]
Kills = Callable[[Case, Identity, Prediction], bool]


def _same_case(case: Case, identity: Identity, prediction: Prediction) -> Case:
    return case


def _same_facts(case: Case, identity: Identity, prediction: Prediction) -> Observation:
    return prediction.observation


def _survives(case: Case, identity: Identity, prediction: Prediction) -> bool:
    return False


@dataclass(frozen=True)
class Deviation:
    """One difference.

    Attributes:
        id: stable; D1 to D11 are those of the research report, the rest was found by the oracle.
        text: what QEMU does and what the architecture says.
        source: where that is known from.
        probe: a case that shows it, or ``None`` on a CPU that cannot have it.
        rewrite: the case as QEMU understands it.
        adjust: the facts as QEMU gives them.
        kills: QEMU dies of such a case, or runs what nobody can foresee: it is not asked.
        choice: the architecture leaves it open.
        unpredictable: the architecture leaves everything open: never asked, nothing to probe.
        probe_is_fatal: a QEMU that has it ends when it is asked the probe.
    """

    id: str
    text: str
    source: str
    probe: Callable[[str, Identity], Case | None]
    rewrite: Rewrite = _same_case
    adjust: Adjust = _same_facts
    kills: Kills = _survives
    choice: bool = False
    unpredictable: bool = False
    probe_is_fatal: bool = False


def stage2_is_on(case: Case, identity: Identity) -> bool:
    """Whether the case is translated by stage 2 as well."""
    return case.regime is Regime.EL1_0 and stage2_enabled(machine_registers(case, identity))


def with_register(case: Case, name: str, value: int) -> Case:
    """The case with another register value; the same object when it is no other."""
    if case.registers.get(name, 0) == value:
        return case
    return replace(case, registers={**case.registers, name: value})


def in_upper_range(case: Case) -> bool:
    """Whether the tested address lies in the upper VA range."""
    return case.regime.facts.is_upper(case.va)
