"""A whole translation table as text: one line a range, 80 columns."""

from __future__ import annotations

from collections.abc import Sequence

from kexecdbg.arm64.memory_types import MemoryType
from kexecdbg.arm64.ranges import MappedRange, ProblemKind, TableScan
from kexecdbg.ui.style import Style, hanging

_UNITS = ((60, "E"), (50, "P"), (40, "T"), (30, "G"), (20, "M"), (10, "K"))
_SHORT = {
    "Normal Write-Back RA WA": "Normal WB",
    "Normal Write-Through RA WA": "Normal WT",
    "Normal Write-Through RA": "Normal WT",
    "Normal Non-cacheable": "Normal NC",
    "Normal Write-Back RA WA Tagged": "Normal WB Tag",
}
_MOST_PROBLEMS = 8


def table_text(scan: TableScan, ranges: Sequence[MappedRange], style: Style, *, summary_only: bool = False) -> str:
    """The table's summary, what is wrong with it, and ``ranges`` (all of the scan's, or a selection).

    With ``summary_only`` the ranges themselves are left out.
    """
    regime = scan.regime.value if scan.regime else "stage 2"
    shown = "" if len(ranges) == len(scan.ranges) else f", {len(ranges)} shown"
    form = scan.table_format
    lines = [f"{style.bold(scan.register)} {scan.root:#x}, {regime}"]
    if any(problem.kind is ProblemKind.CONFIGURATION for problem in scan.problems):
        lines[0] += ": not walked"
    else:
        lines[0] += f", {form.granule.name} granule, {form.input_bits}-bit from level {form.start_level}"
        if scan.tables:
            lines.append(f"{scan.entries} valid descriptors in {scan.tables} tables, {len(scan.ranges)} ranges{shown}")
    lines += [style.bad(hanging("!", problem.text, 2)) for problem in scan.problems[:_MOST_PROBLEMS]]
    left_out = len(scan.problems) + scan.problems_left_out - _MOST_PROBLEMS
    if left_out > 0:
        lines.append(style.bad(f"! and {left_out} more problems; --json lists them"))
    lines += [style.warn(hanging("~", cause.text, 2)) for cause in scan.warnings]
    lines += [style.dim(hanging("~", text, 2)) for text in scan.assumptions]
    if ranges and not summary_only:
        first = "intermediate physical address" if scan.regime is None else "virtual address"
        output = "IPA" if scan.output_is_ipa else "PA"
        lines.append(style.bold(f"{first:<33} {output:>12}  size page  EL  EL0 type"))
        lines += [_line(item, style) for item in ranges]
    return "\n".join(lines)


def _line(item: MappedRange, style: Style) -> str:
    user = item.user.text if item.user else "   "
    attributes = item.attributes
    flags = "".join(
        flag
        for flag, is_set in (
            (" no-AF", not attributes.access_flag),
            (" cont", attributes.contiguous),
            (" GP", attributes.guarded),
        )
        if is_set
    )
    text = (
        f"{item.va:016x}-{item.end - 1:016x} {item.pa:12x} {size_text(item.size):>5} {size_text(item.page_size):>4} "
        f"{item.privileged.text} {user} {short_memory_type(item.memory_type)}{flags}"
    )
    return style.warn(text) if item.privileged.write and item.privileged.execute else text


def size_text(size: int) -> str:
    """A size in the largest unit that gives a whole number: ``4K``, ``132M``."""
    for shift, unit in _UNITS:
        if size and not size % (1 << shift):
            return f"{size >> shift}{unit}"
    return str(size)


def short_memory_type(memory_type: MemoryType | None) -> str:
    """The memory type in a column's width."""
    return short_memory_type_text(None if memory_type is None else memory_type.text)


def short_memory_type_text(text: str | None) -> str:
    """The text of a memory type in a column's width; ``None`` is an unknown one."""
    return "unknown" if text is None else _SHORT.get(text, text)
