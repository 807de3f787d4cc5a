"""M22: table walks use other memory attributes than the mapping of the table memory."""

from __future__ import annotations

from collections.abc import Iterator

from kexecdbg.arm64.bits import bit, bits, field_mask
from kexecdbg.arm64.memory_types import (
    CachePolicy,
)
from kexecdbg.arm64.ranges import MappedRange, TableScan
from kexecdbg.arm64.regimes import SCTLR_C, RangeFields
from kexecdbg.arm64.translation import stage1_of
from kexecdbg.checks.finding import Finding, RegisterRepair, Severity
from kexecdbg.checks.mapped_ranges import leaf_evidence, trusted_scans, usable_ranges
from kexecdbg.checks.mismatched_attributes import Attributes, attributes_of, mismatch
from kexecdbg.checks.qemu_laxity import remark
from kexecdbg.checks.repairs import change_register
from kexecdbg.checks.rule import Rule
from kexecdbg.checks.situation import Situation

_REGION_CODES = {CachePolicy.NON_CACHEABLE: 0, CachePolicy.WRITE_BACK: 1, CachePolicy.WRITE_THROUGH: 2}
"""IRGN and ORGN of TCR_ELx; write-back with write-allocate."""


def _check(situation: Situation) -> Iterator[Finding]:
    ranges = usable_ranges(situation)
    if all(item.memory_type is None or item.memory_type.is_device for item in ranges):
        return  # MAIR_ELx makes all memory Device: M32
    for number, table in enumerate(trusted_scans(situation)):
        walks = _walk_attributes(situation, upper=number == 1)
        seen: set[Attributes] = set()
        for item, address in _mappings_of_tables(table, ranges):
            if item.memory_type is None or item.attributes.shareability is None:
                continue
            mapped = attributes_of(item.memory_type, item.attributes.shareability)
            severity = mismatch(walks, mapped)
            if severity is None or mapped in seen:
                continue
            seen.add(mapped)
            yield _finding(situation, number, severity, walks, mapped, item, address)


def _walk_attributes(situation: Situation, *, upper: bool) -> Attributes:
    """What a table walk accesses memory as: TCR_ELx, and SCTLR_ELx.C."""
    return attributes_of(*stage1_of(situation.after, situation.regime, upper=upper).table_access)


def _mappings_of_tables(table: TableScan, ranges: list[MappedRange]) -> Iterator[tuple[MappedRange, int]]:
    """Each range that maps a table, with the address of the first table in it."""
    import numpy as np

    if not table.table_places or not ranges:
        return
    addresses = np.sort(np.fromiter((address for address, _ in table.table_places), np.uint64, table.tables))
    starts = np.fromiter((item.pa for item in ranges), np.uint64, len(ranges))
    ends = np.fromiter((item.pa + item.size for item in ranges), np.uint64, len(ranges))
    first = np.searchsorted(addresses, starts, side="left")
    last = np.searchsorted(addresses, ends, side="left")
    for index in np.flatnonzero(last > first).tolist():
        yield ranges[index], int(addresses[first[index]])


def _finding(
    situation: Situation,
    number: int,
    severity: Severity,
    walks: Attributes,
    mapped: Attributes,
    item: MappedRange,
    address: int,
) -> Finding:
    facts = situation.regime.facts
    fields = facts.tcr_layout.ranges[number]
    tcr = situation.after.require(facts.tcr, "the attributes of table walks")
    va = item.va + address - item.pa
    walk_text = f"{facts.tcr}.{{IRGN{number}, ORGN{number}, SH{number}}} make walks"
    if not bit(situation.after.require(facts.sctlr, "whether walks are cached"), SCTLR_C):
        walk_text = f"{facts.sctlr}.C = 0 makes walks"
    consequence = (
        "which is one domain in most systems"
        if severity is Severity.NOTE
        else "so a walk may not see what was written through the mapping"
    )
    return Finding(
        "M22",
        severity,
        f"{walk_text} {walks.text}, but the table at {address:#x} is mapped as {mapped.text} at {va:#x}, {consequence}."
        f"{remark('M22')}",
        {
            **leaf_evidence(situation, va),
            "table": address,
            "register": facts.tcr,
            f"IRGN{number}": bits(tcr, *fields.irgn),
            f"ORGN{number}": bits(tcr, *fields.orgn),
            f"SH{number}": bits(tcr, *fields.sh),
        },
        _repair(situation, facts.tcr, tcr, fields, mapped),
    )


def _repair(
    situation: Situation, register: str, tcr: int, fields: RangeFields, mapped: Attributes
) -> RegisterRepair | None:
    """TCR_ELx with the attributes of the mapping, when that is Normal memory."""
    if mapped.inner is None or mapped.outer is None:
        return None
    new = tcr
    for position, code in (
        (fields.irgn, _REGION_CODES[mapped.inner]),
        (fields.orgn, _REGION_CODES[mapped.outer]),
        (fields.sh, mapped.shareability.value),
    ):
        new = new & ~field_mask(*position) | code << position[1]
    what = f"makes walks {mapped.text}, as the tables are mapped"
    return change_register(situation, register, new, what) if new != tcr else None


RULE = Rule(
    "M22",
    "Table walks have other attributes than the tables' mapping",
    "TCR_ELx.IRGN, ORGN and SH say how walks access table memory. The tables are written through a mapping with "
    "attributes of its own. When one is cacheable and the other is not, a walk reads stale descriptors from memory "
    "while the new ones sit in the cache. Table memory that the tables do not map is not judged.",
    (
        "Arm ARM D8.2.10 (memory attributes of table walks), B2.16",
        "TF-A 883d1b5d4 (says that firmware cannot check this itself); bao f102272; EDK2 35718840ef",
    ),
    _check,
    severity=Severity.HAZARD,
    symptom="Changes of the tables take effect late or never, on hardware only.",
)
