"""Makes one scenario for each of several regimes out of one defect."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from kexecdbg.arm64.regimes import Regime
from kexecdbg.lab.enable import EnableCase, EnableSetup
from kexecdbg.lab.scenario import Scenario

SHORT_NAMES = {Regime.EL2: "EL2", Regime.EL1_0: "EL1", Regime.EL2_0: "VHE", Regime.EL3: "EL3"}
"""The regimes in ids of scenarios."""
ALL_REGIMES = tuple(SHORT_NAMES)
ONE_RANGE = (Regime.EL2, Regime.EL3)
TWO_RANGES = (Regime.EL1_0, Regime.EL2_0)


def in_regimes(
    entry: str,
    summary: str,
    defect: Callable[[EnableSetup], None],
    regimes: Iterable[Regime] = ALL_REGIMES,
    *,
    variant: str = "",
    case: EnableCase | None = None,
    also: Iterable[str] = (),
    qemu_lets_it_pass: str = "",
) -> tuple[Scenario, ...]:
    """The scenarios of ``defect`` in ``case`` (default: the sound guest) for each of ``regimes``.

    Without a ``variant`` the first of them has the entry's id; else the ids are ``M01-VARIANT``, ``M01-VARIANT-EL1``.
    ``also`` names findings that come with the entry's own.
    """
    base = f"{entry}-{variant}" if variant else entry
    expected = frozenset({entry, *also})
    return tuple(
        Scenario(
            id=f"{base}-{SHORT_NAMES[regime]}" if number else base,
            entry=entry,
            summary=f"{regime.value}: {summary}",
            guest=replace(case or EnableCase(), regime=regime, defect=defect),
            expected=expected,
            qemu_lets_it_pass=qemu_lets_it_pass,
        )
        for number, regime in enumerate(regimes)
    )
