"""The last verdict of this debug session, for commands that come after it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import gdb

if TYPE_CHECKING:
    from kexecdbg.checks.verdict import Verdict

_last: Verdict | None = None


def remember(verdict: Verdict) -> None:
    """Keep ``verdict`` until the machine ends or another one replaces it."""
    global _last
    _last = verdict


def last() -> Verdict | None:
    """The last verdict, if the machine it was about is still there."""
    return _last


def _forget(event: gdb.Event) -> None:
    global _last
    _last = None


gdb.events.exited.connect(_forget)
