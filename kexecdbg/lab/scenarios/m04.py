"""M04: SCTLR_ELx.WXN and a writable code page."""

from __future__ import annotations

from kexecdbg.arm64.descriptors import AP2_BIT
from kexecdbg.arm64.regimes import SCTLR_WXN
from kexecdbg.lab.enable import CODE, EnableSetup
from kexecdbg.lab.enable_scenarios import in_regimes


def _writable_with_wxn(setup: EnableSetup) -> None:
    setup.registers.sctlr |= 1 << SCTLR_WXN
    setup.change_leaf(CODE, clear_bits=1 << AP2_BIT)


SCENARIOS = in_regimes("M04", "WXN set, the code's page writable", _writable_with_wxn)
