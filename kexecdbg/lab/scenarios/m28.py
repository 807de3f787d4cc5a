"""M28: a register is used that the set-up does not write."""

from __future__ import annotations

from kexecdbg.lab.enable import EnableCase, EnableSetup
from kexecdbg.lab.enable_scenarios import SHORT_NAMES, TWO_RANGES, in_regimes
from kexecdbg.lab.enable_values import textbook_sequence
from kexecdbg.lab.scenario import Scenario

_PASSES = "resets TTBR1 and MAIR to zero (target/arm/helper.c)"


def _upper_range_on(setup: EnableSetup) -> None:
    upper = setup.case.regime.facts.tcr_layout.ranges[1]
    assert upper.epd is not None
    setup.registers.tcr &= ~(1 << upper.epd)


SCENARIOS = (
    *in_regimes("M28", "EPD1 is 0 and TTBR1 is never written", _upper_range_on, TWO_RANGES, qemu_lets_it_pass=_PASSES),
    *(
        Scenario(
            f"M28-MAIR-{SHORT_NAMES[regime]}",
            "M28",
            f"{regime.value}: MAIR is never written",
            EnableCase(regime, sequence=textbook_sequence(regime)[1:]),
            frozenset({"M28", "M32"}),
            _PASSES,
        )
        for regime in TWO_RANGES
    ),
)
