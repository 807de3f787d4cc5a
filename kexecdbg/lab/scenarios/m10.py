"""M10: TxSZ does not fit the tables."""

from __future__ import annotations

from collections.abc import Callable

from kexecdbg.arm64.bits import field_mask
from kexecdbg.arm64.geometry import GRANULE_16K, GRANULE_64K
from kexecdbg.arm64.regimes import Regime
from kexecdbg.lab.enable import EnableCase, EnableSetup
from kexecdbg.lab.enable_scenarios import in_regimes


def _t0sz(value: int) -> Callable[[EnableSetup], None]:
    def change(setup: EnableSetup) -> None:
        setup.registers.tcr = setup.registers.tcr & ~field_mask(5, 0) | value

    return change


SCENARIOS = (
    *in_regimes("M10", "T0SZ = 25 with tables of 4 levels", _t0sz(25)),
    *in_regimes("M10", "T0SZ = 0", _t0sz(0), variant="zero"),
    *in_regimes(
        "M10",
        "T0SZ = 16 with tables of 3 levels",
        _t0sz(16),
        [Regime.EL2, Regime.EL1_0],
        variant="too-small",
        case=EnableCase(input_bits=39),
    ),
    *in_regimes(
        "M10",
        "T0SZ = 28 with 16K tables for 47 bits",
        _t0sz(28),
        [Regime.EL1_0],
        variant="16K",
        case=EnableCase(granule=GRANULE_16K, input_bits=47),
    ),
    *in_regimes(
        "M10",
        "T0SZ = 16 with 64K tables for 42 bits",
        _t0sz(16),
        [Regime.EL3],
        variant="64K",
        case=EnableCase(granule=GRANULE_64K, input_bits=42),
    ),
)
