"""Nothing wrong: every regime with every granule, pages and blocks, one and two TTBRs' worth of settings."""

from __future__ import annotations

from kexecdbg.arm64.geometry import GRANULE_4K, GRANULE_16K, GRANULE_64K
from kexecdbg.arm64.regimes import Regime
from kexecdbg.lab.enable import EnableCase
from kexecdbg.lab.scenario import SOUND, Scenario

SHORT_NAMES = {Regime.EL1_0: "EL1", Regime.EL2: "EL2", Regime.EL2_0: "VHE", Regime.EL3: "EL3"}
"""The regimes in ids of scenarios."""


def _sound(name: str, summary: str, case: EnableCase) -> Scenario:
    return Scenario(f"{SOUND}-{name}", SOUND, summary, case)


SCENARIOS = tuple(
    _sound(
        f"{short}-{granule.name}",
        f"{regime.value}, {granule.name} pages, {input_bits}-bit addresses",
        EnableCase(regime, granule=granule, input_bits=input_bits),
    )
    for regime, short in SHORT_NAMES.items()
    for granule, input_bits in ((GRANULE_4K, 48), (GRANULE_16K, 47), (GRANULE_64K, 42))
)
