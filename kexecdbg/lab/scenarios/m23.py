"""M23: Device memory that can be executed."""

from __future__ import annotations

from kexecdbg.arm64.descriptors import PXN_BIT, UXN_BIT
from kexecdbg.checks.qemu_laxity import LAXITY
from kexecdbg.lab.enable import UART, EnableSetup
from kexecdbg.lab.enable_scenarios import in_regimes


def _executable(setup: EnableSetup) -> None:
    setup.change_leaf(UART, clear_bits=1 << UXN_BIT | 1 << PXN_BIT)


SCENARIOS = in_regimes("M23", "the UART's page is executable", _executable, qemu_lets_it_pass=LAXITY["M23"].text)
