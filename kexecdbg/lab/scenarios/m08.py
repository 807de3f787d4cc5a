"""M08: the output size is smaller than an address on the path."""

from __future__ import annotations

from kexecdbg.arm64.bits import field_mask
from kexecdbg.arm64.geometry import GRANULE_64K
from kexecdbg.arm64.regimes import Regime
from kexecdbg.lab.enable import EnableCase, EnableSetup
from kexecdbg.lab.enable_scenarios import in_regimes


def _32_bits(setup: EnableSetup) -> None:
    setup.registers.tcr &= ~field_mask(*setup.case.regime.facts.tcr_layout.ps)


SCENARIOS = (
    *in_regimes("M08", "an output size of 32 bits, the tables above 4 GiB", _32_bits),
    *in_regimes(
        "M08",
        "an output size of 32 bits, the tables (64K) above 4 GiB",
        _32_bits,
        [Regime.EL2],
        variant="64K",
        case=EnableCase(granule=GRANULE_64K, input_bits=42),
    ),
)
