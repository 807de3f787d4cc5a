"""Numbers and nouns in sentences."""

from __future__ import annotations

_UNITS = (("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10))


def counted(number: int, one: str, several: str = "") -> str:
    """``1 page``, ``7,290 pages``; ``several`` where the plural is not made with an s."""
    return f"{number:,} {one if number == 1 else several or one + 's'}"


def about(size: int) -> str:
    """A size in two or three digits: ``4 KiB``, ``28.5 MiB``."""
    for unit, shift in _UNITS:
        if size >> shift:
            amount = size / (1 << shift)
            return f"{amount:.0f} {unit}" if amount >= 100 or amount == int(amount) else f"{amount:.1f} {unit}"
    return f"{size} B"


def with_article(noun: str) -> str:
    """``an Address size fault``."""
    return f"{'an' if noun[0] in 'AEIOaeio' else 'a'} {noun}"
