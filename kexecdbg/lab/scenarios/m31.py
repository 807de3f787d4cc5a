"""M31: TCR_ELx.DS does not fit the tables or the CPU."""

from __future__ import annotations

from kexecdbg.arm64.bits import field_mask
from kexecdbg.arm64.regimes import Regime
from kexecdbg.checks.qemu_laxity import LAXITY
from kexecdbg.lab.enable import EnableCase, EnableSetup
from kexecdbg.lab.enable_scenarios import in_regimes


def _set_ds(setup: EnableSetup) -> None:
    setup.registers.tcr |= 1 << setup.case.regime.facts.tcr_layout.ds


def _set_ds_and_52_bits(setup: EnableSetup) -> None:
    _set_ds(setup)
    msb, lsb = setup.case.regime.facts.tcr_layout.ps
    setup.registers.tcr = setup.registers.tcr & ~field_mask(msb, lsb) | 6 << lsb


def _clear_ds(setup: EnableSetup) -> None:
    setup.registers.tcr &= ~(1 << setup.case.regime.facts.tcr_layout.ds)


SCENARIOS = (
    *in_regimes(
        "M31",
        "DS set, tables with a shareability where the address continues, 48-bit output",
        _set_ds,
        case=EnableCase(model="max"),
        qemu_lets_it_pass=LAXITY["M31"].text,
    ),
    *in_regimes(
        "M31",
        "DS set, tables with a shareability where the address continues, 52-bit output",
        _set_ds_and_52_bits,
        variant="52",
        case=EnableCase(model="max"),
    ),
    *in_regimes(
        "M31",
        "DS clear, tables for 52-bit addresses from level -1",
        _clear_ds,
        variant="level-1",
        case=EnableCase(input_bits=52, wide=True),
    ),
    *in_regimes(
        "M31",
        "DS set on a CPU without FEAT_LPA2",
        _set_ds,
        [Regime.EL2, Regime.EL1_0],
        variant="ignored",
        qemu_lets_it_pass="The bit is RES0 on this CPU: it has no effect, in QEMU as on hardware of today.",
    ),
)
