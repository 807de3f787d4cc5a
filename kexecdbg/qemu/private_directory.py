"""Private directories that do not outlive their owners, even when all of them were killed.

The owner holds a lock on its directory; the kernel drops it with the owner. Whoever makes a directory next removes
those that nobody holds any more.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from pathlib import Path
from types import TracebackType

_PREFIX = "kexecdbg-"
_MARK = ".made-by-kexecdbg"
"""A file in every directory of ours: no other one is ever removed, whatever its name."""


class PrivateDirectory:
    """A fresh directory (mode 0700) in ``parent``; it goes with the context, or with :meth:`remove`.

    A process that inherits the descriptor :attr:`lock` keeps the directory too.

    Attributes:
        path: the directory.
        lock: descriptor that holds the lock.
    """

    def __init__(self, parent: str) -> None:
        remove_abandoned(parent)
        self.path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
        self.lock = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(self.lock, fcntl.LOCK_EX)
        (self.path / _MARK).touch()

    def remove(self) -> None:
        """Remove the directory with all that is in it; harmless when it is gone already."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self.lock >= 0:
            os.close(self.lock)
            self.lock = -1

    def __enter__(self) -> Path:
        return self.path

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()


def remove_abandoned(parent: str) -> None:
    """Remove the directories of ours in ``parent`` that no process holds."""
    for path in Path(parent).glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):  # somebody else's, or another process was faster
            _remove_if_abandoned(path)


def _remove_if_abandoned(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        # The mark appears only once its owner has the lock, so a directory that is being made is not touched.
        if os.fstat(descriptor).st_uid == os.geteuid() and (path / _MARK).exists():
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(path, ignore_errors=True)
    finally:
        os.close(descriptor)
