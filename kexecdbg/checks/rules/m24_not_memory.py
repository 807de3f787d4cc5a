"""M24: what is not RAM, or must not be touched, is mapped as Normal memory."""

from __future__ import annotations

from collections.abc import Iterator

from kexecdbg.arm64.ranges import MappedRange
from kexecdbg.checks.finding import Finding, Severity
from kexecdbg.checks.mapped_ranges import extent, leaf_evidence, usable_ranges
from kexecdbg.checks.qemu_laxity import remark
from kexecdbg.checks.repairs import unmap
from kexecdbg.checks.rule import Rule
from kexecdbg.checks.situation import Situation
from kexecdbg.machine.device_tree import ReservedRegion, no_map_regions
from kexecdbg.machine.memory_map import MemoryMap, RegionKind

_DEVICE_TREE_POINTERS = ("X0", "X1", "X2", "X3", "X21")
"""Registers that boot protocols and Linux's head.S hold the device tree's address in."""


def _check(situation: Situation) -> Iterator[Finding]:
    if any(table.output_is_ipa for table in situation.scans):
        return  # The tables map to intermediate physical addresses.
    normal = [item for item in usable_ranges(situation) if item.memory_type and not item.memory_type.is_device]
    if not normal:
        return
    from kexecdbg.checks.intervals import Intervals

    mapped = Intervals(normal).pairs()
    if situation.memory_map is not None:
        yield from _no_memory(situation, situation.memory_map, normal, mapped)
    for region in _reserved_regions(situation):
        overlap = next(((s, e) for s, e in mapped if s < region.end and region.start < e), None)
        if overlap is not None:
            start, end = max(overlap[0], region.start), min(overlap[1], region.end)
            text = (
                f"Reserved memory at {extent(start, end)} ({region.name}, no-map in the device tree) is mapped as "
                "Normal memory: speculative reads of it can fault, also when nothing uses it."
            )
            yield _finding(situation, normal, text, start, end, region.name)


def _no_memory(
    situation: Situation, memory_map: MemoryMap, normal: list[MappedRange], mapped: list[tuple[int, int]]
) -> Iterator[Finding]:
    """One finding about devices and one about holes."""
    devices: list[tuple[int, int, str]] = []
    holes: list[tuple[int, int, str]] = []
    for start, end in mapped:
        for part_start, part_end, device in memory_map.not_memory(start, end):
            (holes if device is None else devices).append((part_start, part_end, device.name if device else ""))
    for parts, kind, what in (
        (devices, "device", "a read that the CPU makes speculatively reaches the device"),
        (holes, "hole", "a read that the CPU makes speculatively ends in an SError or an External abort"),
    ):
        if not parts:
            continue
        start, end, name = parts[0]
        more = f" and {len(parts) - 1} further parts" if len(parts) > 1 else ""
        where = f"the device {name}" if name else "no memory"
        text = f"Normal memory is mapped where {where} is, at {extent(start, end)}{more}: {what}."
        yield _finding(situation, normal, text, start, end, name or kind)


def _finding(situation: Situation, normal: list[MappedRange], text: str, start: int, end: int, region: str) -> Finding:
    from kexecdbg.checks.intervals import range_at

    item = range_at(normal, start)
    whole = start <= item.pa and item.pa + item.size <= end
    return Finding(
        "M24",
        Severity.HAZARD,
        text + remark("M24"),
        {**leaf_evidence(situation, item.va + start - item.pa), "pa": start, "end": end, "region": region},
        unmap(situation, item) if whole else None,
    )


def _reserved_regions(situation: Situation) -> list[ReservedRegion]:
    """No-map regions of the device trees that can be found: by register, and at the start of RAM (QEMU's virt)."""
    candidates = [situation.before.get(name) for name in _DEVICE_TREE_POINTERS]
    if situation.memory_map is not None:
        candidates += [region.start for region in situation.memory_map.regions if region.kind is RegionKind.RAM]
    regions: dict[ReservedRegion, None] = {}
    for address in dict.fromkeys(candidates):
        if address is not None and address % 8 == 0:
            regions |= dict.fromkeys(no_map_regions(situation.memory, address))
    return list(regions)


RULE = Rule(
    "M24",
    "Normal memory mapped where there is no RAM",
    "The CPU may read any Normal memory speculatively, whether or not the program does. Where a device, secure memory "
    "or nothing at all is mapped as Normal, such a read changes the device, or ends in an SError at some later "
    "instruction. Firmware says by no-map in the device tree's /reserved-memory what must not be mapped. The memory "
    "map comes from the machine (QEMU's info mtree); without one only the device tree is used.",
    (
        "Arm ARM B2.10.1 (Normal memory, speculative accesses)",
        "James Morse, 2019-07-17 (nomap regions on AMD Seattle); U-Boot d40d69ee350, 4b4ebdb4a40, 856480eef0a",
        "m1n1 72788291; Xen 804145a161, 62529f16c8",
        "Devicetree Specification 0.4, 3.5 (/reserved-memory)",
    ),
    _check,
    severity=Severity.HAZARD,
    symptom="SError or External abort some time after the write, with a syndrome that points nowhere.",
)
