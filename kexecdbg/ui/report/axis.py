"""Addresses in few rows: neighbours are joined until they fit, and what lies between them is one gap.

A map of an address space is mostly gaps. Its rows are as many as a page has room for; the widest gaps stay visible.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TypeVar

ItemT = TypeVar("ItemT")


def joined(
    items: Sequence[ItemT],
    most: int,
    start: Callable[[ItemT], int],
    end: Callable[[ItemT], int],
    kept_apart: Callable[[ItemT, ItemT], bool],
) -> list[list[ItemT]]:
    """``items`` in groups of neighbours, at most ``most`` of them.

    Args:
        items: ascending and not overlapping.
        most: how many groups there may be.
        start, end: the addresses of an item, ``end`` exclusive.
        kept_apart: whether two neighbours differ so much that they are parted before others are; wide gaps come next.
    """
    borders = [
        (kept_apart(one, other), start(other) - end(one), number)
        for number, (one, other) in enumerate(pairwise(items), 1)
    ]
    chosen = sorted(number for _, _, number in sorted(borders, key=lambda border: (-border[0], -border[1]))[: most - 1])
    return [list(items[first:last]) for first, last in pairwise([0, *chosen, len(items)]) if first < last]
