"""M12: the granule in TCR_ELx is not the one of the tables."""

from __future__ import annotations

from collections.abc import Callable

from kexecdbg.arm64.bits import field_mask
from kexecdbg.arm64.geometry import GRANULE_64K
from kexecdbg.arm64.regimes import Regime
from kexecdbg.lab.enable import EnableCase, EnableSetup
from kexecdbg.lab.enable_scenarios import in_regimes

_4K, _64K = 0, 1
_ANY_GRANULE = (
    "a reserved or unimplemented TG0 means any granule the CPU has (Arm ARM, TCR_ELx.TG0); QEMU takes 4K "
    "(target/arm/helper.c, sanitize_gran_size())"
)


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
    *in_regimes(
        "M12",
        "TG0 = 3, reserved",
        _tg0(3),
        [Regime.EL2, Regime.EL1_0],
        variant="reserved",
        qemu_lets_it_pass=_ANY_GRANULE,
    ),
    *in_regimes(
        "M12",
        "TG0 = 16K on a CPU without it",
        _tg0(2),
        [Regime.EL2, Regime.EL3],
        variant="16K",
        qemu_lets_it_pass=_ANY_GRANULE,
    ),
)
