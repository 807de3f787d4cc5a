"""M30: the MMU is on already."""

from __future__ import annotations

from dataclasses import replace

from kexecdbg.arm64.regimes import Regime
from kexecdbg.lab.enable import EnableCase, EnableSetup
from kexecdbg.lab.enable_scenarios import in_regimes
from kexecdbg.lab.enable_values import textbook_sequence
from kexecdbg.lab.scenario import Scenario

_FOUND_ON = "found_on"


def _twice(regime: Regime) -> EnableCase:
    """What ran before has switched the MMU on; the code sets everything up and switches it on again."""
    lines = textbook_sequence(regime)
    return EnableCase(regime, sequence=(*lines, f"{_FOUND_ON}:", *lines), judged_from=_FOUND_ON)


def _nothing_wrong(setup: EnableSetup) -> None:
    """The tables, too, are the same as before."""


SCENARIOS: tuple[Scenario, ...] = tuple(
    replace(scenario, guest=_twice(scenario.guest.regime))
    for scenario in in_regimes("M30", "the MMU is on already when the code sets it up", _nothing_wrong)
    if isinstance(scenario.guest, EnableCase)
)
