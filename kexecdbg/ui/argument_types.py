"""Numbers on command lines."""

from __future__ import annotations

import argparse

_LONGEST = float((1 << 31) // 1000)
"""Seconds that poll(2) can wait, which counts milliseconds in an int: 24 days."""


def positive_seconds(text: str) -> float:
    """What ``--timeout`` is given: above 0; more than can be waited for is as much as can be."""
    try:
        value = float(text)
    except ValueError:
        value = 0
    if not value > 0:
        raise argparse.ArgumentTypeError(f"{text}: give a number of seconds above 0")
    return min(value, _LONGEST)


def positive_count(text: str) -> int:
    """What ``--steps`` is given: at least 1."""
    return _whole_number(text, 1)


def count(text: str) -> int:
    """What ``--limit`` is given: 0 or more."""
    return _whole_number(text, 0)


def _whole_number(text: str, least: int) -> int:
    try:
        value = int(text)
    except ValueError:
        value = least - 1
    if value < least:
        raise argparse.ArgumentTypeError(f"{text}: give a number, at least {least}")
    return value
