"""Contents of physical pages: each content is in the file once, and page versions refer to it.

docs/trace-format.md, "PAGES", is the description of the bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kexecdbg.errors import TraceError
from kexecdbg.trace.frames import MAX_BLOCK, compress, decompress
from kexecdbg.trace.step_block import PAGE_SIZE

MAX_CONTENTS = MAX_BLOCK // PAGE_SIZE
"""Contents in one frame at most."""
UNKNOWN_CONTENT = (1 << 64) - 1
"""The content of a page that is not known any more."""

_PREFIX = struct.Struct("<QII")
_VERSION = np.dtype([("step", "<u8"), ("address", "<u8"), ("content", "<u8")])


@dataclass(frozen=True)
class PageVersion:
    """What a page holds from a state on.

    Attributes:
        step: number of the first state that it is so in.
        address: physical address of the page.
        content: number of the content, counted from the start of the file; :data:`UNKNOWN_CONTENT` when the page was
            written and nobody knows with what.
    """

    step: int
    address: int
    content: int


@dataclass(frozen=True)
class PageFrame:
    """The readable part of a PAGES frame, without the contents.

    Attributes:
        first_content: number of the first content in it.
        contents: how many contents it has.
        versions: page versions, which may refer to contents of earlier frames too.
    """

    first_content: int
    contents: int
    versions: tuple[PageVersion, ...]

    @classmethod
    def unpack(cls, payload: bytes) -> PageFrame:
        """The frame in ``payload``.

        Raises:
            TraceError: it is damaged.
        """
        first, contents, count = _prefix(payload)
        rows = np.frombuffer(payload, _VERSION, count, _PREFIX.size)
        if np.any(rows["address"] % PAGE_SIZE) or np.any(
            (rows["content"] >= first + contents) & (rows["content"] != UNKNOWN_CONTENT)
        ):
            raise TraceError("a frame of pages is damaged: it refers to contents that it cannot have")
        return cls(first, contents, tuple(PageVersion(*row) for row in rows.tolist()))

    @staticmethod
    def read_contents(payload: bytes) -> bytes:
        """All contents in ``payload``, one after another.

        Raises:
            TraceError: they are damaged.
        """
        first, contents, count = _prefix(payload)
        start = _PREFIX.size + count * _VERSION.itemsize
        return decompress(payload[start:], contents * PAGE_SIZE, f"the pages from content {first} on")


def _prefix(payload: bytes) -> tuple[int, int, int]:
    if len(payload) >= _PREFIX.size:
        first, contents, count = _PREFIX.unpack_from(payload)
        if contents <= MAX_CONTENTS and _PREFIX.size + count * _VERSION.itemsize <= len(payload) and first < 1 << 48:
            return first, contents, count
    raise TraceError("a frame of pages is damaged: its sizes do not fit")


def pack_pages(first_content: int, contents: Sequence[bytes], versions: Sequence[PageVersion]) -> bytes:
    """The payload of a PAGES frame with the new ``contents`` (each of ``PAGE_SIZE`` bytes) and ``versions``."""
    rows = np.array([(v.step, v.address, v.content) for v in versions], _VERSION)
    prefix = _PREFIX.pack(first_content, len(contents), len(versions))
    return prefix + rows.tobytes() + compress(b"".join(contents))
