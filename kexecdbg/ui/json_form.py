"""What all JSON documents have in common; their keys are kept for ever."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]


def number(value: int | None) -> str | None:
    """An address or register value as JSON shows it: ``"0x..."``, or null when it is unknown."""
    return None if value is None else f"{value:#x}"
