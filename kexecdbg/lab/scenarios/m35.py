"""M35: walks are disabled for the half that the code is in."""

from __future__ import annotations

from kexecdbg.lab.enable import EnableSetup
from kexecdbg.lab.enable_scenarios import TWO_RANGES, in_regimes


def _epd0(setup: EnableSetup) -> None:
    epd = setup.case.regime.facts.tcr_layout.ranges[0].epd
    assert epd is not None
    setup.registers.tcr |= 1 << epd


SCENARIOS = in_regimes("M35", "EPD0 set, the code in the lower half", _epd0, TWO_RANGES)
