"""What the tables of a situation map, in the form the rules on memory attributes ask for."""

from __future__ import annotations

from kexecdbg.arm64.faults import FaultKind
from kexecdbg.arm64.ranges import MappedRange, TableScan
from kexecdbg.checks.alternatives import alternatives
from kexecdbg.checks.situation import Situation
from kexecdbg.checks.table_base import tables_out_of_place


def trusted_scans(situation: Situation) -> tuple[TableScan, ...]:
    """The scans of the regime's tables, if they are read as they were meant; else nothing.

    Tables that are walked with the wrong size, granule, byte order, format or base look like garbage: that is one
    finding about a register, not many about descriptors.
    """
    fault = situation.fetch_fault
    misread = fault is not None and fault.kind is FaultKind.ADDRESS_SIZE
    if misread or alternatives(situation) or tables_out_of_place(situation) is not None:
        return ()
    return situation.scans


def usable_ranges(situation: Situation) -> list[MappedRange]:
    """The ranges of every table that an access, also a speculative one, can use, by table and address.

    A leaf with the Access flag clear is not one, unless the CPU sets it: it cannot get into the TLB.
    """
    return [
        item
        for table in trusted_scans(situation)
        for item in table.ranges
        if item.attributes.access_flag or table.table_format.hardware_af
    ]


def leaf_evidence(situation: Situation, va: int) -> dict[str, int | str | None]:
    """Where the leaf that maps ``va`` is and what it holds, as evidence of a finding."""
    levels = situation.walk(va).levels
    if not levels:
        return {"va": va}
    leaf = levels[-1]
    return {"va": va, "address": leaf.address, "level": leaf.level, "descriptor": leaf.descriptor}


def extent(start: int, end: int) -> str:
    """``0x9000000-0x9000fff``."""
    return f"{start:#x}-{end - 1:#x}"
