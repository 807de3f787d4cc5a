"""When two sets of memory attributes for one location are *mismatched* (Arm ARM B2.16)."""

from __future__ import annotations

from dataclasses import dataclass

from kexecdbg.arm64.memory_types import CachePolicy, MemoryType, Shareability
from kexecdbg.checks.finding import Severity


@dataclass(frozen=True)
class Attributes:
    """What decides whether two accesses to one location agree: allocation hints and tags do not.

    Attributes:
        device: ``nGnRE`` and so on, or ``None`` for Normal memory.
        inner, outer: cache policies of Normal memory.
        shareability: as it takes effect.
    """

    device: str | None
    inner: CachePolicy | None
    outer: CachePolicy | None
    shareability: Shareability

    @property
    def text(self) -> str:
        """For instance ``Normal Write-Back, Inner Shareable`` or ``Device-nGnRE``."""
        if self.inner is None or self.outer is None:
            return f"Device-{self.device}"
        if self.inner is self.outer is CachePolicy.NON_CACHEABLE:
            return "Normal Non-cacheable"
        policy = _POLICIES[self.inner]
        if self.inner is not self.outer:
            policy = f"inner {policy}, outer {_POLICIES[self.outer]}"
        return f"Normal {policy}, {self.shareability.text}"


_POLICIES = {
    CachePolicy.NON_CACHEABLE: "Non-cacheable",
    CachePolicy.WRITE_THROUGH: "Write-Through",
    CachePolicy.WRITE_BACK: "Write-Back",
}


def attributes_of(memory_type: MemoryType, shareability: Shareability) -> Attributes:
    """The deciding part of a memory type and an effective shareability."""
    if memory_type.inner is None or memory_type.outer is None:
        return Attributes(memory_type.device, None, None, Shareability.OUTER)
    return Attributes(None, memory_type.inner.policy, memory_type.outer.policy, shareability)


def mismatch(first: Attributes, second: Attributes) -> Severity | None:
    """How bad it is to access one location with both; ``None`` when they agree.

    A note where only the strictness of Device memory differs, or Inner from Outer Shareable, which is the same in
    systems with one shareability domain; a hazard where coherency is lost.
    """
    if first == second:
        return None
    if first.device is not None and second.device is not None:
        return Severity.NOTE
    same_policy = (first.inner, first.outer) == (second.inner, second.outer)
    shareable = {Shareability.INNER, Shareability.OUTER}
    if same_policy and {first.shareability, second.shareability} == shareable:
        return Severity.NOTE
    return Severity.HAZARD
