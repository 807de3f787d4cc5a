"""M26: other tables under a running MMU, at one go."""

from __future__ import annotations

from kexecdbg.arm64.regimes import Regime
from kexecdbg.lab.enable import CODE, LITERALS, UART, VECTORS, EnableCase, EnableSetup
from kexecdbg.lab.enable_scenarios import ALL_REGIMES, SHORT_NAMES
from kexecdbg.lab.enable_values import textbook_sequence
from kexecdbg.lab.scenario import Scenario
from kexecdbg.lab.tables import Arena, TableBuilder

_PASSES = "its TLB is flushed by every write of TTBR0_EL2 and reports no conflicts (target/arm/helper.c)"
_SECOND_TABLES = 0x10_0000
"""Distance of the second tables from the first ones."""
_COPY = 0x8000
"""Distance from the code to its copy, which the second tables map in its place."""


def _second_tables(setup: EnableSetup) -> None:
    """Tables that map a copy of the code to where the code is; X4 has their address."""
    start = setup.table_area + _SECOND_TABLES
    arena = Arena(start, start + 0x1_0000)
    tables = TableBuilder(arena.allocate, table=setup.tables.table)
    for part in (CODE, LITERALS, VECTORS, setup.stack, setup.argument, UART):
        attributes = setup.tables.descriptor(part, setup.leaf_level) - part
        tables.map_page(part, part + _COPY if part == CODE else part, attributes)
    setup.image.place(CODE + _COPY, setup.program.segments[CODE].ljust(0x1000, b"\0"))
    for address, data in tables.pages().items():
        setup.image.place(address, data)
    setup.registers.ttbr1 = tables.root


def _changed_live(regime: Regime) -> tuple[str, ...]:
    facts = regime.facts
    return (*textbook_sequence(regime), f"msr {facts.ttbr0}, x4", "isb")


SCENARIOS = tuple(
    Scenario(
        "M26" if regime is Regime.EL2 else f"M26-{SHORT_NAMES[regime]}",
        "M26",
        f"{regime.value}: TTBR0 gets other tables, which move the code, with the MMU on",
        EnableCase(regime, sequence=_changed_live(regime), defect=_second_tables),
        frozenset({"M26"}),
        _PASSES,
    )
    for regime in ALL_REGIMES
)
