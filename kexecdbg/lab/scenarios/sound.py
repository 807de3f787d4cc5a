"""Nothing wrong: every regime with every granule, pages and blocks, 52-bit addresses, and other ways to be right."""

from __future__ import annotations

from kexecdbg.arm64.bits import bits
from kexecdbg.arm64.geometry import GRANULE_4K, GRANULE_16K, GRANULE_64K
from kexecdbg.arm64.regimes import Regime
from kexecdbg.lab.enable import VECTORS, EnableCase, EnableSetup
from kexecdbg.lab.enable_scenarios import ALL_REGIMES, SHORT_NAMES, TWO_RANGES
from kexecdbg.lab.enable_values import Use, leaf_attributes, textbook_sequence
from kexecdbg.lab.scenario import SOUND, Scenario
from kexecdbg.lab.tables import Arena, TableBuilder

_ELSEWHERE = 0x3F_C000_0000
"""A virtual address where no RAM is, below the end of the smallest address range, 39 bits."""

_UPPER_HALF = 0xFFFF_0000_0000_0000
_OTHER_TABLES = 0xC000
"""Offset of TTBR1's tables in the table area; those of TTBR0 need less."""


def _sound(name: str, summary: str, case: EnableCase) -> Scenario:
    return Scenario(f"{SOUND}-{name}", SOUND, summary, case)


def _stack_elsewhere(setup: EnableSetup) -> None:
    """The stack's virtual address is not its physical one, as in a kernel's own mapping."""
    setup.map(_ELSEWHERE, setup.stack, Use.DATA)
    setup.tables.set_descriptor(setup.stack, setup.leaf_level, 0)
    setup.registers.sp += _ELSEWHERE - setup.stack


def _vectors_above(setup: EnableSetup) -> None:
    """TTBR1 maps the vectors, as a kernel's own tables do; TTBR0 does not."""
    layout = setup.case.regime.facts.tcr_layout
    lower, upper = layout.ranges
    assert upper.epd is not None
    arena = Arena(setup.table_area + _OTHER_TABLES, setup.table_area + 0x1_0000)
    tables = TableBuilder(arena.allocate, table=setup.tables.table)
    attributes = leaf_attributes(setup.case.regime, tables.table, Use.CODE)
    tables.map_page(_UPPER_HALF + VECTORS, VECTORS, attributes)
    for address, data in tables.pages().items():
        setup.image.place(address, data)
    setup.tables.set_descriptor(VECTORS, setup.leaf_level, 0)
    setup.registers.vbar = _UPPER_HALF + VECTORS
    setup.registers.ttbr1 = tables.root
    tcr = setup.registers.tcr & ~(1 << upper.epd)
    for field in ("sh", "orgn", "irgn"):
        msb, lsb = getattr(lower, field)
        tcr |= bits(tcr, msb, lsb) << getattr(upper, field)[1]
    setup.registers.tcr = tcr


def _sequence_with_ttbr1(regime: Regime) -> tuple[str, ...]:
    return (f"msr {regime.facts.ttbr1}, x4", *textbook_sequence(regime))


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
            EnableCase(regime, highest_el=3),
        )
        for regime in (Regime.EL2, Regime.EL1_0, Regime.EL2_0)
    ),
    _sound("EL1-only", "EL1&0: on a machine without EL2 and EL3", EnableCase(Regime.EL1_0, highest_el=1)),
    *(
        _sound(
            f"{SHORT_NAMES[regime]}-vectors-above",
            f"{regime.value}: the vectors in the upper half, through TTBR1",
            EnableCase(regime, sequence=_sequence_with_ttbr1(regime), defect=_vectors_above),
        )
        for regime in TWO_RANGES
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
