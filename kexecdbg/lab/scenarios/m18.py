"""M18: descriptors that cannot have been meant."""

from __future__ import annotations

from kexecdbg.arm64.regimes import Regime
from kexecdbg.checks.qemu_laxity import LAXITY
from kexecdbg.lab.enable import CODE, EnableSetup
from kexecdbg.lab.enable_scenarios import in_regimes
from kexecdbg.lab.enable_values import Use, leaf_attributes

_UNUSED = 0x20_0000_0000
"""A virtual address that the program does not use."""
_HOLE = 0x7_0000_0000
"""A physical address where there is no memory."""
_TEXT = b"printk: console [ttyAMA0] enabled" * 16
"""What was in the page before it became a table; every other byte of it is odd."""


def _table_in_hole(setup: EnableSetup) -> None:
    setup.tables.set_descriptor(_UNUSED, 1, _HOLE | 0b11)


def _code_table_in_hole(setup: EnableSetup) -> None:
    setup.tables.set_descriptor(CODE, 1, _HOLE | 0b11)


def _page_not_cleared(setup: EnableSetup) -> None:
    """The level 3 table of the unused address still holds text."""
    words = [int.from_bytes(_TEXT[offset : offset + 8], "little") for offset in range(0, len(_TEXT) - 7, 8)]
    for number, word in enumerate(words):
        setup.tables.set_descriptor(_UNUSED + 0x1000 * number, 3, word)


def _address_cut_in_the_wrong_format(setup: EnableSetup) -> None:
    """Bits of a 52-bit address in a descriptor that has no room for them."""
    attributes = leaf_attributes(setup.case.regime, setup.tables.table, Use.DATA)
    setup.tables.set_descriptor(_UNUSED, 3, setup.stack | attributes | 1 << 48 | 0b11)


SCENARIOS = (
    *in_regimes(
        "M18",
        "a table descriptor, never used, that points where there is no memory",
        _table_in_hole,
        qemu_lets_it_pass=LAXITY["M18"].text,
    ),
    *in_regimes(
        "M18",
        "a table that was not cleared: text in its unused entries",
        _page_not_cleared,
        [Regime.EL2, Regime.EL1_0],
        variant="text",
        qemu_lets_it_pass=LAXITY["M18"].text,
    ),
    *in_regimes(
        "M18",
        "RES0 bits set in a page descriptor that nothing uses",
        _address_cut_in_the_wrong_format,
        [Regime.EL2],
        variant="RES0",
        qemu_lets_it_pass=LAXITY["M18"].text,
    ),
    *in_regimes("M18", "the table of the code where there is no memory", _code_table_in_hole, variant="code"),
)
