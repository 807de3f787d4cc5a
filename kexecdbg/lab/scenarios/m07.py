"""M07: TCR_ELx sign-extended from bit 31."""

from __future__ import annotations

from kexecdbg.checks.qemu_laxity import LAXITY
from kexecdbg.lab.enable import EnableCase, EnableSetup
from kexecdbg.lab.enable_scenarios import ONE_RANGE, TWO_RANGES, in_regimes


def _sign_extended(setup: EnableSetup) -> None:
    setup.registers.tcr |= 0xFFFF_FFFF << 32


SCENARIOS = (
    *in_regimes(
        "M07",
        "bits 63:32 of TCR all set, on a CPU that has none of them",
        _sign_extended,
        ONE_RANGE,
        qemu_lets_it_pass=LAXITY["M07"].text,
    ),
    *in_regimes(
        "M07",
        "bits 63:32 of TCR all set, DS among them",
        _sign_extended,
        ONE_RANGE,
        variant="LPA2",
        case=EnableCase(model="max"),
        qemu_lets_it_pass=LAXITY["M07"].text,
    ),
    *in_regimes(
        "M07",
        "bits 63:32 of TCR all set, IPS = 7 and DS among them",
        _sign_extended,
        TWO_RANGES,
        variant="wide",
        case=EnableCase(model="max"),
    ),
)
