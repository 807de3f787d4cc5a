"""M20: a barrier is missing."""

from __future__ import annotations

from kexecdbg.arm64.regimes import Regime
from kexecdbg.lab.enable import EnableCase, EnableSetup
from kexecdbg.lab.enable_scenarios import ALL_REGIMES, SHORT_NAMES
from kexecdbg.lab.enable_values import textbook_sequence
from kexecdbg.lab.scenario import Scenario

_PASSES = "system register writes and TLBI take effect at once (docs/devel/tcg.rst)"


def _without_isb_before(regime: Regime) -> tuple[str, ...]:
    """The order of the 2019 series: TCR and MAIR right before SCTLR."""
    facts = regime.facts
    moved = (f"msr {facts.mair}, x1", f"msr {facts.tcr}, x2")
    head = [line for line in textbook_sequence(regime) if line not in moved]
    switch = head.index(f"msr {facts.sctlr}, x5")
    return (*head[:switch], *reversed(moved), *head[switch:])


def _without_isb_after(regime: Regime) -> tuple[str, ...]:
    return textbook_sequence(regime)[:-1]


def _without_dsb(regime: Regime) -> tuple[str, ...]:
    return tuple(line for line in textbook_sequence(regime) if line != "dsb nsh")


def _dsb_for_stores_only(regime: Regime) -> tuple[str, ...]:
    return tuple("dsb ishst" if line == "dsb nsh" else line for line in textbook_sequence(regime))


def _leaf_address_in_x4(setup: EnableSetup) -> None:
    setup.registers.ttbr1 = setup.tables.descriptor_address(setup.argument, setup.leaf_level)


def _late_store(regime: Regime) -> tuple[str, ...]:
    """A descriptor is written as it is, its cache line having been invalidated, and no DSB follows."""
    sequence = textbook_sequence(regime)
    switch = sequence.index(f"msr {regime.facts.sctlr}, x5")
    store = ("ldr x11, [x4]", "dc ivac, x4", "str x11, [x4]", "isb")
    return (*sequence[:switch], *store, *sequence[switch:])


def _scenario(name: str, regime: Regime, summary: str, case: EnableCase) -> Scenario:
    return Scenario(name, "M20", f"{regime.value}: {summary}", case, frozenset({"M20"}), _PASSES)


SCENARIOS = (
    *(
        _scenario(
            "M20" if regime is Regime.EL2 else f"M20-{SHORT_NAMES[regime]}",
            regime,
            "no ISB between TCR and MAIR, and SCTLR",
            EnableCase(regime, sequence=_without_isb_before(regime)),
        )
        for regime in ALL_REGIMES
    ),
    *(
        _scenario(
            f"M20-after-{SHORT_NAMES[regime]}",
            regime,
            "no ISB after the switch, and the stack is used",
            EnableCase(regime, sequence=_without_isb_after(regime)),
        )
        for regime in ALL_REGIMES
    ),
    _scenario("M20-dsb", Regime.EL2, "no DSB after TLBI", EnableCase(sequence=_without_dsb(Regime.EL2))),
    _scenario(
        "M20-dsb-st",
        Regime.EL2,
        "the DSB after TLBI is for stores",
        EnableCase(sequence=_dsb_for_stores_only(Regime.EL2)),
    ),
    _scenario(
        "M20-table-store",
        Regime.EL2,
        "no DSB after a store to the tables",
        EnableCase(sequence=_late_store(Regime.EL2), defect=_leaf_address_in_x4),
    ),
)
