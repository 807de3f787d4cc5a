"""Nothing wrong: every regime with every granule, pages and blocks, 52-bit addresses, and other ways to be right."""

from __future__ import annotations

from kexecdbg.arm64.geometry import GRANULE_4K, GRANULE_16K, GRANULE_64K
from kexecdbg.arm64.regimes import Regime
from kexecdbg.lab.enable import EnableCase, EnableSetup
from kexecdbg.lab.enable_scenarios import ALL_REGIMES, SHORT_NAMES
from kexecdbg.lab.enable_values import Use
from kexecdbg.lab.scenario import SOUND, Scenario

_ELSEWHERE = 0x3F_C000_0000
"""A virtual address where no RAM is, below the end of the smallest address range, 39 bits."""


def _sound(name: str, summary: str, case: EnableCase) -> Scenario:
    return Scenario(f"{SOUND}-{name}", SOUND, summary, case)


def _stack_elsewhere(setup: EnableSetup) -> None:
    """The stack's virtual address is not its physical one, as in a kernel's own mapping."""
    setup.map(_ELSEWHERE, setup.stack, Use.DATA)
    setup.tables.set_descriptor(setup.stack, setup.leaf_level, 0)
    setup.registers.sp += _ELSEWHERE - setup.stack


SCENARIOS = (
    *(
        _sound(
            f"{SHORT_NAMES[regime]}-{granule.name}",
            f"{regime.value}: {granule.name} pages, {input_bits}-bit addresses",
            EnableCase(regime, granule=granule, input_bits=input_bits),
        )
        for regime in ALL_REGIMES
        for granule, input_bits in ((GRANULE_4K, 48), (GRANULE_16K, 47), (GRANULE_64K, 42))
    ),
    *(
        _sound(
            f"{SHORT_NAMES[regime]}-{granule.name}-block",
            f"{regime.value}: {granule.name} blocks at level {level}, {input_bits}-bit addresses",
            EnableCase(regime, granule=granule, input_bits=input_bits, leaf_level=level),
        )
        for regime in ALL_REGIMES
        for granule, input_bits, level in ((GRANULE_4K, 39, 2), (GRANULE_16K, 36, 2), (GRANULE_64K, 48, 2))
    ),
    *(
        _sound(
            f"{SHORT_NAMES[regime]}-{granule.name}-52",
            f"{regime.value}: {granule.name} pages, 52-bit addresses",
            EnableCase(regime, granule=granule, input_bits=52, wide=True),
        )
        for regime in ALL_REGIMES
        for granule in (GRANULE_4K, GRANULE_16K, GRANULE_64K)
    ),
    *(
        _sound(
            f"{SHORT_NAMES[regime]}-from-EL3",
            f"{regime.value}: on a machine that starts at EL3",
            EnableCase(regime, starts_at_el3=True),
        )
        for regime in (Regime.EL2, Regime.EL1_0, Regime.EL2_0)
    ),
    *(
        _sound(
            f"{SHORT_NAMES[regime]}-stack-elsewhere",
            f"{regime.value}: the stack at a virtual address of its own",
            EnableCase(regime, defect=_stack_elsewhere),
        )
        for regime in ALL_REGIMES
    ),
)
