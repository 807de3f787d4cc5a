"""M19: no TLB invalidation that concerns the regime."""

from __future__ import annotations

from kexecdbg.arm64.regimes import Regime, RegimeFacts
from kexecdbg.lab.enable import EnableCase
from kexecdbg.lab.enable_scenarios import ALL_REGIMES, SHORT_NAMES
from kexecdbg.lab.enable_values import REGIME_VALUES
from kexecdbg.lab.scenario import Scenario

_PASSES = "its TLB is empty at reset and is flushed when TTBR or TCR change (target/arm/helper.c)"
_OTHER_REGIMES = {
    Regime.EL2: "vmalls12e1",
    Regime.EL2_0: "alle1",
    Regime.EL3: "alle2",
}
"""For each regime a TLBI of another one that its level may execute; there is none at EL1."""


def _set_up(facts: RegimeFacts) -> tuple[str, ...]:
    return (f"msr {facts.mair}, x1", f"msr {facts.tcr}, x2", f"msr {facts.ttbr0}, x3", "isb")


def _on(facts: RegimeFacts) -> tuple[str, ...]:
    return (f"msr {facts.sctlr}, x5", "isb")


def _off(facts: RegimeFacts) -> tuple[str, ...]:
    return (f"mrs x9, {facts.sctlr}", "bic x9, x9, #1", f"msr {facts.sctlr}, x9", "isb")


def _wrong(regime: Regime) -> tuple[str, ...]:
    return (*_set_up(regime.facts), f"tlbi {_OTHER_REGIMES[regime]}", "dsb nsh", "isb", *_on(regime.facts))


def _none(regime: Regime) -> tuple[str, ...]:
    return (*_off(regime.facts), *_set_up(regime.facts), *_on(regime.facts))


def _too_early(regime: Regime) -> tuple[str, ...]:
    """Before the MMU is off: walks go on and fill the TLB again."""
    tlbi = (f"tlbi {REGIME_VALUES[regime].tlbi}", "dsb nsh", "isb")
    return (*tlbi, *_off(regime.facts), *_set_up(regime.facts), *_on(regime.facts))


def _scenario(name: str, regime: Regime, summary: str, sequence: tuple[str, ...]) -> Scenario:
    case = EnableCase(regime, sequence=sequence)
    return Scenario(name, "M19", f"{regime.value}: {summary}", case, frozenset({"M19"}), _PASSES)


SCENARIOS = (
    *(
        _scenario(
            "M19" if regime is Regime.EL2 else f"M19-{SHORT_NAMES[regime]}",
            regime,
            f"tlbi {_OTHER_REGIMES[regime]} invalidates another regime",
            _wrong(regime),
        )
        for regime in ALL_REGIMES
        if regime is not Regime.EL1_0
    ),
    *(
        _scenario(f"M19-none-{SHORT_NAMES[regime]}", regime, "off, other tables, on, no TLBI", _none(regime))
        for regime in ALL_REGIMES
    ),
    _scenario("M19-early", Regime.EL2, "the TLBI comes before the MMU is switched off", _too_early(Regime.EL2)),
)
