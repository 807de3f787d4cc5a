"""M13: a block descriptor at a level where the granule allows none."""

from __future__ import annotations

from collections.abc import Iterator

from kexecdbg.arm64.faults import CauseKind
from kexecdbg.arm64.geometry import LAST_LEVEL
from kexecdbg.arm64.ranges import ProblemKind
from kexecdbg.checks.alternatives import alternatives
from kexecdbg.checks.finding import Finding, Severity
from kexecdbg.checks.mapped_ranges import trusted_scans
from kexecdbg.checks.qemu_laxity import remark
from kexecdbg.checks.rule import Rule
from kexecdbg.checks.rules.m14_descriptor_type import points_to_table
from kexecdbg.checks.situation import Situation


def _check(situation: Situation) -> Iterator[Finding]:
    fault = situation.fetch_fault
    on_path = fault is not None and fault.cause.kind is CauseKind.ILLEGAL_BLOCK
    if fault is not None and on_path and not points_to_table(situation, fault.cause):
        leaf = situation.fetch.levels[-1]
        wider = alternatives(situation).get("DS")
        yield Finding(
            "M13",
            Severity.FATAL,
            f"The next fetch, {situation.next_pc:#x}, takes {fault.phrase}: it is mapped by a "
            f"block at level {leaf.level}, which {_granule(situation)} pages do not allow. Map it by a table of "
            f"smaller blocks.{remark('M13')}",
            {"address": leaf.address, "level": leaf.level, "descriptor": leaf.descriptor, "bit": 1},
            wider.repair if wider else None,
        )
    yield from _elsewhere(situation, fault.cause.address if fault is not None and on_path else None)


def _elsewhere(situation: Situation, reported: int | None) -> Iterator[Finding]:
    """Blocks that the next fetch does not use: whatever is mapped by them is not mapped at all."""
    blocks = [
        problem
        for table in trusted_scans(situation)
        for problem in table.problems
        if problem.kind is ProblemKind.RESERVED and problem.level < LAST_LEVEL and problem.address != reported
    ]
    if not blocks:
        return
    first = blocks[0]
    count = f"{len(blocks)} block descriptors stand" if len(blocks) > 1 else "A block descriptor stands"
    yield Finding(
        "M13",
        Severity.HAZARD,
        f"{count} at a level where {_granule(situation)} pages allow none, the first for {first.va:#x}: any access "
        f"there takes a Translation fault at level {first.level}.{remark('M13')}",
        {
            "address": first.address,
            "level": first.level,
            "descriptor": first.descriptor,
            "bit": 1,
            "va": first.va,
            "count": len(blocks),
        },
    )


def _granule(situation: Situation) -> str:
    return situation.scans[0].table_format.granule.name


RULE = Rule(
    "M13",
    "A block where the granule allows none",
    "Blocks are legal at levels 1 and 2 with 4K pages and at level 2 with 16K and 64K; at level 0 (4K) and level 1 "
    "(16K, 64K) only with 52-bit addresses. Elsewhere a block is an invalid descriptor: Translation fault at its "
    "level.",
    (
        "Arm ARM D8.3.1 (VMSAv8-64 block descriptor), pseudocode AArch64.BlockDescSupported",
        "EDK2 54d8d4dc97; Xen d7deffc611; TF-A 2240f45b1; google/aarch64-paging f28ab71",
    ),
    _check,
    symptom="Works in QEMU, freezes on hardware right after the write (IFSC 0x04 or 0x05).",
)
