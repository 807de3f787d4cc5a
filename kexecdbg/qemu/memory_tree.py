"""QEMU's flat memory tree (``info mtree -f``), read into a memory map.

Line format: QEMU softmmu/memory.c, mtree_print_flatview() (the same in 7.2 and 10.0)::

    0000000040000000-000000023fffffff (prio 0, ram): ram
    0000000009000000-0000000009000fff (prio 0, i/o): pl011
    0000000100000000-000000017fffffff (prio 0, ram): ram @00000000c0000000
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from kexecdbg.errors import TargetError
from kexecdbg.machine.memory_map import MemoryMap, Region, RegionKind

_LINE = re.compile(
    r"^\s+([0-9a-f]{16})-([0-9a-f]{16}) \(prio -?\d+, ([a-z/-]+)\): (.*?)(?: @([0-9a-f]{16}))?(?: KVM)?\s*$"
)
_KINDS = {"ram": RegionKind.RAM, "rom": RegionKind.ROM, "romd": RegionKind.ROM, "nv-ram": RegionKind.RAM}
_WORDS = {RegionKind.RAM: "ram", RegionKind.ROM: "rom", RegionKind.DEVICE: "i/o"}
_ADDRESS_SPACE = 'AS "memory", root: system'


def parse_flat_memory_tree(text: str) -> MemoryMap:
    """The memory map of the system address space in the output of ``info mtree -f``.

    Raises:
        TargetError: there is no system address space in it (the monitor is not QEMU's).
    """
    for view in text.split("FlatView #"):
        if _ADDRESS_SPACE in view:
            matches = (_LINE.match(line) for line in view.splitlines())
            return MemoryMap(_region(match) for match in matches if match)
    raise TargetError(
        f"this is not QEMU's gdbstub: 'monitor info mtree -f' does not list QEMU's system memory; it answered: "
        f"{text.strip()[:80]!r}"
    )


def _region(match: re.Match[str]) -> Region:
    start, end, kind, name, offset = match.groups()
    return Region(
        start=int(start, 16),
        end=int(end, 16) + 1,
        kind=_KINDS.get(kind, RegionKind.DEVICE),
        name=name,
        backing_offset=int(offset, 16) if offset else 0,
    )


def flat_memory_tree_text(regions: Iterable[Region]) -> str:
    """``regions`` as ``info mtree -f`` prints them; :func:`parse_flat_memory_tree` reads the same from it."""
    lines = ["FlatView #0", f" {_ADDRESS_SPACE}", " Root memory region: system", *map(_line, regions)]
    return "\n".join(lines) + "\n\n"


def _line(region: Region) -> str:
    offset = f" @{region.backing_offset:016x}" if region.backing_offset else ""
    return f"  {region.start:016x}-{region.end - 1:016x} (prio 0, {_WORDS[region.kind]}): {region.name}{offset}"
