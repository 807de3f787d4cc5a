"""Where TTBRn_ELx says that the tables are, and where the CPU walks them."""

from __future__ import annotations

from collections.abc import Iterator

from kexecdbg.arm64.descent import descend
from kexecdbg.arm64.faults import FaultKind
from kexecdbg.arm64.regimes import Regime
from kexecdbg.arm64.stage2 import stage2_enabled
from kexecdbg.arm64.translation import Stage1, stage1_of
from kexecdbg.arm64.walk import bit_names
from kexecdbg.checks.situation import Situation, asked_once

_CNP = 0
_ADDRESS_BITS_51_48 = 0x3C


def walked_ranges(situation: Situation) -> Iterator[Stage1]:
    """The address ranges that are walked at all."""
    facts = situation.regime.facts
    for upper, name in enumerate((facts.ttbr0, facts.ttbr1)):
        if name is None or situation.after.get(name) is None:
            continue
        stage1 = stage1_of(situation.after, situation.regime, upper=bool(upper))
        if stage1.problem is None and not stage1.epd:
            yield stage1


def low_bits(stage1: Stage1, ttbr: int) -> int:
    """The address bits in ``ttbr`` below the alignment of the first table."""
    low = ttbr & (stage1.table.base_alignment - 1) & ~(1 << _CNP)
    holds_high_bits = stage1.table.ds or (stage1.table.lpa and stage1.table.output_bits > 48)
    return low & ~_ADDRESS_BITS_51_48 if holds_high_bits else low


@asked_once
def tables_out_of_place(situation: Situation) -> int | None:
    """Where the tables are that would map the next fetch, when the CPU does not walk them because of their alignment.

    ``None`` when they are walked, or when tables at the unaligned address would not map it either.
    """
    fault = situation.fetch_fault
    if fault is None or fault.kind in (FaultKind.PERMISSION, FaultKind.UNKNOWN):
        return None
    if situation.regime is Regime.EL1_0 and stage2_enabled(situation.after):
        return None
    upper = situation.regime.facts.is_upper(situation.next_pc)
    for stage1 in walked_ranges(situation):
        low = low_bits(stage1, situation.after.require(stage1.ttbr, "where the tables are"))
        if stage1.upper != upper or not low:
            continue
        base = stage1.base | low
        found = descend(stage1.table, base, stage1.ttbr, situation.next_pc, situation.memory, bit_names(stage1))
        return base if found.fault is None else None
    return None
