"""What QEMU keeps of a value that is written to a system register: not the bits of features that the CPU does not have.

QEMU's log does not show what a register holds after a write. The bits are those of sctlr_write(), do_hcr_write() and
vbar_write() in QEMU's target/arm/helper.c, from 7.2 to 10.0; the architecture has most of them as RES0.
"""

from __future__ import annotations

from dataclasses import dataclass

from kexecdbg.arm64.bits import bits, mask
from kexecdbg.arm64.interfaces import RegisterValues

_ID_FIELD_MSB = 3


@dataclass(frozen=True)
class _Feature:
    """A feature of the CPU: there if one of the ID fields (register, least significant bit) is ``least`` or more."""

    fields: tuple[tuple[str, int], ...]
    least: int = 1

    def is_missing(self, registers: RegisterValues) -> bool:
        """Whether the CPU is known not to have it."""
        values = [(registers.get(name), lsb) for name, lsb in self.fields]
        return all(value is not None and bits(value, lsb + _ID_FIELD_MSB, lsb) < self.least for value, lsb in values)


_MTE = _Feature((("ID_AA64PFR1_EL1", 8),), least=2)
_VHE = _Feature((("ID_AA64MMFR1_EL1", 8),))
_LOR = _Feature((("ID_AA64MMFR1_EL1", 16),))
_S2FWB = _Feature((("ID_AA64MMFR2_EL1", 40),))
_PAUTH = _Feature((*(("ID_AA64ISAR1_EL1", lsb) for lsb in (4, 8, 24, 28)), ("ID_AA64ISAR2_EL1", 12)))

_SCTLR_ITFSB, _SCTLR_TCF0, _SCTLR_TCF = 1 << 37, 0b11 << 38, 0b11 << 40
_SCTLR_ATA0, _SCTLR_ATA = 1 << 42, 1 << 43
_SCTLR_MTE_EL3 = _SCTLR_ITFSB | _SCTLR_TCF | _SCTLR_ATA
_SCTLR_MTE = _SCTLR_MTE_EL3 | _SCTLR_TCF0 | _SCTLR_ATA0
_HCR_E2H, _HCR_TLOR, _HCR_APK_API, _HCR_FWB = 1 << 34, 1 << 35, 0b11 << 40, 1 << 46
_HCR_MTE = 0b111 << 56
"""ATA, DCT and TID5."""

_NEEDS: dict[str, tuple[tuple[int, _Feature], ...]] = {
    "SCTLR_EL1": ((_SCTLR_MTE, _MTE),),
    "SCTLR_EL2": ((_SCTLR_MTE, _MTE),),
    "SCTLR_EL3": ((_SCTLR_MTE_EL3, _MTE),),
    "HCR_EL2": ((_HCR_E2H, _VHE), (_HCR_TLOR, _LOR), (_HCR_APK_API, _PAUTH), (_HCR_FWB, _S2FWB), (_HCR_MTE, _MTE)),
}
"""Bits of a register, and the feature without which they are dropped."""
_VBAR_UNUSED = mask(5)


def kept_of(register: str, value: int, registers: RegisterValues) -> int:
    """What ``register`` (canonical name) holds after ``value`` was written to it; all of it as far as nothing is known.

    Args:
        registers: those of the same CPU, its ID registers among them.
    """
    if register.startswith("VBAR_EL"):
        return value & ~_VBAR_UNUSED
    for needing, feature in _NEEDS.get(register, ()):
        if value & needing and feature.is_missing(registers):
            value &= ~needing
    return value
