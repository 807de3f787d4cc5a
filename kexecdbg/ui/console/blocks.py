"""GDB commands that go on over several lines, up to ``end``: ``commands``, ``define``, ``python``."""

from __future__ import annotations

from collections.abc import Sequence

_WITH_ARGUMENTS = frozenset({"commands", "define", "document", "if", "while", "stepping", "while-stepping"})
_WITHOUT_ARGUMENTS = frozenset({"python", "py", "guile", "gu"})
"""With code behind them on the same line they are complete."""
_PROSE = frozenset({"document"})


def is_complete(lines: Sequence[str]) -> bool:
    """Whether ``lines``, the first a command, need no further line."""
    open_blocks: list[str] = []
    for line in lines:
        words = line.split()
        if not words:
            continue
        if words == ["end"] and open_blocks:
            open_blocks.pop()
        elif not (open_blocks and open_blocks[-1] in _PROSE | _WITHOUT_ARGUMENTS) and _opens(words):
            open_blocks.append(words[0])
    return not open_blocks


def _opens(words: Sequence[str]) -> bool:
    return words[0] in _WITH_ARGUMENTS or (words[0] in _WITHOUT_ARGUMENTS and len(words) == 1)
