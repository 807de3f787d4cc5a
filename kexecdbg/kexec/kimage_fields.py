"""From the members of ``struct kimage``, as debug information has them, to a layout."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from kexecdbg.errors import EnvironmentProblem
from kexecdbg.kexec.argument import ArgumentLayout
from kexecdbg.kexec.kimage import FIELDS, MORE_FIELDS, kimage_layout

_SEGMENTS = "segment"
_FIELD_SIZE = 8


@dataclass(frozen=True)
class Member:
    """A member of a structure: its name, its byte offset, and its own members if it is a structure."""

    name: str
    offset: int
    members: tuple[Member, ...] = ()


def layout_of_members(members: Iterable[Member], size: int, name: str) -> ArgumentLayout:
    """The layout of a ``struct kimage`` with these members and ``size`` bytes.

    Raises:
        EnvironmentProblem: fields are missing that the relocation of Linux 5.16 and later has.
    """
    offsets = dict(_flattened(members))
    missing = [field for field in FIELDS if field not in offsets]
    if missing:
        raise EnvironmentProblem(
            f"struct kimage {name} has no {', '.join(missing)}: the kernel is older than 5.16, or much newer"
        )
    fields = {field: offsets[field] for field in (*FIELDS, *MORE_FIELDS) if field in offsets}
    beyond = [field for field, offset in fields.items() if offset + _FIELD_SIZE > size]
    if beyond:
        raise EnvironmentProblem(f"struct kimage {name} has {size} bytes and {', '.join(beyond)} behind them")
    return kimage_layout(name, fields, f"struct kimage {name}", size=size, segments=offsets.get(_SEGMENTS))


def _flattened(members: Iterable[Member]) -> Iterator[tuple[str, int]]:
    for member in members:
        yield member.name, member.offset
        if member.name == "arch":
            yield from ((f"arch.{inner.name}", member.offset + inner.offset) for inner in member.members)
