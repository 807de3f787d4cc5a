"""Colour and line width: the only knowledge of terminals."""

from __future__ import annotations

import os
import textwrap
from dataclasses import dataclass
from typing import TextIO

WIDTH = 80
"""Columns that text is laid out for."""


@dataclass(frozen=True)
class Style:
    """How to emphasise text; without colour, plain text that says the same."""

    colour: bool = False

    def bold(self, text: str) -> str:
        """Headings and names."""
        return self._wrap(text, "1")

    def good(self, text: str) -> str:
        """What is right."""
        return self._wrap(text, "32")

    def bad(self, text: str) -> str:
        """What is wrong."""
        return self._wrap(text, "1;31")

    def warn(self, text: str) -> str:
        """What may be wrong."""
        return self._wrap(text, "33")

    def dim(self, text: str) -> str:
        """What is there for completeness."""
        return self._wrap(text, "2")

    def _wrap(self, text: str, code: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self.colour else text


def style_for(stream: TextIO) -> Style:
    """Colour only on a terminal, and not with NO_COLOR set or TERM=dumb."""
    wanted = stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return Style(colour=wanted)


def is_ascii(stream: TextIO | None) -> bool:
    """Whether line-drawing characters cannot be printed: the encoding of ``stream`` or of the locale is not UTF-8.

    Python itself writes UTF-8 in the C locale (PEP 540); the terminal may not know it.
    """
    variables = ("LC_ALL", "LC_CTYPE", "LANG")
    locale = next((value for name in variables if (value := os.environ.get(name))), "")
    encodings = (getattr(stream, "encoding", None) or "", locale.partition(".")[2].partition("@")[0])
    return any(encoding.lower().replace("-", "") != "utf8" for encoding in encodings)


def hanging(label: str, text: str, indent: int, style: Style | None = None) -> str:
    """``text`` wrapped to the line width, ``label`` before it, further lines indented to column ``indent``."""
    lines = textwrap.wrap(text, WIDTH - indent, break_long_words=False, break_on_hyphens=False) or [""]
    shown = style.bold(label) if style else label
    head = shown + " " * max(1, indent - len(label))
    return "\n".join([head + lines[0], *(" " * indent + line for line in lines[1:])])
