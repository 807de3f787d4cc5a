"""Physical memory behind the gdb server of a replay, which has searched all of it for what the checks search for.

The packets are described in docs/trace-format.md, "Replay".
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from kexecdbg.errors import TargetError
from kexecdbg.machine.memory_map import MemoryMap
from kexecdbg.machine.stub_memory import StubMemory, StubPackets
from kexecdbg.machine.word_search import FoundWords, WordPattern

IS_REPLAY = "qkexecdbg.replay"
"""The packet that a replay of ours answers with OK."""
CPUS = "qkexecdbg.cpus"
"""The packet that asks how many CPUs the recorded machine has; the one that was recorded is the only thread."""
FIND = "qkexecdbg.find:"
"""The packet that searches all memory."""
ADDRESSES_IN_ANSWER = 1024
"""Addresses in one answer at most."""
_NOT_SEARCHED = "l"
_MOST = 0x4000
_MOST_PATTERNS = 16
_MOST_SHOWN = 80
_QUESTION = re.compile(
    re.escape(FIND) + r"([0-9a-f]{1,8}):([0-9a-f]{1,8}-[0-9a-f]{1,8}(?:,[0-9a-f]{1,8}-[0-9a-f]{1,8})*)\Z"
)
_ANSWER = re.compile(r"m([0-9a-f]+),([0-9a-f]+),([01]):((?:[0-9a-f]+(?:,[0-9a-f]+)*)?)\Z")


class ReplayedMemory(StubMemory):
    """The recorded machine's memory in the state that the replay is at."""

    most = _MOST

    def find_words(self, patterns: Sequence[WordPattern], /) -> FoundWords | None:
        """See :class:`kexecdbg.machine.word_search.SearchableMemory`; asked for anew each time, the replay moves."""
        wanted = ",".join(f"{pattern.mask:x}-{pattern.value:x}" for pattern in patterns)
        addresses: list[int] = []
        while True:
            reply = self._stub.packet(f"{FIND}{len(addresses):x}:{wanted}")
            if reply == _NOT_SEARCHED:
                return None
            match = _ANSWER.match(reply)
            if match is None:
                raise TargetError(f"the replay answered {reply[:_MOST_SHOWN]!r} to a search of its memory")
            more = [int(text, 16) for text in match[4].split(",") if text]
            addresses += more
            if not more or len(addresses) >= int(match[1], 16):
                return FoundWords(tuple(addresses), int(match[2], 16), match[3] == "1")


def replayed_memory(stub: StubPackets, memory_map: MemoryMap) -> ReplayedMemory | None:
    """The memory behind ``stub`` if that is a replay; other stubs do not know the packet."""
    return ReplayedMemory(stub, memory_map) if stub.packet(IS_REPLAY) == "OK" else None


def asked_words(packet: str) -> tuple[int, tuple[WordPattern, ...]] | None:
    """From which address on, and for which words, a packet asks that begins with :data:`FIND`; ``None``: malformed."""
    match = _QUESTION.match(packet)
    if match is None:
        return None
    pairs = [text.split("-") for text in match[2].split(",")]
    if len(pairs) > _MOST_PATTERNS:
        return None
    return int(match[1], 16), tuple(WordPattern(int(mask, 16), int(value, 16)) for mask, value in pairs)


def answer_to_search(found: FoundWords | None, number: int) -> str:
    """The answer of a stub that has searched: what was found, from ``number`` on."""
    if found is None:
        return _NOT_SEARCHED
    addresses = found.addresses[number : number + ADDRESSES_IN_ANSWER]
    shown = ",".join(f"{address:x}" for address in addresses)
    return f"m{len(found.addresses):x},{found.size:x},{found.complete:d}:{shown}"
