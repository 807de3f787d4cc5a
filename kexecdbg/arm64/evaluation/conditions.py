"""Condition codes (Arm ARM C1.2.4) on flags that may be unknown."""

from __future__ import annotations

from kexecdbg.arm64.bits import bit


def condition_holds(condition: int, flags: int | None) -> bool | None:
    """Whether ``condition`` (4 bits) holds for the flags NZCV (bit 3 down); ``None`` when the flags are unknown."""
    if condition >> 1 == 0b111:
        return True
    if flags is None:
        return None
    n, z, c, v = bit(flags, 3), bit(flags, 2), bit(flags, 1), bit(flags, 0)
    holds = (z, c, n, v, c and not z, n == v, n == v and not z)[condition >> 1]
    return bool(holds) != bool(condition & 1)
