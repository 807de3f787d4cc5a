"""Memory types and shareability: MAIR_ELx bytes, table walk attributes, combination of two stages.

Sources: Arm ARM D24.2.114 (MAIR_EL1), D8.6 (memory attributes); pseudocode ``MAIRDecode``, ``WalkMemAttrs``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from kexecdbg.arm64.bits import bit, bits


class CachePolicy(Enum):
    """How Normal memory is cached, ordered from the weakest: combining two stages takes the smaller."""

    NON_CACHEABLE = 0
    WRITE_THROUGH = 1
    WRITE_BACK = 2


_POLICY_TEXT = {
    CachePolicy.NON_CACHEABLE: "Non-cacheable",
    CachePolicy.WRITE_THROUGH: "Write-Through",
    CachePolicy.WRITE_BACK: "Write-Back",
}


class Shareability(Enum):
    """The SH field of a descriptor or of TCR_ELx."""

    NONE = 0
    RESERVED = 1
    OUTER = 2
    INNER = 3

    @property
    def text(self) -> str:
        """``Non-shareable``, ``Outer Shareable``, ``Inner Shareable`` or ``reserved shareability``."""
        return _SHAREABILITY_TEXT[self]


_SHAREABILITY_TEXT = {
    Shareability.NONE: "Non-shareable",
    Shareability.RESERVED: "reserved shareability",
    Shareability.OUTER: "Outer Shareable",
    Shareability.INNER: "Inner Shareable",
}


@dataclass(frozen=True)
class Cacheability:
    """Policy and allocation hints of one cache domain, inner or outer."""

    policy: CachePolicy
    read_allocate: bool = False
    write_allocate: bool = False
    transient: bool = False

    @property
    def text(self) -> str:
        """For instance ``Write-Back RA WA`` or ``Non-cacheable``."""
        if self.policy is CachePolicy.NON_CACHEABLE:
            return _POLICY_TEXT[self.policy]
        hints = [" RA" if self.read_allocate else "", " WA" if self.write_allocate else ""]
        return _POLICY_TEXT[self.policy] + "".join(hints) + (" transient" if self.transient else "")


# Device types in order of strictness; the index is the ``dd`` field of MAIR and of stage 2 MemAttr.
DEVICE_TYPES = ("nGnRnE", "nGnRE", "nGRE", "GRE")


@dataclass(frozen=True)
class MemoryType:
    """A memory type: Device of some kind, or Normal with inner and outer cacheability.

    Attributes:
        device: one of :data:`DEVICE_TYPES`, or ``None`` for Normal memory.
        inner, outer: cacheability of Normal memory, ``None`` for Device.
        tagged: Allocation Tags (FEAT_MTE2).
        xs: the XS attribute (FEAT_XS).
        predictable: false for an encoding that the architecture leaves UNPREDICTABLE.
    """

    device: str | None = None
    inner: Cacheability | None = None
    outer: Cacheability | None = None
    tagged: bool = False
    xs: bool = True
    predictable: bool = True

    @property
    def is_device(self) -> bool:
        """Whether it is Device memory."""
        return self.device is not None

    @property
    def is_cacheable(self) -> bool:
        """Whether it is Normal memory that either cache domain may hold."""
        halves = (self.inner, self.outer)
        return any(half is not None and half.policy is not CachePolicy.NON_CACHEABLE for half in halves)

    @property
    def text(self) -> str:
        """For instance ``Device-nGnRE``, ``Normal Write-Back RA WA``, ``Normal Non-cacheable``."""
        if not self.predictable:
            return "reserved memory type"
        if self.inner is None or self.outer is None:
            return f"Device-{self.device}"
        if self.inner == self.outer:
            text = f"Normal {self.inner.text}"
        else:
            text = f"Normal inner {self.inner.text}, outer {self.outer.text}"
        return text + (" Tagged" if self.tagged else "")


_NON_CACHEABLE = Cacheability(CachePolicy.NON_CACHEABLE)
WRITE_BACK_RA_WA = Cacheability(CachePolicy.WRITE_BACK, read_allocate=True, write_allocate=True)
_WRITE_THROUGH_RA = Cacheability(CachePolicy.WRITE_THROUGH, read_allocate=True)

NORMAL_NON_CACHEABLE = MemoryType(inner=_NON_CACHEABLE, outer=_NON_CACHEABLE)
NORMAL_WRITE_BACK = MemoryType(inner=WRITE_BACK_RA_WA, outer=WRITE_BACK_RA_WA, xs=False)
NORMAL_WRITE_THROUGH = MemoryType(inner=_WRITE_THROUGH_RA, outer=_WRITE_THROUGH_RA)
DEVICE_NGNRNE = MemoryType(device=DEVICE_TYPES[0])
_UNPREDICTABLE = MemoryType(device=DEVICE_TYPES[0], predictable=False)

# The bytes whose inner half is 0 and that still mean Normal memory (FEAT_XS, FEAT_MTE2).
_SPECIAL_BYTES: dict[int, MemoryType] = {
    0x40: MemoryType(inner=_NON_CACHEABLE, outer=_NON_CACHEABLE, xs=False),
    0xA0: MemoryType(inner=_WRITE_THROUGH_RA, outer=_WRITE_THROUGH_RA, xs=False),
    0xF0: MemoryType(inner=WRITE_BACK_RA_WA, outer=WRITE_BACK_RA_WA, tagged=True, xs=False),
}

# IRGN and ORGN of TCR_ELx and VTCR_EL2.
_REGION_ATTRIBUTES = (
    _NON_CACHEABLE,
    WRITE_BACK_RA_WA,
    _WRITE_THROUGH_RA,
    Cacheability(CachePolicy.WRITE_BACK, read_allocate=True),
)


def _mair_half(nibble: int) -> Cacheability:
    """One half of a MAIR byte for Normal memory, pseudocode ``DecodeLDFAttr``."""
    if nibble == 0b0100:
        return _NON_CACHEABLE
    policy = CachePolicy.WRITE_BACK if bit(nibble, 2) else CachePolicy.WRITE_THROUGH
    return Cacheability(policy, bool(bit(nibble, 1)), bool(bit(nibble, 0)), transient=not bit(nibble, 3))


def _build_mair_byte(byte: int) -> MemoryType:
    outer, inner = bits(byte, 7, 4), bits(byte, 3, 0)
    if outer == 0:
        if bit(inner, 1):
            return _UNPREDICTABLE
        return MemoryType(device=DEVICE_TYPES[inner >> 2], xs=not bit(inner, 0))
    if inner == 0:
        return _SPECIAL_BYTES.get(byte, _UNPREDICTABLE)
    halves = _mair_half(inner), _mair_half(outer)
    write_back = all(half.policy is CachePolicy.WRITE_BACK for half in halves)
    return MemoryType(inner=halves[0], outer=halves[1], xs=not write_back)


_MAIR_BYTES = tuple(_build_mair_byte(byte) for byte in range(256))


def memory_type_of_mair_byte(byte: int) -> MemoryType:
    """The memory type of one MAIR_ELx byte, 0 to 255 (Arm ARM, MAIR_EL1.Attr; pseudocode ``MAIRDecode``)."""
    return _MAIR_BYTES[byte & 0xFF]


def walk_memory_type(orgn: int, irgn: int) -> MemoryType:
    """The memory type of table walks from the 2-bit ORGN and IRGN fields (pseudocode ``WalkMemAttrs``)."""
    inner, outer = _REGION_ATTRIBUTES[irgn & 3], _REGION_ATTRIBUTES[orgn & 3]
    write_back = all(half.policy is CachePolicy.WRITE_BACK for half in (inner, outer))
    return MemoryType(inner=inner, outer=outer, xs=not write_back)


def effective_shareability(memory_type: MemoryType, shareability: Shareability) -> Shareability:
    """The shareability that counts: Device and Normal Non-cacheable memory is always Outer Shareable.

    Pseudocode ``EffectiveShareability``; it is what PAR_EL1.SH reports.
    """
    if memory_type.is_device or not memory_type.is_cacheable:
        return Shareability.OUTER
    return shareability


def combine_stages(stage1: MemoryType, mem_attr: int, *, fwb: bool) -> MemoryType:
    """The memory type of stage 1 memory under a stage 2 leaf.

    Pseudocode ``S2CombineS1MemAttrs``, ``AArch64.S2ApplyFWBMemAttrs``.

    Args:
        stage1: the stage 1 type.
        mem_attr: MemAttr[3:0] of the stage 2 leaf, descriptor bits [5:2].
        fwb: HCR_EL2.FWB (FEAT_S2FWB), which gives MemAttr another meaning.
    """
    if fwb:
        return _forced(stage1, mem_attr)
    if mem_attr >> 2 == 0:
        return _stricter_device(stage1, mem_attr & 3)
    if stage1.inner is None or stage1.outer is None:
        return stage1
    inner, outer = mem_attr & 3, mem_attr >> 2
    if inner == 0:
        return _UNPREDICTABLE
    return MemoryType(
        inner=_weaker(stage1.inner, CachePolicy(inner - 1)),
        outer=_weaker(stage1.outer, CachePolicy(outer - 1)),
        tagged=stage1.tagged and inner == outer == 3,
        xs=stage1.xs,
        predictable=stage1.predictable,
    )


def _forced(stage1: MemoryType, mem_attr: int) -> MemoryType:
    """Stage 2 with FEAT_S2FWB; MemAttr[3] is not an attribute."""
    low = mem_attr & 3
    if not mem_attr & 4:
        return _stricter_device(stage1, low)
    if low == 0:
        return _UNPREDICTABLE
    if low == 1:
        return stage1 if stage1.is_device else NORMAL_NON_CACHEABLE
    if low == 3:
        return stage1
    halves = [
        Cacheability(CachePolicy.WRITE_BACK, half.read_allocate, half.write_allocate, half.transient)
        if half is not None and half.policy is not CachePolicy.NON_CACHEABLE
        else WRITE_BACK_RA_WA
        for half in (stage1.inner, stage1.outer)
    ]
    return MemoryType(inner=halves[0], outer=halves[1], tagged=stage1.tagged, xs=False)


def _stricter_device(stage1: MemoryType, device: int) -> MemoryType:
    """Device memory of the stricter of two types; Normal memory is less strict than any."""
    if stage1.device is not None:
        device = min(device, DEVICE_TYPES.index(stage1.device))
    return MemoryType(device=DEVICE_TYPES[device])


def _weaker(half: Cacheability, policy: CachePolicy) -> Cacheability:
    """The weaker policy; the allocation hints are stage 1's."""
    weaker = policy if policy.value < half.policy.value else half.policy
    if weaker is CachePolicy.NON_CACHEABLE:
        return _NON_CACHEABLE
    return Cacheability(weaker, half.read_allocate, half.write_allocate, half.transient)


def combine_shareability(first: Shareability, second: Shareability) -> Shareability:
    """Shareability under two stages: outer beats inner beats none (pseudocode ``S2CombineS1Shareability``)."""
    for strongest in (Shareability.OUTER, Shareability.INNER):
        if strongest in (first, second):
            return strongest
    return Shareability.NONE
