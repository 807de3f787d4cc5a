"""What the report says of the address space: a map of each table, and its ranges as rows."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from kexecdbg.arm64.ranges import MappedRange, ProblemKind, TableScan
from kexecdbg.ui.report.address_map import Mark, address_map, rights_class
from kexecdbg.ui.report.moment import Moment
from kexecdbg.ui.report.words import counted
from kexecdbg.ui.table_text import short_memory_type, size_text

MOST_RANGES = 200
"""How many ranges are listed; the command that prints all of them is named."""
_MOST_PROBLEMS = 8


@dataclass(frozen=True)
class RangeView:
    """A row of the table."""

    start: str
    end: str
    pa: str
    size: str
    page_size: str
    rights: str
    rights_class: str
    user: str
    memory_type: str
    flags: str
    has_mark: bool


@dataclass(frozen=True)
class AddressSpaceView:
    """A table, for the page.

    Attributes:
        register, root: what it starts from.
        summary: its shape and size.
        map: the drawing; ``None`` when nothing is mapped.
        ranges: rows, capped.
        more: how many ranges are not listed.
        command: what lists all of them.
        problems: what cannot be right in the tables.
        output: ``PA`` or ``IPA``.
        has_el0: whether EL0 has rights of its own.
        notes: warnings and assumptions.
    """

    register: str
    root: str
    summary: str
    map: Markup | None
    ranges: tuple[RangeView, ...]
    more: int
    command: str
    problems: tuple[str, ...]
    output: str
    has_el0: bool
    notes: tuple[str, ...]


def address_spaces(moment: Moment) -> tuple[AddressSpaceView, ...]:
    """One view for each table base register that is in use."""
    return tuple(_view(scan, moment) for scan in moment.scans)


def _view(scan: TableScan, moment: Moment) -> AddressSpaceView:
    mine = [mark for mark in moment.marks if moment.regime.facts.is_upper(mark.address) == scan.is_upper]
    form = scan.table_format
    if any(problem.kind is ProblemKind.CONFIGURATION for problem in scan.problems):
        summary = "not walked"
    else:
        summary = (
            f"{form.granule.name} granule, {form.input_bits}-bit addresses from level {form.start_level}; "
            f"{counted(scan.entries, 'valid descriptor')} in {counted(scan.tables, 'table')}, "
            f"{counted(len(scan.ranges), 'range')}"
        )
    title = f"The addresses that {scan.register} maps"
    left_out = len(scan.problems) + scan.problems_left_out - _MOST_PROBLEMS
    more_problems = (f"and {left_out:,} more problems",) if left_out > 0 else ()
    return AddressSpaceView(
        register=scan.register,
        root=f"{scan.root:#x}",
        summary=summary,
        map=address_map(scan.ranges, mine, title) if scan.ranges else None,
        ranges=tuple(_range(item, mine) for item in scan.ranges[:MOST_RANGES]),
        more=max(0, len(scan.ranges) - MOST_RANGES),
        command=f"walk-ttbr{int(scan.is_upper)}",
        problems=(*(problem.text for problem in scan.problems[:_MOST_PROBLEMS]), *more_problems),
        output="IPA" if scan.output_is_ipa else "PA",
        has_el0=any(item.user is not None for item in scan.ranges),
        notes=(*(cause.text for cause in scan.warnings), *scan.assumptions),
    )


def _range(item: MappedRange, marks: list[Mark]) -> RangeView:
    attributes = item.attributes
    named = (("no AF", not attributes.access_flag), ("contiguous", attributes.contiguous), ("GP", attributes.guarded))
    return RangeView(
        f"{item.va:#x}",
        f"{item.end - 1:#x}",
        f"{item.pa:#x}",
        size_text(item.size),
        size_text(item.page_size),
        item.privileged.text,
        rights_class(item),
        item.user.text if item.user else "",
        short_memory_type(item.memory_type),
        ", ".join(name for name, is_set in named if is_set),
        any(item.va <= mark.address < item.end for mark in marks),
    )
