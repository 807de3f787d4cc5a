"""An initramfs as the kernel unpacks it: a cpio archive of the "newc" form.

Linux Documentation/driver-api/early-userspace/buffer-format.rst: 110 bytes of ASCII header, the name and the contents
each padded to 4 bytes; archives may follow one another, and a later one overrides what an earlier one brought.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

_TRAILER = "TRAILER!!!"
_ALIGNMENT = 4


@dataclass(frozen=True)
class Entry:
    """One file of the archive.

    Attributes:
        name: path without a leading slash.
        mode: file type and permissions, as ``st_mode``.
        data: contents of a file, target of a symbolic link.
        device: major and minor number of a device node.
    """

    name: str
    mode: int
    data: bytes = b""
    device: tuple[int, int] = (0, 0)


def regular(name: str, data: bytes, permissions: int = 0o644) -> Entry:
    """A regular file."""
    return Entry(name, stat.S_IFREG | permissions, data)


def executable(name: str, data: bytes) -> Entry:
    """A regular file that may be executed."""
    return regular(name, data, 0o755)


def directory(name: str) -> Entry:
    """A directory."""
    return Entry(name, stat.S_IFDIR | 0o755)


def character_device(name: str, major: int, minor: int) -> Entry:
    """A character device node, for root only."""
    return Entry(name, stat.S_IFCHR | 0o600, device=(major, minor))


def pack(entries: Iterable[Entry]) -> bytes:
    """The archive of ``entries``, in their order, each after the directories that lead to it; owned by root, time 0."""
    archive = bytearray()
    inode = 0
    for inode, entry in enumerate(_with_parents(entries), start=1):
        archive += _record(entry, inode)
    archive += _record(Entry(_TRAILER, 0), inode + 1)
    return bytes(archive)


def concatenate(*archives: bytes) -> bytes:
    """Several archives, each of them compressed or not, as the kernel takes them one after the other."""
    return b"".join(archive + _padding(len(archive)) for archive in archives)


def _with_parents(entries: Iterable[Entry]) -> Iterator[Entry]:
    known = set[str]()
    for entry in entries:
        parents = [str(parent) for parent in PurePosixPath(entry.name).parents][-2::-1]
        for entry_or_parent in (*map(directory, parents), entry):
            # The kernel cannot open a file in a directory that is still to come.
            if entry_or_parent.name not in known or not stat.S_ISDIR(entry_or_parent.mode):
                known.add(entry_or_parent.name)
                yield entry_or_parent


def _record(entry: Entry, inode: int) -> bytes:
    name = entry.name.encode() + b"\0"
    fields = (
        inode, entry.mode, 0, 0,  # uid, gid
        2 if stat.S_ISDIR(entry.mode) else 1, 0,  # links, modification time
        len(entry.data), 0, 0, *entry.device, len(name), 0,  # the device it lies on; no checksum in this form
    )  # fmt: skip
    head = b"070701" + b"".join(b"%08X" % field for field in fields) + name
    return head + _padding(len(head)) + entry.data + _padding(len(entry.data))


def _padding(size: int) -> bytes:
    return bytes(-size % _ALIGNMENT)
