"""K05: the identity map does not reach the relocation code."""

from __future__ import annotations

from kexecdbg.lab.relocation_v9 import RelocationV9Case, RelocationV9Setup
from kexecdbg.lab.scenario import Scenario


def _four_gib(setup: RelocationV9Setup) -> None:
    setup.argument["trans_t0sz"] = 32


def _one_level_less(setup: RelocationV9Setup) -> None:
    setup.argument["trans_t0sz"] = 25


SCENARIOS = (
    Scenario(
        "K05",
        "K05",
        "trans_t0sz for 4 GiB, the relocation code above",
        RelocationV9Case(defect=_four_gib),
        frozenset({"K05", "M10"}),
    ),
    Scenario(
        "K05-levels",
        "K05",
        "trans_t0sz for tables of 3 levels, trans_ttbr0 with 4",
        RelocationV9Case(defect=_one_level_less),
        frozenset({"K05", "M10"}),
    ),
)
