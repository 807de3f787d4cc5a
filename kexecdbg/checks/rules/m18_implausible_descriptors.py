"""M18: descriptors that nobody can have meant: table memory that was not cleared, or was overwritten."""

from __future__ import annotations

from collections.abc import Iterator

from kexecdbg.arm64.faults import CauseKind
from kexecdbg.arm64.geometry import LAST_LEVEL
from kexecdbg.arm64.ranges import ProblemKind, ScanProblem, TableScan
from kexecdbg.checks.finding import DescriptorRepair, Finding, Severity
from kexecdbg.checks.mapped_ranges import trusted_scans
from kexecdbg.checks.qemu_laxity import remark
from kexecdbg.checks.rule import Rule
from kexecdbg.checks.situation import Situation

_ALWAYS_WRONG = frozenset({ProblemKind.TABLE_SIZE, ProblemKind.OUTPUT_SIZE, ProblemKind.RESERVED_BITS})


def _check(situation: Situation) -> Iterator[Finding]:
    yield from _path_leaves_memory(situation)
    for table in trusted_scans(situation):
        yield from _implausible(situation, table)
        yield from _not_judged(situation, table)


def _path_leaves_memory(situation: Situation) -> Iterator[Finding]:
    """The walk of the next fetch goes to a table where there is no memory."""
    fault, levels = situation.fetch_fault, situation.fetch.levels
    if fault is None or fault.cause.kind is not CauseKind.UNREADABLE_TABLE or situation.memory_map is None:
        return
    target = levels[-1].address
    if situation.memory_map.is_memory(target):
        return
    evidence: dict[str, int | str | None] = {"target": target}
    if len(levels) > 1:
        pointer = levels[-2]
        who = f"The level {pointer.level} descriptor {pointer.descriptor:#x} at {pointer.address:#x}"
        evidence |= {"address": pointer.address, "level": pointer.level, "descriptor": pointer.descriptor}
    else:
        who = situation.regime.facts.ttbr0
        evidence |= {"register": who, "value": situation.after.get(who)}
    yield Finding(
        "M18",
        Severity.FATAL,
        f"{who} points to a table at {target:#x}, where there is no memory ({situation.memory_map.describe_ram()}): "
        f"the walk for the next fetch, {situation.next_pc:#x}, ends in an External abort.",
        evidence,
    )


def _implausible(situation: Situation, table: TableScan) -> Iterator[Finding]:
    """Everything else in the tables: the CPU may walk it speculatively, the program does not use it next."""
    path = {level.address for level in situation.fetch.levels} if situation.fetch_fault is not None else set()
    wrong = [
        problem
        for problem in table.problems
        if _is_implausible(situation, problem) and problem.level >= table.table_format.start_level
        if problem.address not in path
    ]
    if not wrong:
        return
    first, count = wrong[0], len(wrong) + table.problems_left_out
    size = 1 << table.table_format.granule.shift
    tables = len({problem.address // size for problem in wrong})
    more = (
        f" So {'do' if count > 2 else 'does'} {count - 1} more in {tables} table{'s' if tables > 1 else ''}: "
        "that is what memory looks like that was not cleared, or is used for something else."
        if count > 1
        else ""
    )
    yield Finding(
        "M18",
        Severity.HAZARD,
        f"{first.text[0].upper()}{first.text[1:]}: it cannot have been meant.{more}{remark('M18')}",
        {
            "address": first.address,
            "level": first.level,
            "descriptor": first.descriptor,
            "va": first.va,
            "target": first.target,
            "count": count,
        },
        _invalidate(situation, first) if count == 1 else None,
    )


def _is_implausible(situation: Situation, problem: ScanProblem) -> bool:
    if problem.kind is ProblemKind.RESERVED:
        return problem.level == LAST_LEVEL  # at other levels it is a block: M13
    if problem.kind is ProblemKind.UNREADABLE:
        return situation.memory_map is not None and not situation.memory_map.is_memory(problem.target)
    return problem.kind in _ALWAYS_WRONG


def _invalidate(situation: Situation, problem: ScanProblem) -> DescriptorRepair | None:
    """Make the descriptor invalid, if the next fetch does not need it."""
    if not situation.cures_fetch(words={problem.address: 0}):
        return None
    return DescriptorRepair(problem.address, problem.descriptor, 0, "makes it invalid")


def _not_judged(situation: Situation, table: TableScan) -> Iterator[Finding]:
    """What the scan could not look at."""
    for problem in table.problems:
        unknown = problem.kind is ProblemKind.UNREADABLE and not _is_implausible(situation, problem)
        if problem.kind is ProblemKind.LIMIT or unknown:
            yield Finding(
                "M18",
                Severity.NOTE,
                f"{problem.text[0].upper()}{problem.text[1:]}: what it maps is not judged.",
                {"address": problem.address, "level": problem.level, "target": problem.target},
            )
            return


RULE = Rule(
    "M18",
    "Descriptors that cannot be right",
    "Every entry of every table counts, also those that the program never uses: the CPU may walk them speculatively, "
    "and an entry with bit 0 set by accident maps something. A next table where there is no RAM, an address beyond "
    "the output size, RES0 bits, type 0b01 at level 3: such entries are left over from what was in the page before.",
    (
        "EDK2 ebb9235329; Xen 00fc9004be; U-Boot c55c2a8565a; TF-A aaacde468",
        "Arm ARM D8.3 (descriptor formats), B2.10.1 (speculation)",
    ),
    _check,
    symptom="Sporadic: works after a power-on, fails after a warm reset, or the other way round.",
)
