"""M02: a table descriptor above the code's page makes it execute-never."""

from __future__ import annotations

from kexecdbg.arm64.descriptors import PXN_TABLE_BIT, UXN_TABLE_BIT
from kexecdbg.arm64.regimes import Regime
from kexecdbg.lab.enable import CODE, EnableCase, EnableSetup
from kexecdbg.lab.enable_scenarios import ONE_RANGE, TWO_RANGES, in_regimes
from kexecdbg.lab.scenario import SOUND, Scenario


def _xn_table(setup: EnableSetup) -> None:
    setup.tables.change_descriptor(CODE, 2, set_bits=1 << UXN_TABLE_BIT)


def _pxn_table(setup: EnableSetup) -> None:
    setup.tables.change_descriptor(CODE, 0, set_bits=1 << PXN_TABLE_BIT)


def _disabled_by_hpd(setup: EnableSetup) -> None:
    _xn_table(setup)
    setup.registers.tcr |= 1 << setup.case.regime.facts.tcr_layout.ranges[0].hpd


SCENARIOS = (
    *in_regimes("M02", "XNTable in the level 2 descriptor", _xn_table, ONE_RANGE),
    *in_regimes("M02", "PXNTable in the level 0 descriptor", _pxn_table, TWO_RANGES, variant="PXNTable"),
    Scenario(
        f"{SOUND}-HPD",
        SOUND,
        "EL2: XNTable in the level 2 descriptor, switched off by TCR_EL2.HPD",
        EnableCase(Regime.EL2, "max", defect=_disabled_by_hpd),
    ),
)
