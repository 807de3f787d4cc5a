"""M21: cache maintenance is missing or of the wrong kind."""

from __future__ import annotations

from kexecdbg.arm64.regimes import Regime
from kexecdbg.lab.enable import EnableCase, EnableSetup
from kexecdbg.lab.enable_scenarios import ALL_REGIMES, SHORT_NAMES
from kexecdbg.lab.enable_values import textbook_sequence
from kexecdbg.lab.scenario import Scenario

_PASSES = "no caches are modelled (docs/devel/tcg.rst)"


def _leaf_address_in_x4(setup: EnableSetup) -> None:
    setup.registers.ttbr1 = setup.tables.descriptor_address(setup.argument, setup.leaf_level)


def _table_written(regime: Regime, *maintenance: str) -> tuple[str, ...]:
    """A descriptor is stored with the MMU off."""
    return ("ldr x11, [x4]", "str x11, [x4]", *maintenance, "dsb sy", *textbook_sequence(regime))


def _set_and_way(regime: Regime) -> tuple[str, ...]:
    sctlr = regime.facts.sctlr
    off = (f"mrs x9, {sctlr}", "bic x9, x9, #1", f"msr {sctlr}, x9", "isb")
    return (*off, "mov x9, xzr", "dc cisw, x9", "dsb sy", *textbook_sequence(regime))


def _pushed(regime: Regime) -> tuple[str, ...]:
    """Something is put on the stack before the switch and taken back after it."""
    return ("str x0, [sp, #-16]!", *textbook_sequence(regime), "ldr x0, [sp], #16")


def _walks_past_the_caches(setup: EnableSetup) -> None:
    _leaf_address_in_x4(setup)
    lower = setup.case.regime.facts.tcr_layout.ranges[0]
    setup.registers.tcr &= ~(3 << lower.irgn[1] | 3 << lower.orgn[1])


def _scenario(name: str, regime: Regime, summary: str, case: EnableCase, *also: str) -> Scenario:
    return Scenario(name, "M21", f"{regime.value}: {summary}", case, frozenset({"M21", *also}), _PASSES)


SCENARIOS = (
    *(
        _scenario(
            "M21" if regime is Regime.EL2 else f"M21-{SHORT_NAMES[regime]}",
            regime,
            "a descriptor is written with the MMU off, and its line not invalidated",
            EnableCase(regime, sequence=_table_written(regime), defect=_leaf_address_in_x4),
        )
        for regime in ALL_REGIMES
    ),
    _scenario(
        "M21-clean",
        Regime.EL2,
        "as M21, the line is cleaned and not invalidated",
        EnableCase(sequence=_table_written(Regime.EL2, "dc cvac, x4"), defect=_leaf_address_in_x4),
    ),
    _scenario(
        "M21-pou",
        Regime.EL2,
        "walks are Non-cacheable and the table is cleaned to the point of unification only",
        EnableCase(sequence=("dc cvau, x4", "dsb sy", *textbook_sequence(Regime.EL2)), defect=_walks_past_the_caches),
        "M22",
    ),
    _scenario(
        "M21-set-way", Regime.EL2, "caches cleaned by set and way", EnableCase(sequence=_set_and_way(Regime.EL2))
    ),
    _scenario("M21-stack", Regime.EL2, "pushed before, popped after", EnableCase(sequence=_pushed(Regime.EL2))),
)
