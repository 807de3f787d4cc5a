"""What the tables of a situation map, in the form the rules on memory attributes ask for."""

from __future__ import annotations

from kexecdbg.arm64.faults import FaultKind
from kexecdbg.arm64.ranges import MappedRange, TableScan
from kexecdbg.checks.alternatives import alternatives
from kexecdbg.checks.finding import DescriptorRepair
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


def change_leaf(situation: Situation, item: MappedRange, what: str, *, set_bits: int) -> DescriptorRepair | None:
    """The write that sets bits of the leaf of ``item``; ``None`` when it is not one leaf, or the fetch suffers."""
    leaf = situation.walk(item.va).levels[-1]
    return _write(situation, item, leaf.address, leaf.descriptor, (leaf.descriptor or 0) | set_bits, what)


def unmap(situation: Situation, item: MappedRange) -> DescriptorRepair | None:
    """The write that makes the leaf of ``item`` invalid; ``None`` when it is not one leaf, or the fetch suffers."""
    leaf = situation.walk(item.va).levels[-1]
    return _write(situation, item, leaf.address, leaf.descriptor, 0, "unmaps it")


def _write(
    situation: Situation, item: MappedRange, address: int, old: int | None, new: int, what: str
) -> DescriptorRepair | None:
    if item.size != item.page_size or old is None or not situation.cures_fetch(words={address: new}):
        return None
    return DescriptorRepair(address, old, new, what)


def extent(start: int, end: int) -> str:
    """``0x9000000-0x9000fff``."""
    return f"{start:#x}-{end - 1:#x}"
