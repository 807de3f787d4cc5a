"""Physical memory behind the gdb server of a replay, which knows which memory was recorded."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from kexecdbg.errors import TargetError
from kexecdbg.machine.memory_map import MemoryMap
from kexecdbg.machine.stub_memory import StubMemory, StubPackets

POPULATED = "qkexecdbg.populated:"
"""The packet that asks for the ranges from a number (hexadecimal) on; the answer: ``m`` and some of them, or ``l``."""
RANGES_IN_ANSWER = 256
"""Ranges in one answer at most."""
_MOST = 0x4000
_RANGES = re.compile(r"m([0-9a-f]+-[0-9a-f]+(?:,[0-9a-f]+-[0-9a-f]+)*)\Z")


class ReplayedMemory(StubMemory):
    """All RAM that the recorded machine had ever written, in the state that the replay is at."""

    most = _MOST

    def populated_ranges(self) -> Iterator[tuple[int, int]]:
        """See :class:`kexecdbg.machine.memory.PopulatedMemory`; asked for anew each time, the replay moves."""
        number = 0
        while ranges := _asked(self._stub, number):
            yield from ranges
            number += len(ranges)


def replayed_memory(stub: StubPackets, memory_map: MemoryMap) -> ReplayedMemory | None:
    """The memory behind ``stub`` if that is a replay of a trace with all RAM; other stubs do not know the packet."""
    answers = stub.packet(f"{POPULATED}0")[:1] in ("m", "l")
    return ReplayedMemory(stub, memory_map) if answers else None


def answer(ranges: Sequence[tuple[int, int]], number: int) -> str:
    """The answer of a stub that has these ranges: those from ``number`` on."""
    asked = ranges[number : number + RANGES_IN_ANSWER]
    return "m" + ",".join(f"{start:x}-{end:x}" for start, end in asked) if asked else "l"


def _asked(stub: StubPackets, number: int) -> list[tuple[int, int]]:
    reply = stub.packet(f"{POPULATED}{number:x}")
    if reply == "l":
        return []
    match = _RANGES.match(reply)
    if match is None:
        raise TargetError(f"the replay answered {reply[:80]!r} to a question for its memory")
    pairs = (text.split("-") for text in match[1].split(","))
    return [(int(start, 16), int(end, 16)) for start, end in pairs]
