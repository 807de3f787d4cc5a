"""M11: the code is not mapped where it runs."""

from __future__ import annotations

from kexecdbg.arm64.regimes import Regime
from kexecdbg.lab.enable import CODE, EnableCase, EnableSetup
from kexecdbg.lab.enable_scenarios import in_regimes


def _not_mapped(setup: EnableSetup) -> None:
    setup.tables.set_descriptor(CODE, 3, 0)


def _as_it_is(setup: EnableSetup) -> None:
    """The tables reach no further than 4 GiB; the code is above."""


SCENARIOS = (
    *in_regimes("M11", "the code's page not mapped", _not_mapped),
    *in_regimes(
        "M11",
        "an identity map for 32-bit addresses, the code above 4 GiB",
        _as_it_is,
        [Regime.EL2, Regime.EL1_0],
        variant="range",
        case=EnableCase(input_bits=32),
    ),
)
