"""M17: TTBR0 holds bits that are no part of an aligned table address."""

from __future__ import annotations

from collections.abc import Callable

from kexecdbg.arm64.regimes import Regime
from kexecdbg.checks.qemu_laxity import LAXITY
from kexecdbg.lab.enable import EnableSetup
from kexecdbg.lab.enable_scenarios import ONE_RANGE, in_regimes

_FREE_TABLES = 0xC000
"""Offset in the table area that no table needs."""


def _also_set(bits: int) -> Callable[[EnableSetup], None]:
    def defect(setup: EnableSetup) -> None:
        setup.registers.ttbr0 |= bits

    return defect


def _half_a_table_further(setup: EnableSetup) -> None:
    """The first table lies across two pages, and TTBR0 says so; the CPU reads the page that it starts in."""
    address = setup.table_area + _FREE_TABLES + 0x800
    setup.image.place(address, setup.tables.pages()[setup.tables.root])
    setup.registers.ttbr0 = address


SCENARIOS = (
    *in_regimes("M17", "low address bits set in TTBR0", _also_set(0x840), qemu_lets_it_pass=LAXITY["M17"].text),
    *in_regimes(
        "M17",
        "CnP set on a CPU without it",
        _also_set(1),
        [Regime.EL2, Regime.EL1_0],
        variant="CnP",
        qemu_lets_it_pass=LAXITY["M17"].text,
    ),
    *in_regimes(
        "M17",
        "an ASID where there is none",
        _also_set(5 << 48),
        ONE_RANGE,
        variant="ASID",
        qemu_lets_it_pass=LAXITY["M17"].text,
    ),
    *in_regimes("M17", "the first table not aligned to its size", _half_a_table_further, variant="unaligned"),
)
