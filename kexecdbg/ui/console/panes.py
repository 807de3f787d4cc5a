"""The panes of the full-screen view: their keys, titles and texts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from kexecdbg.ui.console.console import Console

SIDE_BY_SIDE_COLUMNS = 120
"""From this width on all panes are shown at once."""


@dataclass(frozen=True)
class Pane:
    """One pane.

    Attributes:
        key: the function key that shows it.
        title: its heading.
        text: what it shows.
    """

    key: str
    title: str
    text: Callable[[Console], str]


PANES = (
    Pane("f2", "changed", Console.changed_text),
    Pane("f3", "walk", Console.walk_text),
    Pane("f4", "code", Console.code_text),
    Pane("f5", "verdict", Console.verdict_text),
)


def tab_line(shown: Pane | None) -> str:
    """The panes' keys and titles, the one that is shown in brackets; all of them are with ``None``."""
    titles = (f"{pane.key.upper()} {pane.title}" for pane in PANES)
    return " ".join(
        f"[{title}]" if shown in (None, pane) else f" {title} " for pane, title in zip(PANES, titles, strict=True)
    )
