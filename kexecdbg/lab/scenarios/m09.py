"""M09: the output size is larger than the CPU has, or reserved."""

from __future__ import annotations

from collections.abc import Callable

from kexecdbg.arm64.bits import field_mask
from kexecdbg.arm64.regimes import Regime
from kexecdbg.checks.qemu_laxity import LAXITY
from kexecdbg.lab.enable import EnableCase, EnableSetup
from kexecdbg.lab.enable_scenarios import in_regimes


def _output_size(value: int) -> Callable[[EnableSetup], None]:
    def defect(setup: EnableSetup) -> None:
        msb, lsb = setup.case.regime.facts.tcr_layout.ps
        setup.registers.tcr = setup.registers.tcr & ~field_mask(msb, lsb) | value << lsb

    return defect


SCENARIOS = (
    *in_regimes(
        "M09",
        "an output size of 52 bits on a CPU with fewer",
        _output_size(6),
        qemu_lets_it_pass=LAXITY["M09"].text,
    ),
    *in_regimes(
        "M09",
        "PARange copied into the output size on a CPU with 52 bits, 4K pages without DS",
        _output_size(6),
        [Regime.EL2, Regime.EL1_0],
        variant="copied",
        case=EnableCase(model="max"),
        qemu_lets_it_pass=LAXITY["M09"].text,
    ),
    *in_regimes(
        "M09",
        "the reserved output size 7",
        _output_size(7),
        [Regime.EL2],
        variant="reserved",
        qemu_lets_it_pass=LAXITY["M09"].text,
    ),
)
