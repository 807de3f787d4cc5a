"""M12: the granule in TCR_ELx is not the one of the tables."""

from __future__ import annotations

from collections.abc import Callable

from kexecdbg.arm64.bits import field_mask
from kexecdbg.arm64.geometry import GRANULE_64K
from kexecdbg.arm64.regimes import Regime
from kexecdbg.lab.enable import EnableCase, EnableSetup
from kexecdbg.lab.enable_scenarios import in_regimes

_4K, _64K = 0, 1


def _tg0(value: int) -> Callable[[EnableSetup], None]:
    def change(setup: EnableSetup) -> None:
        msb, lsb = setup.case.regime.facts.tcr_layout.ranges[0].tg
        setup.registers.tcr = setup.registers.tcr & ~field_mask(msb, lsb) | value << lsb

    return change


SCENARIOS = (
    *in_regimes("M12", "TG0 = 64K with 4K tables", _tg0(_64K)),
    *in_regimes(
        "M12",
        "TG0 = 4K with 64K tables",
        _tg0(_4K),
        [Regime.EL2, Regime.EL1_0],
        variant="4K",
        case=EnableCase(granule=GRANULE_64K, input_bits=42),
    ),
)
