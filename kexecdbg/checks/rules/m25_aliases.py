"""M25: one physical address mapped with different memory attributes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from itertools import combinations

from kexecdbg.arm64.ranges import MappedRange
from kexecdbg.checks.finding import Finding, Severity
from kexecdbg.checks.mapped_ranges import extent, leaf_evidence, usable_ranges
from kexecdbg.checks.mismatched_attributes import Attributes, attributes_of, mismatch
from kexecdbg.checks.qemu_laxity import remark
from kexecdbg.checks.rule import Rule
from kexecdbg.checks.situation import Situation


def _check(situation: Situation) -> Iterator[Finding]:
    by_attributes = _by_attributes(usable_ranges(situation))
    if len(by_attributes) < 2:
        return
    from kexecdbg.checks.intervals import Intervals, range_at

    intervals = {attributes: Intervals(ranges) for attributes, ranges in by_attributes.items()}
    for first, second in combinations(by_attributes, 2):
        severity = mismatch(first, second)
        overlap = intervals[first].first_overlap(intervals[second]) if severity else None
        if severity is None or overlap is None:
            continue
        one, other = (range_at(by_attributes[attributes], overlap[0]) for attributes in (first, second))
        addresses = [item.va + overlap[0] - item.pa for item in (one, other)]
        consequence = (
            "the CPU may use either for an access through the other"
            if severity is Severity.NOTE
            else "writes through one may not be seen through the other"
        )
        yield Finding(
            "M25",
            severity,
            f"Physical {extent(*overlap)} is mapped twice: as {first.text} at {addresses[0]:#x}, and as {second.text} "
            f"at {addresses[1]:#x}; {consequence}.{remark('M25')}",
            {
                "pa": overlap[0],
                "end": overlap[1],
                **leaf_evidence(situation, addresses[0]),
                "other_va": addresses[1],
                "other_descriptor": situation.walk(addresses[1]).levels[-1].descriptor,
            },
        )


def _by_attributes(ranges: list[MappedRange]) -> dict[Attributes, list[MappedRange]]:
    # A scan has one object for all ranges with the same attributes.
    same: dict[int, list[MappedRange]] = defaultdict(list)
    for item in ranges:
        same[id(item.attributes)].append(item)
    grouped: dict[Attributes, list[MappedRange]] = defaultdict(list)
    for items in same.values():
        first = items[0].attributes
        if first.memory_type is not None and first.shareability is not None:
            grouped[attributes_of(first.memory_type, first.shareability)] += items
    return grouped


RULE = Rule(
    "M25",
    "One physical address with two memory types",
    "Mappings of one location must agree in memory type, cacheability and shareability. Where they do not, the CPU may "
    "use the cache for one and not for the other: coherency between them is lost, and dirty lines come back later. A "
    "difference in the strictness of Device memory, or between Inner and Outer Shareable, is only noted.",
    (
        "Arm ARM B2.16 (mismatched memory attributes)",
        "m1n1 f3eed1c7; U-Boot 70e21b06425; TF-A 00669dcd9",
    ),
    _check,
    severity=Severity.HAZARD,
    symptom="Data corruption with no relation to what was done last, on hardware only.",
)
