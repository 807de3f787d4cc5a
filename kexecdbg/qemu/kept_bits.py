"""What QEMU keeps of a value that is written to a system register: not the bits of features that the CPU does not have.

QEMU's log does not show what a register holds after a write. The bits are those of sctlr_write(), do_hcr_write() and
vbar_write() in QEMU's target/arm/helper.c, from 7.2 to 10.0; the architecture has most of them as RES0.
"""

from __future__ import annotations

from kexecdbg.arm64.bits import mask
from kexecdbg.arm64.features import has_feature
from kexecdbg.arm64.interfaces import RegisterValues

_SCTLR_ITFSB, _SCTLR_TCF0, _SCTLR_TCF = 1 << 37, 0b11 << 38, 0b11 << 40
_SCTLR_ATA0, _SCTLR_ATA = 1 << 42, 1 << 43
_SCTLR_MTE_EL3 = _SCTLR_ITFSB | _SCTLR_TCF | _SCTLR_ATA
_SCTLR_MTE = _SCTLR_MTE_EL3 | _SCTLR_TCF0 | _SCTLR_ATA0
_HCR_E2H, _HCR_TLOR, _HCR_APK_API, _HCR_FWB = 1 << 34, 1 << 35, 0b11 << 40, 1 << 46
_HCR_MTE = 0b111 << 56
"""ATA, DCT and TID5."""

_NEEDS: dict[str, tuple[tuple[int, str], ...]] = {
    "SCTLR_EL1": ((_SCTLR_MTE, "FEAT_MTE2"),),
    "SCTLR_EL2": ((_SCTLR_MTE, "FEAT_MTE2"),),
    "SCTLR_EL3": ((_SCTLR_MTE_EL3, "FEAT_MTE2"),),
    "HCR_EL2": (
        (_HCR_E2H, "FEAT_VHE"),
        (_HCR_TLOR, "FEAT_LOR"),
        (_HCR_APK_API, "FEAT_PAuth"),
        (_HCR_FWB, "FEAT_S2FWB"),
        (_HCR_MTE, "FEAT_MTE2"),
    ),
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
        if value & needing and has_feature(registers, feature) is False:
            value &= ~needing
    return value
