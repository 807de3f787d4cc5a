"""M16: the code's address leads to other memory."""

from __future__ import annotations

from kexecdbg.lab.enable import BOOT, CODE, EnableSetup
from kexecdbg.lab.enable_scenarios import in_regimes
from kexecdbg.lab.enable_values import Use

_EMPTY = BOOT + 0x1_0000
"""A page of zeros: permanently undefined instructions."""


def _next_page(setup: EnableSetup) -> None:
    setup.map(CODE, _EMPTY, Use.CODE)


SCENARIOS = in_regimes("M16", "the code's page mapped to a page of zeros", _next_page)
