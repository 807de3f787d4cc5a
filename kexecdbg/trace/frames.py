"""The container of a trace file: a magic number, then frames with type, length and CRC, only ever appended.

docs/trace-format.md, "Container", says what the bytes mean. A file that was cut off or damaged is read up to the
first frame that is not intact.
"""

from __future__ import annotations

import enum
import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import zstandard

from kexecdbg.errors import TraceError

# As in PNG: the high bit, both line ends and the end-of-file byte catch transfers that mangle binary files.
MAGIC = b"\x89KXT\r\n\x1a\n"
VERSION = 1
MAX_PAYLOAD = 16 << 20
"""Bytes of a frame's payload at most, compressed."""
MAX_BLOCK = 16 << 20
"""Bytes that a compressed block may decompress to at most."""

_PREAMBLE = struct.Struct("<8sHH")
_FRAME = struct.Struct("<B3xII")
_LEVEL = 3
"""zstd's compression level: its own default."""


class FrameType(enum.IntEnum):
    """What a frame holds."""

    HEADER = 1
    PAGES = 2
    STEPS = 3
    END = 4
    SEARCH = 5


@dataclass(frozen=True)
class Frame:
    """One intact frame of a file.

    Attributes:
        kind: its type; a plain number for a type of a later version, which readers skip.
        offset: position of the payload in the file, bytes.
        payload: its contents.
    """

    kind: int
    offset: int
    payload: bytes


class FrameWriter:
    """Appends frames to a new file.

    Raises:
        TraceError: the file exists already or cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._stream: BinaryIO = path.open("xb", buffering=0)
        except FileExistsError as error:
            raise TraceError(f"{path}: exists already; give another name, or remove it") from error
        except OSError as error:
            raise TraceError(f"{path}: cannot be written: {error.strerror}") from error
        self._write(_PREAMBLE.pack(MAGIC, VERSION, 0))

    def append(self, kind: FrameType, payload: bytes) -> None:
        """Write one frame; it is in the operating system's hands when this returns."""
        self._write(_FRAME.pack(kind, len(payload), _checksum(kind, payload)) + payload)

    def _write(self, data: bytes) -> None:
        try:
            view = memoryview(data)
            while view:
                view = view[self._stream.write(view) :]
        except OSError as error:
            raise TraceError(f"{self.path}: writing failed: {error.strerror}") from error

    def close(self) -> None:
        """Close the file; harmless when it is closed already."""
        self._stream.close()


class FrameReader:
    """The intact frames of a file.

    Attributes:
        size: of the file, bytes.
        intact: bytes from its start that are intact, once :meth:`frames` has been exhausted.

    Raises:
        TraceError: the file cannot be read, is no trace, or is one of another version.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            if not path.is_file():
                raise TraceError(f"{path}: {'not a file' if path.exists() else 'no such file'}")
            self._stream = path.open("rb")
        except OSError as error:
            raise TraceError(f"{path}: cannot be read: {error.strerror}") from error
        try:
            self.size = os.fstat(self._stream.fileno()).st_size
            self._check_preamble()
        except BaseException:
            self._stream.close()
            raise
        self.intact = _PREAMBLE.size

    def _check_preamble(self) -> None:
        preamble = self.read_at(0, min(_PREAMBLE.size, self.size))
        if len(preamble) < _PREAMBLE.size or not preamble.startswith(MAGIC):
            raise TraceError(f"{self.path}: not a kexecdbg trace (it does not start with a trace's magic number)")
        version = _PREAMBLE.unpack(preamble)[1]
        if version != VERSION:
            raise TraceError(
                f"{self.path}: a trace of format version {version}; this kexecdbg reads version {VERSION}: use the "
                "kexecdbg that recorded it, or a newer one"
            )

    def frames(self) -> Iterator[Frame]:
        """Frame after frame, up to the first that is not intact."""
        while (frame := self._frame_at(self.intact)) is not None:
            self.intact = frame.offset + len(frame.payload)
            yield frame

    def _frame_at(self, position: int) -> Frame | None:
        if position + _FRAME.size > self.size:
            return None
        kind, length, checksum = _FRAME.unpack(self.read_at(position, _FRAME.size))
        offset = position + _FRAME.size
        if length > MAX_PAYLOAD or offset + length > self.size:
            return None
        payload = self.read_at(offset, length)
        return Frame(kind, offset, payload) if _checksum(kind, payload) == checksum else None

    def last_frame(self, kind: FrameType, payload_size: int) -> Frame | None:
        """The frame at the very end of the file, when it has this type and payload size and is intact."""
        position = self.size - payload_size - _FRAME.size
        frame = self._frame_at(position) if position >= _PREAMBLE.size else None
        return frame if frame and frame.kind == kind and len(frame.payload) == payload_size else None

    def read_at(self, offset: int, size: int) -> bytes:
        """``size`` bytes of the file.

        Raises:
            TraceError: they cannot be read any more.
        """
        try:
            data = os.pread(self._stream.fileno(), size, offset)
        except OSError as error:
            raise TraceError(f"{self.path}: reading failed: {error.strerror}") from error
        if len(data) != size:
            raise TraceError(f"{self.path}: became shorter while it was read")
        return data

    def close(self) -> None:
        """Close the file."""
        self._stream.close()


def _checksum(kind: int, payload: bytes) -> int:
    return zlib.crc32(payload, zlib.crc32(struct.pack("<BI", kind, len(payload))))


def compress(data: bytes) -> bytes:
    """A block as the file holds it: one zstd frame that says how long its contents are."""
    return zstandard.ZstdCompressor(level=_LEVEL, write_content_size=True).compress(data)


def decompress(block: bytes, size: int, what: str) -> bytes:
    """The contents of a block, which must be ``size`` bytes; ``what`` names it in errors.

    Raises:
        TraceError: it is damaged, or says that it is longer (nothing is allocated for it then).
    """
    try:
        # The length is checked first: zstd allocates what the block claims.
        claimed = zstandard.frame_content_size(block)
        if claimed == size <= MAX_BLOCK:
            data = zstandard.ZstdDecompressor().decompress(block)
            if len(data) == size:
                return data
    except zstandard.ZstdError as error:
        raise TraceError(f"{what}: cannot be decompressed: {error}") from error
    raise TraceError(f"{what}: damaged: it decompresses to {claimed} bytes and should to {size}")
