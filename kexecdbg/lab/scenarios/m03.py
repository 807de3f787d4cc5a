"""M03: the code's page is writable from EL0."""

from __future__ import annotations

from kexecdbg.arm64.descriptors import AP1_BIT, AP2_BIT
from kexecdbg.lab.enable import CODE, EnableSetup
from kexecdbg.lab.enable_scenarios import TWO_RANGES, in_regimes


def _writable_from_el0(setup: EnableSetup) -> None:
    setup.change_leaf(CODE, set_bits=1 << AP1_BIT, clear_bits=1 << AP2_BIT)


SCENARIOS = in_regimes("M03", "AP[2:1] of the code's page is 0b01", _writable_from_el0, TWO_RANGES)
