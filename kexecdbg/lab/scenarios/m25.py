"""M25: one physical address mapped with two memory types."""

from __future__ import annotations

from collections.abc import Callable

from kexecdbg.arm64.descriptors import UXN_BIT
from kexecdbg.arm64.regimes import Regime
from kexecdbg.checks.qemu_laxity import LAXITY
from kexecdbg.lab.enable import EnableSetup
from kexecdbg.lab.enable_scenarios import in_regimes
from kexecdbg.lab.enable_values import DEVICE, NON_CACHEABLE, NORMAL, Use

_ALIAS = 0x20_0000_0000
"""A second virtual address of the stack's page."""
_ATTR_INDX = 2


def _second_mapping(index: int) -> Callable[[EnableSetup], None]:
    def defect(setup: EnableSetup) -> None:
        setup.map(_ALIAS, setup.stack, Use.DATA)
        setup.change_leaf(_ALIAS, clear_bits=NORMAL << _ATTR_INDX, set_bits=index << _ATTR_INDX | 1 << UXN_BIT)

    return defect


SCENARIOS = (
    *in_regimes(
        "M25",
        "the stack's page mapped a second time, Non-cacheable",
        _second_mapping(NON_CACHEABLE),
        qemu_lets_it_pass=LAXITY["M25"].text,
    ),
    *in_regimes(
        "M25",
        "the stack's page mapped a second time, as Device memory",
        _second_mapping(DEVICE),
        [Regime.EL2],
        variant="device",
        qemu_lets_it_pass=LAXITY["M25"].text,
    ),
)
