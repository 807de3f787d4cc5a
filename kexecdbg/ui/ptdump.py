"""A whole table in the format of the kernel's ptdump (``/sys/kernel/debug/kernel_page_tables``).

Format: Linux arch/arm64/mm/ptdump.c, pte_bits, pg_level and note_page() (commit 031e011d8b22). Like ptdump it merges by
attributes, not by physical address, and shows the raw attribute bits under the names they have in EL1&0. The markers
(``---[ Linear Mapping start ]---``) are left out: they come from the kernel's configuration, not from the tables. The
level of a hole is what ptdump shows when every table holds at least one mapping.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from kexecdbg.arm64.bits import bit
from kexecdbg.arm64.geometry import TableFormat
from kexecdbg.arm64.memory_types import MemoryType
from kexecdbg.arm64.ranges import MappedRange

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


@dataclass
class _Run:
    start: int
    end: int
    level: int
    text: str


def ptdump_text(ranges: Sequence[MappedRange], table_format: TableFormat) -> str:
    """``ranges`` of tables in ``table_format`` as ptdump prints them."""
    start_level, granule_bits = table_format.start_level, table_format.granule.shift
    lines = [
        f"{run.start:#018x}-{run.end:#018x}   {_size(run.end - run.start)} {_name(run.level, start_level)}{run.text}"
        for run in _runs(ranges, start_level, granule_bits)
    ]
    return "\n".join(lines)


def _runs(ranges: Sequence[MappedRange], start_level: int, granule_bits: int) -> Iterator[_Run]:
    pending: _Run | None = None
    for item in ranges:
        run = _Run(item.va, item.end, item.level, f" {_attributes(item)}")
        if pending is not None:
            if pending.end == run.start and (pending.level, pending.text) == (run.level, run.text):
                pending.end = run.end
                continue
            yield pending
            yield from _holes(pending.end, run.start, start_level, granule_bits)
        pending = run
    if pending is not None:
        yield pending


def _holes(start: int, end: int, start_level: int, granule_bits: int) -> Iterator[_Run]:
    """The missing entries between two mappings, a run a level: up to the largest entry that fits, and down again."""

    def span(level: int) -> int:
        return 1 << (granule_bits + (3 - level) * (granule_bits - 3))

    position = start
    while position < end:
        level = next(
            level for level in range(start_level, 4) if position % span(level) == 0 and position + span(level) <= end
        )
        reach = min(end - end % span(level), -(-(position + 1) // span(level - 1)) * span(level - 1))
        stop = end - end % span(level) if level == start_level else reach
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
        "Normal Tagged Write-Back RA WA": "MEM/NORMAL-TAGGED",
    }
    return names.get(text, f"MEM/{text}")
