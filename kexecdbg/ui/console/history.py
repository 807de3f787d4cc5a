"""Where the lines of earlier consoles are kept: a file that only its user can read."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from prompt_toolkit.history import FileHistory, History, InMemoryHistory

_FOLDER_MODE, _FILE_MODE = 0o700, 0o600


def history_path() -> Path:
    """``$XDG_STATE_HOME/kexecdbg/console-history`` (XDG Base Directory Specification: ~/.local/state by default).

    It begins with ``~`` for a user without a home folder.
    """
    home = os.environ.get("XDG_STATE_HOME", "")
    base = home if os.path.isabs(home) else os.path.expanduser("~/.local/state")
    return Path(base) / "kexecdbg" / "console-history"


class _ForgivingFileHistory(FileHistory):
    """A full disk costs the line in the file, not the console."""

    def store_string(self, string: str) -> None:
        try:
            super().store_string(string)
        except OSError:
            return

    def load_history_strings(self) -> Iterable[str]:
        try:
            return list(super().load_history_strings())
        except OSError:
            return []


def open_history(path: Path) -> tuple[History, str]:
    """The history at ``path``, and why it is not kept there; empty when it is."""
    if not path.is_absolute():
        return InMemoryHistory(), "the history is not kept: there is no home folder; XDG_STATE_HOME=FOLDER gives one"
    try:
        path.parent.mkdir(_FOLDER_MODE, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _FILE_MODE)
        try:
            os.fchmod(descriptor, _FILE_MODE)
        finally:
            os.close(descriptor)
    except OSError as error:
        return InMemoryHistory(), f"the history is not kept: {path}: {error.strerror}"
    return _ForgivingFileHistory(str(path)), ""
