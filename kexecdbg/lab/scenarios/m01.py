"""M01: the code's page or block is execute-never in the regime."""

from __future__ import annotations

from kexecdbg.arm64.descriptors import PXN_BIT, UXN_BIT
from kexecdbg.arm64.geometry import GRANULE_16K, GRANULE_64K
from kexecdbg.arm64.regimes import Regime
from kexecdbg.lab.enable import CODE, EnableCase, EnableSetup
from kexecdbg.lab.enable_scenarios import ONE_RANGE, TWO_RANGES, in_regimes


def _kernel_attributes(setup: EnableSetup) -> None:
    setup.change_leaf(CODE, set_bits=1 << UXN_BIT)


def _privileged_execute_never(setup: EnableSetup) -> None:
    setup.change_leaf(CODE, set_bits=1 << PXN_BIT, clear_bits=1 << UXN_BIT)


SCENARIOS = (
    *in_regimes(
        "M01", "bit 54 of the code's page set, as EL1's kernel attributes have it", _kernel_attributes, ONE_RANGE
    ),
    *in_regimes("M01", "PXN of the code's page set", _privileged_execute_never, TWO_RANGES, variant="PXN"),
    *in_regimes(
        "M01",
        "bit 54 of the code's 2 MiB block set",
        _kernel_attributes,
        [Regime.EL2],
        variant="block",
        case=EnableCase(leaf_level=2),
    ),
    *in_regimes(
        "M01",
        "bit 54 of the code's 16K page set",
        _kernel_attributes,
        [Regime.EL2],
        variant="16K",
        case=EnableCase(granule=GRANULE_16K),
    ),
    *in_regimes(
        "M01",
        "PXN of the code's 64K page set",
        _privileged_execute_never,
        [Regime.EL1_0],
        variant="64K",
        case=EnableCase(granule=GRANULE_64K, input_bits=42),
    ),
    *in_regimes(
        "M01",
        "bit 54 of the code's page set, 52-bit addresses",
        _kernel_attributes,
        [Regime.EL2],
        variant="LPA2",
        case=EnableCase(input_bits=52, wide=True),
    ),
)
