"""Physical memory given as raw files, each with the address of its first byte: what JTAG or QEMU's pmemsave saves."""

from __future__ import annotations

import mmap
import os
import stat
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from kexecdbg.arm64.interfaces import PhysicalMemory
from kexecdbg.errors import EnvironmentProblem, MemoryUnreadableError, UsageError

_ADDRESS_BITS = 56
"""The largest physical address size of the architecture (FEAT_D128)."""


@dataclass(frozen=True)
class MemoryFile:
    """A file and the physical address that its first byte has."""

    path: Path
    address: int


def parse_memory_file(text: str) -> MemoryFile:
    """The meaning of ``FILE@ADDRESS``; the last ``@`` counts, so that a path may have one too.

    Raises:
        UsageError: there is no ``@``, or what follows it is no physical address.
    """
    path, at, address = text.rpartition("@")
    if not at or not path:
        raise UsageError(f"--memory {text}: write it as FILE@ADDRESS, for instance ram.bin@0x40000000")
    try:
        value = int(address, 0)
    except ValueError:
        raise UsageError(f"--memory {text}: {address!r} is not an address; write it as 0x40000000") from None
    if not 0 <= value < 1 << _ADDRESS_BITS:
        raise UsageError(f"--memory {text}: {address} is no physical address; they have at most {_ADDRESS_BITS} bits")
    return MemoryFile(Path(path), value)


@dataclass(frozen=True)
class _Mapped:
    start: int
    end: int
    path: Path
    data: mmap.mmap


class MemoryFiles:
    """Files mapped read-only; a context manager that closes them.

    Which addresses are memory at all is not known: what no file holds is unread, not absent, and nothing here has a
    memory map, also when the memory ``behind`` the files does.
    """

    def __init__(self, files: Iterable[MemoryFile], behind: PhysicalMemory | None = None) -> None:
        """Map ``files``; what they do not hold is read from ``behind``.

        Raises:
            EnvironmentProblem: a file cannot be read, or is empty or no regular file.
            UsageError: two files overlap, or one is too large for its address.
        """
        self._behind = behind
        self._files: list[_Mapped] = []
        try:
            for file in files:
                self._files.append(_map(file))
            self._files.sort(key=lambda each: each.start)
            for first, second in zip(self._files, self._files[1:], strict=False):
                if second.start < first.end:
                    raise UsageError(
                        f"--memory {second.path}@{second.start:#x}: it overlaps {first.path}, which holds "
                        f"{first.start:#x}-{first.end - 1:#x}"
                    )
        except (EnvironmentProblem, UsageError):
            self.close()
            raise
        self._starts = [each.start for each in self._files]

    def __enter__(self) -> MemoryFiles:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Unmap the files."""
        for each in self._files:
            each.data.close()

    def read(self, address: int, size: int) -> bytes:
        """Exactly ``size`` bytes at the physical ``address``; MemoryUnreadableError for what was not given."""
        parts: list[bytes] = []
        position, end = address, address + size
        while position < end:
            file = self._find(position)
            if file is None:
                # A read that begins in a file is not continued behind it: the two may be of different times.
                if self._behind is not None and not parts:
                    return self._behind.read(address, size)
                raise MemoryUnreadableError(address, size, "not part of what was given")
            upto = min(end, file.end)
            parts.append(file.data[position - file.start : upto - file.start])
            position = upto
        return b"".join(parts)

    def _find(self, address: int) -> _Mapped | None:
        index = bisect_right(self._starts, address) - 1
        return self._files[index] if index >= 0 and address < self._files[index].end else None


def _map(file: MemoryFile) -> _Mapped:
    try:
        # Not to wait for the other end of a FIFO, nor to map a device.
        if not stat.S_ISREG(file.path.stat().st_mode):
            raise EnvironmentProblem(f"memory {file.path}: not a regular file")
        with file.path.open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            if not size:
                raise EnvironmentProblem(f"memory {file.path}: the file is empty")
            if file.address + size > 1 << _ADDRESS_BITS:
                raise UsageError(f"--memory {file.path}@{file.address:#x}: the file reaches beyond all addresses")
            data = mmap.mmap(stream.fileno(), size, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:
        raise EnvironmentProblem(f"memory {file.path}: {getattr(error, 'strerror', None) or error}") from None
    return _Mapped(file.address, file.address + size, file.path, data)
