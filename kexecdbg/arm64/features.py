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


_PFR0, _PFR1, _PFR2 = "ID_AA64PFR0_EL1", "ID_AA64PFR1_EL1", "ID_AA64PFR2_EL1"
_MMFR0, _MMFR1, _MMFR2 = "ID_AA64MMFR0_EL1", "ID_AA64MMFR1_EL1", "ID_AA64MMFR2_EL1"
_MMFR3, _MMFR4 = "ID_AA64MMFR3_EL1", "ID_AA64MMFR4_EL1"
_ISAR0, _ISAR1, _ISAR2 = "ID_AA64ISAR0_EL1", "ID_AA64ISAR1_EL1", "ID_AA64ISAR2_EL1"
_DFR0, _DFR1, _DFR2 = "ID_AA64DFR0_EL1", "ID_AA64DFR1_EL1", "ID_AA64DFR2_EL1"

FEATURES: dict[str, IdField] = {
    "FEAT_ECV": IdField(_MMFR0, 60, 1),
    "FEAT_FGT": IdField(_MMFR0, 56, 1),
    "FEAT_FGT2": IdField(_MMFR0, 56, 2),
    "FEAT_ExS": IdField(_MMFR0, 44, 1),
    "FEAT_LPA": IdField(_MMFR0, 0, 6),
    "FEAT_ASID16": IdField(_MMFR0, 4, 2),
    "FEAT_CMOW": IdField(_MMFR1, 56, 1),
    "FEAT_TIDCP1": IdField(_MMFR1, 52, 1),
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
    "FEAT_E0PD": IdField(_MMFR2, 60, 1),
    "FEAT_EVT": IdField(_MMFR2, 56, 1),
    "FEAT_EVT_TTLBxS": IdField(_MMFR2, 56, 2),
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
    "FEAT_ADERR": IdField(_MMFR3, 56, 2),
    "FEAT_ANERR": IdField(_MMFR3, 44, 2),
    "FEAT_D128": IdField(_MMFR3, 32, 1),
    "FEAT_MEC": IdField(_MMFR3, 28, 1),
    "FEAT_AIE": IdField(_MMFR3, 24, 1),
    "FEAT_S2POE": IdField(_MMFR3, 20, 1),
    "FEAT_S1POE": IdField(_MMFR3, 16, 1),
    "FEAT_S2PIE": IdField(_MMFR3, 12, 1),
    "FEAT_S1PIE": IdField(_MMFR3, 8, 1),
    "FEAT_SCTLR2": IdField(_MMFR3, 4, 1),
    "FEAT_TCR2": IdField(_MMFR3, 0, 1),
    "FEAT_SRMASK": IdField(_MMFR4, 44, 1),
    "FEAT_CSV2_2": IdField(_PFR0, 56, 2),
    "FEAT_RME": IdField(_PFR0, 52, 1),
    "FEAT_DIT": IdField(_PFR0, 48, 1),
    "FEAT_AMUv1": IdField(_PFR0, 44, 1),
    "FEAT_AMUv1p1": IdField(_PFR0, 44, 2),
    "FEAT_SEL2": IdField(_PFR0, 36, 1),
    "FEAT_SVE": IdField(_PFR0, 32, 1),
    "FEAT_RAS": IdField(_PFR0, 28, 1),
    "FEAT_EL3": IdField(_PFR0, 12, 1),
    "FEAT_EL2": IdField(_PFR0, 8, 1),
    "FEAT_AA32EL2": IdField(_PFR0, 8, 2),
    "FEAT_AA32EL1": IdField(_PFR0, 4, 2),
    "FEAT_AA32EL0": IdField(_PFR0, 0, 2),
    "FEAT_DoubleFault2": IdField(_PFR1, 56, 1),
    "FEAT_MTE4": IdField(_PFR1, 52, 1),
    "FEAT_THE": IdField(_PFR1, 48, 1),
    "FEAT_GCS": IdField(_PFR1, 44, 1),
    "FEAT_NMI": IdField(_PFR1, 36, 1),
    "FEAT_SME": IdField(_PFR1, 24, 1),
    "FEAT_MTE": IdField(_PFR1, 8, 1),
    "FEAT_MTE2": IdField(_PFR1, 8, 2),
    "FEAT_MTE3": IdField(_PFR1, 8, 3),
    "FEAT_SSBS": IdField(_PFR1, 4, 1),
    "FEAT_BTI": IdField(_PFR1, 0, 1),
    "FEAT_FPMR": IdField(_PFR2, 32, 1),
    "FEAT_MTE_STORE_ONLY": IdField(_PFR2, 4, 1),
    "FEAT_TLBIRANGE": IdField(_ISAR0, 56, 2),
    "FEAT_LS64": IdField(_ISAR1, 60, 1),
    "FEAT_LS64_V": IdField(_ISAR1, 60, 2),
    "FEAT_LS64_ACCDATA": IdField(_ISAR1, 60, 3),
    "FEAT_XS": IdField(_ISAR1, 56, 1),
    "FEAT_SPECRES": IdField(_ISAR1, 40, 1),
    "FEAT_SYSREG128": IdField(_ISAR2, 32, 1),
    "FEAT_MOPS": IdField(_ISAR2, 16, 1),
    "FEAT_BRBE": IdField(_DFR0, 52, 1),
    "FEAT_MTPMU": IdField(_DFR0, 48, 1, is_signed=True),
    "FEAT_TRBE": IdField(_DFR0, 44, 1),
    "FEAT_TRF": IdField(_DFR0, 40, 1),
    "FEAT_SPE": IdField(_DFR0, 32, 1),
    "FEAT_SPEv1p2": IdField(_DFR0, 32, 3),
    "FEAT_PMUv3_SS": IdField(_DFR0, 16, 1),
    "FEAT_PMUv3": IdField(_DFR0, 8, 1, is_signed=True),
    "FEAT_PMUv3p1": IdField(_DFR0, 8, 4, is_signed=True),
    "FEAT_PMUv3p5": IdField(_DFR0, 8, 6, is_signed=True),
    "FEAT_PMUv3p7": IdField(_DFR0, 8, 7, is_signed=True),
    "FEAT_Debugv8p9": IdField(_DFR0, 0, 11),
    "FEAT_EBEP": IdField(_DFR1, 48, 1),
    "FEAT_SPMU": IdField(_DFR1, 32, 1),
    "FEAT_STEP2": IdField(_DFR2, 0, 1),
}

# Features that any one of several ID fields announces.
ANY_OF: dict[str, tuple[IdField, ...]] = {
    "FEAT_PAuth": (IdField(_ISAR1, 4, 1), IdField(_ISAR1, 8, 1), IdField(_ISAR2, 12, 1)),
    "FEAT_PAuth_LR": (IdField(_ISAR1, 4, 6), IdField(_ISAR1, 8, 6), IdField(_ISAR2, 12, 6)),
    "FEAT_LPA2": (
        IdField(_MMFR0, 28, 1, is_signed=True),
        IdField(_MMFR0, 20, 2),
        IdField(_MMFR0, 40, 3),
        IdField(_MMFR0, 32, 3),
    ),
    "FEAT_CSV2_1p2": (FEATURES["FEAT_CSV2_2"], IdField(_PFR1, 32, 2)),
    "FEAT_RASv1p1": (IdField(_PFR0, 28, 2), IdField(_PFR1, 12, 1)),
}


def has_feature(registers: RegisterValues, name: str) -> bool | None:
    """Whether the CPU has the feature ``name`` (``FEAT_VHE``); ``None`` when its ID register is unknown.

    Raises:
        KeyError: ``name`` is neither in :data:`FEATURES` nor in :data:`ANY_OF`.
    """
    fields = ANY_OF[name] if name in ANY_OF else (FEATURES[name],)
    unknown = False
    for field in fields:
        value = registers.get(field.register)
        if value is None:
            unknown = True
        elif field.present(value):
            return True
    return None if unknown else False


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
