"""``walk-ttbr0``: translate addresses of the lower range, level by level."""

from __future__ import annotations

from ..stage1_command import Stage1Command


class WalkTtbr0(Stage1Command):
    """See SUMMARY."""

    NAME = "walk-ttbr0"
    SUMMARY = "Walk the tables of TTBR0_ELx: every level, attributes, and which bit decides each right."
    RANGE = 0


COMMAND = WalkTtbr0
