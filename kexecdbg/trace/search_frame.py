"""What a search of all memory found out about pages that are not in the trace: none of them holds certain words.

docs/trace-format.md, "SEARCH", is the description of the bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kexecdbg.errors import TraceError
from kexecdbg.machine.word_search import Ranges, WordPattern
from kexecdbg.trace.frames import compress, decompress
from kexecdbg.trace.step_block import PAGE_SIZE, U64

MAX_RANGES = 1 << 18
"""Ranges in one frame at most: every other page of 2 GiB."""
_MAX_PATTERNS = 64
_PREFIX = struct.Struct("<QII")
_PATTERN = struct.Struct("<II")
_RANGE_BYTES = 16
_HIGHEST = 1 << 56
"""Physical addresses have 56 bits at most (FEAT_D128)."""


@dataclass(frozen=True)
class SearchFrame:
    """A search of all memory that holds from a state on.

    Attributes:
        state: number of the first state that it holds in.
        patterns: the words that were searched for. Every page that held one is in the trace; none at all when nothing
            is known any more.
        starts, ends: physical ranges (ends exclusive), ascending, of the pages that held anything but zeros.
    """

    state: int
    patterns: frozenset[WordPattern]
    starts: U64
    ends: U64

    @staticmethod
    def state_of(payload: bytes) -> int:
        """The state in ``payload``, without reading the rest.

        Raises:
            TraceError: it is damaged.
        """
        return _prefix(payload)[0]

    @classmethod
    def unpack(cls, payload: bytes) -> SearchFrame:
        """The frame in ``payload``.

        Raises:
            TraceError: it is damaged.
        """
        state, patterns, ranges = _prefix(payload)
        block = _PREFIX.size + patterns * _PATTERN.size
        words = _PATTERN.iter_unpack(payload[_PREFIX.size : block])
        data = decompress(payload[block:], ranges * _RANGE_BYTES, "a search of all memory")
        bounds = np.frombuffer(data, "<u8")
        if np.any(bounds[1:] <= bounds[:-1]) or np.any(bounds % PAGE_SIZE) or np.any(bounds[-1:] > _HIGHEST):
            raise TraceError("a search of all memory is damaged: its ranges are not such as pages have")
        return cls(state, frozenset(WordPattern(*pair) for pair in words), bounds[0::2], bounds[1::2])


def _prefix(payload: bytes) -> tuple[int, int, int]:
    if len(payload) >= _PREFIX.size:
        state, patterns, ranges = _PREFIX.unpack_from(payload)
        fits = _PREFIX.size + patterns * _PATTERN.size <= len(payload)
        if fits and patterns <= _MAX_PATTERNS and ranges <= MAX_RANGES:
            return state, patterns, ranges
    raise TraceError("a search of all memory is damaged: its sizes do not fit")


def pack_search(state: int, patterns: Sequence[WordPattern], occupied: Ranges) -> bytes:
    """The payload of a SEARCH frame; at most :data:`MAX_RANGES` ranges, which do not touch each other."""
    prefix = _PREFIX.pack(state, len(patterns), len(occupied))
    words = b"".join(_PATTERN.pack(pattern.mask, pattern.value) for pattern in patterns)
    return prefix + words + compress(np.array(occupied, "<u8").tobytes())
