"""M14: a descriptor on the path has the wrong type bits for its level."""

from __future__ import annotations

from collections.abc import Iterator

from kexecdbg.arm64.faults import Cause, CauseKind
from kexecdbg.arm64.translation import stage1_of
from kexecdbg.checks.finding import Finding, Severity
from kexecdbg.checks.repairs import change_descriptor
from kexecdbg.checks.rule import Rule
from kexecdbg.checks.situation import Situation

_TYPE_BIT = 0b10
_ENDS_ON_WRONG_TYPE = frozenset(
    {CauseKind.RESERVED_DESCRIPTOR, CauseKind.ACCESS_FLAG, CauseKind.ILLEGAL_BLOCK, CauseKind.OUTPUT_SIZE}
)


def _check(situation: Situation) -> Iterator[Finding]:
    fault = situation.fetch_fault
    if fault is None or fault.cause.kind not in _ENDS_ON_WRONG_TYPE or not situation.fetch.levels:
        return
    last = situation.fetch.levels[-1]
    if last.descriptor is None or last.descriptor & 0b11 != 0b01:
        return
    kind = "page" if last.level == 3 else "table"
    if last.level != 3 and not points_to_table(situation, fault.cause):
        return
    repair = change_descriptor(situation, fault.cause, set_bits=_TYPE_BIT, what=f"sets bit 1: type {kind}")
    yield Finding(
        "M14",
        Severity.FATAL,
        f"The level {last.level} descriptor of the next fetch, {situation.next_pc:#x}, has type bits 0b01, "
        + ("reserved at level 3" if last.level == 3 else "a block, but it points to a table")
        + f": {fault.text}.",
        {"address": last.address, "level": last.level, "descriptor": last.descriptor, "bit": 1},
        repair,
    )


def points_to_table(situation: Situation, cause: Cause) -> bool:
    """Whether the block that ``cause`` names is in truth a table descriptor with the wrong type.

    It is one when it leads to the code as a table, or has address bits that a block of its level does not have.
    """
    if change_descriptor(situation, cause, set_bits=_TYPE_BIT, what="") is not None:
        return True
    last = situation.fetch.levels[-1]
    upper = situation.regime.facts.is_upper(situation.next_pc)
    table = stage1_of(situation.after, situation.regime, upper=upper).table
    return bool((last.descriptor or 0) & table.reserved_bits(last.level, is_table=False))


RULE = Rule(
    "M14",
    "Wrong type bits in a descriptor",
    "Bits 1:0 are 0b11 for a table (levels -1 to 2) and for a page (level 3), 0b01 for a block. A page with 0b01 is "
    "reserved and faults; a table descriptor with 0b01 is taken for a block.",
    ("Arm ARM D8.3.1 (VMSAv8-64 descriptor formats)", "U-Boot 90351547cee"),
    _check,
    symptom="Freeze right after the write with ESR 0x86000007; for a pointer taken as a block 0x86000008 or 9.",
)
