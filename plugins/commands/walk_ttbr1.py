"""``walk-ttbr1``: translate addresses of the upper range, level by level."""

from __future__ import annotations

from ..stage1_command import Stage1Command


class WalkTtbr1(Stage1Command):
    """See SUMMARY."""

    NAME = "walk-ttbr1"
    SUMMARY = "Walk the tables of TTBR1_ELx: every level, attributes, and which bit decides each right."
    RANGE = 1


COMMAND = WalkTtbr1
