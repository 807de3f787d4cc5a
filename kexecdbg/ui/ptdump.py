"""A whole table in the format of the kernel's ptdump (``/sys/kernel/debug/kernel_page_tables``).

Format: Linux arch/arm64/mm/ptdump.c, pte_bits, pg_level and note_page() (commit 031e011d8b22). Like ptdump it merges by
attributes, not by physical address, and shows the raw attribute bits under the names they have in EL1&0. The markers
(``---[ Linear Mapping start ]---``) are left out: they come from the kernel's configuration, not from the tables. The
level of a hole is what ptdump shows when every table holds at least one mapping.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from kexecdbg.arm64.bits import bit, mask
from kexecdbg.arm64.geometry import LAST_LEVEL, TableFormat
from kexecdbg.arm64.memory_types import MemoryType
from kexecdbg.arm64.ranges import MappedRange, TableScan
from kexecdbg.ui.style import hanging

_BITS = (
    (6, "USR", "   "),
    (7, "ro", "RW"),
    (53, "NX", "x "),
    (8, "SHD", "   "),
    (10, "AF", "  "),
    (11, "NG", "  "),
    (52, "CON", "   "),
)
_LATE_BITS = ((54, "UXN", "   "), (50, "GP", "  "))
_LEVEL_NAMES = {-1: "PGD", 0: "P4D", 1: "PUD", 2: "PMD", 3: "PTE"}
_UNITS = "KMGTPE"
_ONE_RANGE_NOTE = "raw bits under their EL1&0 names: in this regime UXN (bit 54) is XN, bit 53 (NX, x) is RES0"
_STAGE2_NOTE = "raw bits under their EL1&0 names: at stage 2 bits 7:6 (ro, USR) are S2AP and 54:53 (UXN, NX) are XN"
_NOTE_COLUMN = 5


@dataclass
class _Run:
    start: int
    end: int
    level: int
    text: str


def ptdump_text(scan: TableScan, ranges: Sequence[MappedRange]) -> str:
    """``ranges`` of the table as ptdump prints them; of all of them also the holes, from end to end of the range."""
    form = scan.table_format
    whole = len(ranges) == len(scan.ranges)
    runs = _with_holes(ranges, scan) if whole else (_mapped(item) for item in ranges)
    lines = [
        f"{run.start:#018x}-{run.end & mask(64):#018x}   {_size(run.end - run.start)} "
        f"{_name(run.level, form.start_level)}{run.text}"
        for run in _merged(runs)
    ]
    if lines and (scan.regime is None or not scan.regime.facts.two_ranges):
        lines.append(hanging("note", _STAGE2_NOTE if scan.regime is None else _ONE_RANGE_NOTE, _NOTE_COLUMN))
    return "\n".join(lines)


def _mapped(item: MappedRange) -> _Run:
    return _Run(item.va, item.end, item.level, f" {_attributes(item)}")


def _merged(runs: Iterable[_Run]) -> Iterator[_Run]:
    """Adjacent runs of one level that look alike are one."""
    pending: _Run | None = None
    for run in runs:
        if pending is None:
            pending = run
        elif pending.end == run.start and (pending.level, pending.text) == (run.level, run.text):
            pending.end = run.end
        else:
            yield pending
            pending = run
    if pending is not None:
        yield pending


def _with_holes(ranges: Sequence[MappedRange], scan: TableScan) -> Iterator[_Run]:
    form = scan.table_format
    size = 1 << form.input_bits
    position = (1 << 64) - size if scan.is_upper else 0
    end = position + size
    for item in ranges:
        yield from _holes(position, item.va, form)
        yield _mapped(item)
        position = item.end
    if ranges:
        yield from _holes(position, end, form)


def _holes(start: int, end: int, form: TableFormat) -> Iterator[_Run]:
    """The missing entries from ``start`` to ``end``: up to the largest entry that fits, and down again."""
    position = start
    while position < end:
        level = next(
            level
            for level in range(form.start_level, LAST_LEVEL + 1)
            if position % (1 << form.shift(level)) == 0 and position + (1 << form.shift(level)) <= end
        )
        span = 1 << form.shift(level)
        stop = end - end % span
        if level > form.start_level:
            above = 1 << form.shift(level - 1)
            stop = min(stop, -(-(position + 1) // above) * above)
        yield _Run(position, stop, level, "")
        position = stop


def _name(level: int, start_level: int) -> str:
    return "PGD" if level == start_level else _LEVEL_NAMES[level]


def _size(size: int) -> str:
    amount, unit = size >> 10, 0
    while not amount & 1023 and unit + 1 < len(_UNITS):
        amount, unit = amount >> 10, unit + 1
    return f"{amount:9d}{_UNITS[unit]}"


def _attributes(item: MappedRange) -> str:
    descriptor = item.attributes.descriptor
    words = [" "] + [present if bit(descriptor, position) else absent for position, present, absent in _BITS]
    words.append("   " if item.level == 3 else "BLK")
    words += [present if bit(descriptor, position) else absent for position, present, absent in _LATE_BITS]
    return " ".join([*words, _memory_type(item.memory_type)])


def _memory_type(memory_type: MemoryType | None) -> str:
    if memory_type is None:
        return "UNKNOWN"
    text = memory_type.text
    if text.startswith("Device-"):
        return text.replace("Device-", "DEVICE/")
    names = {
        "Normal Non-cacheable": "MEM/NORMAL-NC",
        "Normal Write-Back RA WA": "MEM/NORMAL",
        "Normal Write-Back RA WA Tagged": "MEM/NORMAL-TAGGED",
    }
    return names.get(text, f"MEM/{text}")
