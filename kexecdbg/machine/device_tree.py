"""Reserved memory in a flattened device tree (Devicetree Specification 0.4, chapter 5 and section 3.5).

Only what the checks ask for: the regions of /reserved-memory that must not be mapped (``no-map``).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from kexecdbg.arm64.interfaces import PhysicalMemory
from kexecdbg.errors import MemoryUnreadableError

_MAGIC = 0xD00D_FEED
_HEADER = struct.Struct(">10I")
_BEGIN_NODE, _END_NODE, _PROPERTY, _NOP, _END = 1, 2, 3, 4, 9
_MAX_SIZE = 2 << 20
"""Bytes; Linux takes no larger device tree (Documentation/arch/arm64/booting.rst)."""


@dataclass(frozen=True)
class ReservedRegion:
    """Physical addresses ``start`` to ``end`` (exclusive) that the device tree says must not be mapped."""

    name: str
    start: int
    end: int


@dataclass
class _Node:
    name: str
    properties: dict[str, bytes] = field(default_factory=dict)
    children: list[_Node] = field(default_factory=list)

    def cells(self, name: str, default: int) -> int:
        value = self.properties.get(name, b"")
        return int.from_bytes(value, "big") if len(value) == 4 else default


def no_map_regions(memory: PhysicalMemory, address: int) -> tuple[ReservedRegion, ...]:
    """The no-map regions of the device tree at the physical ``address``; empty when there is no device tree."""
    try:
        header = _HEADER.unpack(memory.read(address, _HEADER.size))
        if header[0] != _MAGIC or not _HEADER.size <= header[1] <= _MAX_SIZE:
            return ()
        root = _parse(memory.read(address, header[1]), header[2], header[3])
    except (MemoryUnreadableError, struct.error, ValueError, IndexError):
        return ()
    return tuple(
        region
        for node in root.children
        if node.name.split("@")[0] == "reserved-memory"
        for child in node.children
        if "no-map" in child.properties
        for region in _regions(node, child)
    )


def _regions(parent: _Node, node: _Node) -> Iterator[ReservedRegion]:
    address_cells, size_cells = parent.cells("#address-cells", 2), parent.cells("#size-cells", 1)
    value, step = node.properties.get("reg", b""), 4 * (address_cells + size_cells)
    for offset in range(0, len(value) - step + 1, step) if step else ():
        middle = offset + 4 * address_cells
        start = int.from_bytes(value[offset:middle], "big")
        size = int.from_bytes(value[middle : offset + step], "big")
        if size:
            yield ReservedRegion(node.name, start, start + size)


def _parse(blob: bytes, structure: int, strings: int) -> _Node:
    """The root node.

    Raises:
        ValueError, IndexError, struct.error: it is not a well-formed device tree.
    """
    path = [_Node("")]
    position = structure
    while True:
        (token,) = struct.unpack_from(">I", blob, position)
        position += 4
        if token == _BEGIN_NODE:
            end = blob.index(0, position)
            node = _Node(blob[position:end].decode("ascii"))
            path[-1].children.append(node)
            path.append(node)
            position = _aligned(end + 1)
        elif token == _END_NODE:
            path.pop()
        elif token == _PROPERTY:
            length, name = struct.unpack_from(">II", blob, position)
            start = strings + name
            text = blob[start : blob.index(0, start)].decode("ascii")
            path[-1].properties[text] = blob[position + 8 : position + 8 + length]
            position = _aligned(position + 8 + length)
        elif token == _END:
            return path[0].children[0]
        elif token != _NOP:
            raise ValueError(f"token {token:#x} at {position - 4:#x}")


def _aligned(position: int) -> int:
    return (position + 3) & ~3
