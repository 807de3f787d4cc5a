"""K02: a copy is invalidated instead of cleaned."""

from __future__ import annotations

from kexecdbg.arm64.regimes import Regime
from kexecdbg.lab.enable import EnableCase
from kexecdbg.lab.enable_values import textbook_sequence
from kexecdbg.lab.scenario import Scenario

_PASSES = "no caches are modelled: DC IVAC does nothing (target/arm/helper.c)"

_COPY = (
    "mov x10, x0",
    "sub x11, sp, #2048",
    "add x12, x11, #512",
    "97: ldp x13, x14, [x10], #16",
    "stp x13, x14, [x11], #16",
    "cmp x11, x12",
    "b.lo 97b",
    "sub x11, sp, #2048",
    "98: dc ivac, x11",
    "add x11, x11, #64",
    "cmp x11, x12",
    "b.lo 98b",
    "dsb sy",
)
"""Half a KiB is copied into the stack's page, and its lines are invalidated."""


SCENARIOS = (
    Scenario(
        "K02",
        "K02",
        "EL2: the lines of a copy are invalidated with dc ivac",
        EnableCase(sequence=(*textbook_sequence(Regime.EL2), *_COPY)),
        frozenset({"K02"}),
        _PASSES,
    ),
)
