"""M22: table walks use other memory attributes than the tables' mapping."""

from __future__ import annotations

from kexecdbg.arm64.bits import field_mask
from kexecdbg.arm64.regimes import Regime
from kexecdbg.checks.qemu_laxity import LAXITY
from kexecdbg.lab.enable import EnableSetup
from kexecdbg.lab.enable_scenarios import in_regimes
from kexecdbg.lab.enable_values import NON_CACHEABLE, NORMAL

_ATTR_INDX = 2
_ROOM_FOR_TABLES = 0x1_0000


def _walks_not_cacheable(setup: EnableSetup) -> None:
    fields = setup.case.regime.facts.tcr_layout.ranges[0]
    setup.registers.tcr &= ~(field_mask(*fields.irgn) | field_mask(*fields.orgn))


def _walks_not_shareable(setup: EnableSetup) -> None:
    setup.registers.tcr &= ~field_mask(*setup.case.regime.facts.tcr_layout.ranges[0].sh)


def _tables_mapped_not_cacheable(setup: EnableSetup) -> None:
    for page in range(setup.table_area, setup.table_area + _ROOM_FOR_TABLES, 0x1000):
        setup.change_leaf(page, clear_bits=NORMAL << _ATTR_INDX, set_bits=NON_CACHEABLE << _ATTR_INDX)


SCENARIOS = (
    *in_regimes(
        "M22",
        "walks Non-cacheable, tables written through a cacheable mapping",
        _walks_not_cacheable,
        qemu_lets_it_pass=LAXITY["M22"].text,
    ),
    *in_regimes(
        "M22",
        "walks Non-shareable, tables mapped Inner Shareable",
        _walks_not_shareable,
        [Regime.EL2],
        variant="shareability",
        qemu_lets_it_pass=LAXITY["M22"].text,
    ),
    *in_regimes(
        "M22",
        "walks cacheable, tables written through a Non-cacheable mapping",
        _tables_mapped_not_cacheable,
        [Regime.EL2, Regime.EL1_0],
        variant="mapping",
        qemu_lets_it_pass=LAXITY["M22"].text,
    ),
)
