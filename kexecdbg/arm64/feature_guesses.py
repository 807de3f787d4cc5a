"""What a decoder takes a CPU to have whose ID registers may be unknown.

A feature whose ID register is unknown is taken as present, and each such guess that matters for the answer is listed in
the ``assumptions``.
"""

from __future__ import annotations

from kexecdbg.arm64.bits import bits
from kexecdbg.arm64.features import FEATURES, has_feature
from kexecdbg.arm64.geometry import ADDRESS_SIZES, GRANULE_4K, GRANULE_16K, GRANULE_64K, Granule
from kexecdbg.arm64.interfaces import RegisterValues

_MMFR0 = "ID_AA64MMFR0_EL1"
_PARANGE_52_BITS = 6

# ID_AA64MMFR0_EL1: lsb of the granule's field for stage 1, for stage 2, and the stage 1 values in order
# (not implemented, implemented, with LPA2).
_GRANULE_ID_FIELDS: dict[str, tuple[int, int, tuple[int, int | None, int | None]]] = {
    GRANULE_4K.name: (28, 40, (15, 0, 1)),
    GRANULE_16K.name: (20, 32, (0, 1, 2)),
    GRANULE_64K.name: (24, 36, (15, 0, None)),
}


class FeatureGuesses:
    """Answers "does the CPU have it?" for a decoder: unknown counts as present and is remembered in words."""

    def __init__(self, registers: RegisterValues) -> None:
        self._registers = registers
        self._assumptions: dict[str, None] = {}

    @property
    def assumptions(self) -> tuple[str, ...]:
        """One sentence for each guess that was needed so far."""
        return tuple(self._assumptions)

    def assume(self, text: str) -> None:
        """Remember an assumption."""
        self._assumptions[text] = None

    def has(self, feature: str) -> bool:
        """Whether the CPU has ``feature``; true, with a remark, when the ID register is unknown."""
        present = has_feature(self._registers, feature)
        if present is None:
            self.assume(f"{FEATURES[feature].register} is unknown: {feature} assumed")
        return present is not False

    def physical_bits(self) -> int:
        """Implemented physical address bits, 32 to 52 (56 with FEAT_D128); 52 when unknown."""
        mmfr0 = self._registers.get(_MMFR0)
        if mmfr0 is None:
            self.assume(f"{_MMFR0} is unknown: 52-bit physical addresses assumed")
            return ADDRESS_SIZES[_PARANGE_52_BITS]
        return ADDRESS_SIZES[min(bits(mmfr0, 3, 0), len(ADDRESS_SIZES) - 1)]

    def granule(self, granule: Granule, stage: int) -> bool:
        """Whether the CPU has ``granule`` at ``stage``."""
        mmfr0 = self._registers.get(_MMFR0)
        return mmfr0 is None or _granule_support(mmfr0, granule, stage) > 0

    def lpa2(self, granule: Granule, stage: int) -> bool:
        """Whether TCR.DS works with ``granule`` at ``stage`` (FEAT_LPA2)."""
        mmfr0 = self._registers.get(_MMFR0)
        if mmfr0 is None:
            self.assume(f"{_MMFR0} is unknown: FEAT_LPA2 assumed, so DS counts")
            return True
        return _granule_support(mmfr0, granule, stage) == 2


def _granule_support(mmfr0: int, granule: Granule, stage: int) -> int:
    """0 not implemented, 1 implemented, 2 implemented with FEAT_LPA2 (Arm ARM, ID_AA64MMFR0_EL1.TGran*)."""
    stage1_lsb, stage2_lsb, stage1_values = _GRANULE_ID_FIELDS[granule.name]
    stage2_value = bits(mmfr0, stage2_lsb + 3, stage2_lsb)
    if stage == 2 and stage2_value != 0:  # 0: as stage 1
        return min(stage2_value, 3) - 1
    value = bits(mmfr0, stage1_lsb + 3, stage1_lsb)
    return stage1_values.index(value) if value in stage1_values else 0
