"""M15: the Access flag is clear."""

from __future__ import annotations

from kexecdbg.arm64.descriptors import AF_BIT
from kexecdbg.arm64.regimes import Regime
from kexecdbg.lab.enable import CODE, EnableCase, EnableSetup
from kexecdbg.lab.enable_scenarios import ALL_REGIMES, SHORT_NAMES, in_regimes
from kexecdbg.lab.scenario import SOUND, Scenario


def _access_flag_clear(setup: EnableSetup) -> None:
    setup.change_leaf(CODE, clear_bits=1 << AF_BIT)


def _set_by_hardware(setup: EnableSetup) -> None:
    _access_flag_clear(setup)
    setup.registers.tcr |= 1 << setup.case.regime.facts.tcr_layout.ha


SCENARIOS = (
    *in_regimes("M15", "AF of the code's page clear", _access_flag_clear),
    *in_regimes(
        "M15",
        "AF of the code's 2 MiB block clear",
        _access_flag_clear,
        [Regime.EL2],
        variant="block",
        case=EnableCase(leaf_level=2),
    ),
    *(
        Scenario(
            f"{SOUND}-HA-{SHORT_NAMES[regime]}",
            SOUND,
            f"{regime.value}: AF of the code's page clear, the hardware sets it (TCR.HA)",
            EnableCase(regime, "max", defect=_set_by_hardware),
        )
        for regime in ALL_REGIMES
    ),
)
