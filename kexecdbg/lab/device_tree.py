"""Writes flattened device trees (Devicetree Specification 0.4, chapter 5)."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field

_MAGIC, _VERSION, _COMPATIBLE_WITH = 0xD00D_FEED, 17, 16
_BEGIN_NODE, _END_NODE, _PROPERTY, _END = 1, 2, 3, 9
_HEADER_SIZE, _NO_RESERVATIONS = 40, bytes(16)


@dataclass(frozen=True)
class Node:
    """A node; a property is a row of 32-bit cells, none for a property without a value."""

    name: str
    properties: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    children: tuple[Node, ...] = ()


def flattened(root: Node) -> bytes:
    """The device tree with ``root`` as it lies in memory."""
    strings: dict[str, int] = {}
    structure = _flattened_node(root, strings) + struct.pack(">I", _END)
    names = b"".join(name.encode("ascii") + b"\0" for name in strings)
    structure_at = _HEADER_SIZE + len(_NO_RESERVATIONS)
    strings_at = structure_at + len(structure)
    header = struct.pack(
        ">10I", _MAGIC, strings_at + len(names), structure_at, strings_at, _HEADER_SIZE, _VERSION, _COMPATIBLE_WITH, 0,
        len(names), len(structure),
    )  # fmt: skip
    return header + _NO_RESERVATIONS + structure + names


def _flattened_node(node: Node, strings: dict[str, int]) -> bytes:
    parts = [struct.pack(">I", _BEGIN_NODE), _padded(node.name.encode("ascii") + b"\0")]
    for name, cells in node.properties.items():
        offset = strings.setdefault(name, sum(len(known) + 1 for known in strings))
        value = b"".join(struct.pack(">I", cell) for cell in cells)
        parts += [struct.pack(">III", _PROPERTY, len(value), offset), _padded(value)]
    parts += [_flattened_node(child, strings) for child in node.children]
    return b"".join([*parts, struct.pack(">I", _END_NODE)])


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
