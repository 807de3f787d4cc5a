"""Architecture features (``FEAT_*``) as the ID registers announce them.

Each answer is three-valued: present, absent, or ``None`` when the ID register could not be read. The caller decides
what unknown means for it and says so to the user. Field positions: Arm ARM D23 (ID_AA64*_EL1).
"""

from __future__ import annotations

from dataclasses import dataclass

from kexecdbg.arm64.bits import bits, signed
from kexecdbg.arm64.interfaces import RegisterValues


@dataclass(frozen=True)
class IdField:
    """A feature is present when the ID register's 4-bit field at ``lsb`` is at least ``minimum``."""

    register: str
    lsb: int
    minimum: int
    is_signed: bool = False

    def present(self, id_value: int) -> bool:
        """Whether ``id_value``, a value of :attr:`register`, announces the feature."""
        value = bits(id_value, self.lsb + 3, self.lsb)
        return (signed(value, 4) if self.is_signed else value) >= self.minimum


_PFR0, _PFR1 = "ID_AA64PFR0_EL1", "ID_AA64PFR1_EL1"
_MMFR0, _MMFR1, _MMFR2 = "ID_AA64MMFR0_EL1", "ID_AA64MMFR1_EL1", "ID_AA64MMFR2_EL1"
_MMFR3, _MMFR4 = "ID_AA64MMFR3_EL1", "ID_AA64MMFR4_EL1"

FEATURES: dict[str, IdField] = {
    "FEAT_ECV": IdField(_MMFR0, 60, 1),
    "FEAT_FGT": IdField(_MMFR0, 56, 1),
    "FEAT_ExS": IdField(_MMFR0, 44, 1),
    "FEAT_LPA": IdField(_MMFR0, 0, 6),
    "FEAT_HCX": IdField(_MMFR1, 40, 1),
    "FEAT_TWED": IdField(_MMFR1, 32, 1),
    "FEAT_XNX": IdField(_MMFR1, 28, 1),
    "FEAT_PAN": IdField(_MMFR1, 20, 1),
    "FEAT_PAN2": IdField(_MMFR1, 20, 2),
    "FEAT_PAN3": IdField(_MMFR1, 20, 3),
    "FEAT_LOR": IdField(_MMFR1, 16, 1),
    "FEAT_HPDS": IdField(_MMFR1, 12, 1),
    "FEAT_HPDS2": IdField(_MMFR1, 12, 2),
    "FEAT_VHE": IdField(_MMFR1, 8, 1),
    "FEAT_VMID16": IdField(_MMFR1, 4, 2),
    "FEAT_HAFDBS": IdField(_MMFR1, 0, 1),
    "FEAT_HAFDBS_dirty": IdField(_MMFR1, 0, 2),
    "FEAT_HAFT": IdField(_MMFR1, 0, 3),
    "FEAT_HDBSS": IdField(_MMFR1, 0, 4),
    "FEAT_CMOW": IdField(_MMFR1, 56, 1),
    "FEAT_TIDCP1": IdField(_MMFR1, 52, 1),
    "FEAT_E0PD": IdField(_MMFR2, 60, 1),
    "FEAT_EVT": IdField(_MMFR2, 56, 1),
    "FEAT_TTL": IdField(_MMFR2, 48, 1),
    "FEAT_S2FWB": IdField(_MMFR2, 40, 1),
    "FEAT_LSE2": IdField(_MMFR2, 32, 1),
    "FEAT_TTST": IdField(_MMFR2, 28, 1),
    "FEAT_NV": IdField(_MMFR2, 24, 1),
    "FEAT_NV2": IdField(_MMFR2, 24, 2),
    "FEAT_LVA": IdField(_MMFR2, 16, 1),
    "FEAT_IESB": IdField(_MMFR2, 12, 1),
    "FEAT_LSMAOC": IdField(_MMFR2, 8, 1),
    "FEAT_UAO": IdField(_MMFR2, 4, 1),
    "FEAT_TTCNP": IdField(_MMFR2, 0, 1),
    "FEAT_D128": IdField(_MMFR3, 32, 1),
    "FEAT_AIE": IdField(_MMFR3, 24, 1),
    "FEAT_S2POE": IdField(_MMFR3, 20, 1),
    "FEAT_S1POE": IdField(_MMFR3, 16, 1),
    "FEAT_S2PIE": IdField(_MMFR3, 12, 1),
    "FEAT_S1PIE": IdField(_MMFR3, 8, 1),
    "FEAT_SCTLR2": IdField(_MMFR3, 4, 1),
    "FEAT_TCR2": IdField(_MMFR3, 0, 1),
    "FEAT_RME": IdField(_PFR0, 52, 1),
    "FEAT_SEL2": IdField(_PFR0, 36, 1),
    "FEAT_SVE": IdField(_PFR0, 32, 1),
    "FEAT_RAS": IdField(_PFR0, 28, 1),
    "FEAT_BTI": IdField(_PFR1, 0, 1),
    "FEAT_SSBS": IdField(_PFR1, 4, 1),
    "FEAT_MTE": IdField(_PFR1, 8, 1),
    "FEAT_MTE2": IdField(_PFR1, 8, 2),
    "FEAT_SME": IdField(_PFR1, 24, 1),
    "FEAT_NMI": IdField(_PFR1, 36, 1),
}


def has_feature(registers: RegisterValues, name: str) -> bool | None:
    """Whether the CPU has the feature ``name`` (``FEAT_VHE``); ``None`` when its ID register is unknown.

    Raises:
        KeyError: ``name`` is not in :data:`FEATURES`.
    """
    id_field = FEATURES[name]
    value = registers.get(id_field.register)
    return None if value is None else id_field.present(value)


def effective_e2h(registers: RegisterValues) -> bool | None:
    """Whether EL2 uses the EL2&0 regime and register layouts: the *effective* HCR_EL2.E2H.

    It is 0 without FEAT_VHE and 1 where ID_AA64MMFR4_EL1.E2H0 is negative, whatever HCR_EL2 reads back (Arm ARM
    D23.2.48, HCR_EL2.E2H; ID_AA64MMFR4_EL1.E2H0). ``None`` when HCR_EL2 is needed and unknown.
    """
    if has_feature(registers, "FEAT_VHE") is False:
        return False
    mmfr4 = registers.get(_MMFR4)
    if mmfr4 is not None and signed(bits(mmfr4, 27, 24), 4) < 0:
        return True
    hcr = registers.get("HCR_EL2")
    return None if hcr is None else bool(bits(hcr, 34, 34))
