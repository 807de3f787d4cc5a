"""M04: SCTLR_ELx.WXN and a writable code page."""

from __future__ import annotations

from kexecdbg.arm64.descriptors import AP2_BIT, AP_TABLE1_BIT
from kexecdbg.arm64.regimes import SCTLR_WXN
from kexecdbg.lab.enable import CODE, EnableCase, EnableSetup
from kexecdbg.lab.enable_scenarios import ALL_REGIMES, SHORT_NAMES, in_regimes
from kexecdbg.lab.scenario import SOUND, Scenario


def _writable_with_wxn(setup: EnableSetup) -> None:
    setup.registers.sctlr |= 1 << SCTLR_WXN
    setup.change_leaf(CODE, clear_bits=1 << AP2_BIT)


def _read_only_with_wxn(setup: EnableSetup) -> None:
    setup.registers.sctlr |= 1 << SCTLR_WXN


def _read_only_through_the_table(setup: EnableSetup) -> None:
    """The leaf says writable, the level 2 descriptor takes it back: for the vectors too, which share it."""
    _writable_with_wxn(setup)
    setup.tables.change_descriptor(CODE, 2, set_bits=1 << AP_TABLE1_BIT)


SCENARIOS = (
    *in_regimes("M04", "WXN set, the code's page writable", _writable_with_wxn),
    *(
        Scenario(
            f"{SOUND}-WXN-{name}-{SHORT_NAMES[regime]}",
            SOUND,
            f"{regime.value}: WXN set, the code's page read-only {how}",
            EnableCase(regime, defect=change),
        )
        for name, how, change in (
            ("page", "by its leaf", _read_only_with_wxn),
            ("table", "by the level 2 table descriptor (APTable)", _read_only_through_the_table),
        )
        for regime in ALL_REGIMES
    ),
)
