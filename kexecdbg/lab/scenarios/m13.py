"""M13: a block at a level where the granule allows none."""

from __future__ import annotations

from collections.abc import Callable

from kexecdbg.arm64.descriptors import AP2_BIT
from kexecdbg.arm64.geometry import GRANULE_16K, GRANULE_64K
from kexecdbg.arm64.regimes import Regime
from kexecdbg.checks.qemu_laxity import LAXITY
from kexecdbg.lab.enable import CODE, EnableCase, EnableSetup
from kexecdbg.lab.enable_scenarios import in_regimes
from kexecdbg.lab.enable_values import Use, leaf_attributes

_UNUSED = 0x0200_0000_0000
"""An address that the program does not use, under a level 0 descriptor of its own."""


def _everything_by_one_block(level: int) -> Callable[[EnableSetup], None]:
    def defect(setup: EnableSetup) -> None:
        attributes = leaf_attributes(setup.case.regime, setup.tables.table, Use.CODE) & ~(1 << AP2_BIT)
        setup.tables.map_leaf(CODE, CODE, attributes, level)

    return defect


def _block_nobody_uses(setup: EnableSetup) -> None:
    setup.tables.map_leaf(_UNUSED, 0, leaf_attributes(setup.case.regime, setup.tables.table, Use.DATA), 0)


SCENARIOS = (
    *in_regimes(
        "M13",
        "everything mapped by a 512 GiB block at level 0, 4K pages",
        _everything_by_one_block(0),
        qemu_lets_it_pass=LAXITY["M13"].text,
    ),
    *in_regimes(
        "M13",
        "everything mapped by a 64 GiB block at level 1, 16K pages",
        _everything_by_one_block(1),
        [Regime.EL2],
        variant="16K",
        case=EnableCase(granule=GRANULE_16K, input_bits=47),
        qemu_lets_it_pass=LAXITY["M13"].text,
    ),
    *in_regimes(
        "M13",
        "everything mapped by a 4 TiB block at level 1, 64K pages",
        _everything_by_one_block(1),
        [Regime.EL2],
        variant="64K",
        case=EnableCase(granule=GRANULE_64K, input_bits=48),
        qemu_lets_it_pass=LAXITY["M13"].text,
    ),
    *in_regimes(
        "M13",
        "a block at level 0 for an address that nothing uses",
        _block_nobody_uses,
        [Regime.EL2, Regime.EL1_0],
        variant="unused",
        qemu_lets_it_pass="The program never uses the block.",
    ),
)
