"""M14: the type bits of a descriptor do not fit its level."""

from __future__ import annotations

from kexecdbg.lab.enable import CODE, EnableSetup
from kexecdbg.lab.enable_scenarios import in_regimes

_TYPE_BIT = 0b10


def _page_of_type_block(setup: EnableSetup) -> None:
    setup.tables.change_descriptor(CODE, 3, clear_bits=_TYPE_BIT)


def _table_of_type_block(setup: EnableSetup) -> None:
    setup.tables.change_descriptor(CODE, 1, clear_bits=_TYPE_BIT)


SCENARIOS = (
    *in_regimes("M14", "the code's level 3 descriptor of type 0b01", _page_of_type_block),
    *in_regimes("M14", "the level 1 table descriptor of type block", _table_of_type_block, variant="table"),
)
