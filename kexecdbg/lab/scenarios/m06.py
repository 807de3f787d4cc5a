"""M06: TCR_EL2 in the layout of the other E2H."""

from __future__ import annotations

from kexecdbg.arm64.regimes import Regime
from kexecdbg.lab.enable import EnableCase, EnableSetup
from kexecdbg.lab.enable_scenarios import in_regimes
from kexecdbg.lab.enable_values import tcr_value


def _other_layout(setup: EnableSetup) -> None:
    other = Regime.EL2 if setup.case.regime is Regime.EL2_0 else Regime.EL2_0
    setup.registers.tcr = tcr_value(other, setup.tables.table, setup.case.cpu)


SCENARIOS = in_regimes(
    "M06",
    "TCR_EL2 written in the other layout",
    _other_layout,
    [Regime.EL2_0, Regime.EL2],
    case=EnableCase(model="max"),
    also=["M08"],
)
