"""Which registers matter when an MMU is switched on, for each exception level."""

from __future__ import annotations

_NAMES = ("SCTLR", "TCR", "MAIR", "TTBR0", "TTBR1", "VBAR", "ESR", "FAR", "ELR", "SPSR")
_ONLY_EL2 = ("HCR_EL2",)
_WRITTEN_BY_THE_CPU = (
    *("ELR_", "SPSR_", "ESR_", "FAR_", "HPFAR_", "MFAR_", "AFSR", "PAR_", "DISR_", "TFSR", "SP_EL"),
    *("NZCV", "DAIF", "SPSel", "PAN", "UAO", "SSBS", "TCO", "FPSR", "CNT", "PM", "ICC_", "ICH_", "RGSR_"),
)
"""Registers, by the beginning of their names, that exceptions, AT, time or other instructions than MSR change."""


def keeps_what_is_written(name: str) -> bool:
    """Whether the register ``name`` holds what an ``msr`` wrote until the next one does.

    An exception writes ESR, FAR, ELR and SPSR (Arm ARM, AArch64.TakeException()), ``at`` writes PAR_EL1.
    """
    return not name.startswith(_WRITTEN_BY_THE_CPU)


def control_registers(el: int) -> tuple[str, ...]:
    """Names of the registers that decide translation and exceptions at exception level ``el`` (1 to 3).

    TTBR1_EL2 is among those of EL2; it exists only with FEAT_VHE. EL0 is controlled by EL1's registers.
    """
    level = max(el, 1)
    names = [f"{name}_EL{level}" for name in _NAMES if not (level == 3 and name == "TTBR1")]
    return (*(_ONLY_EL2 if level == 2 else ()), *names)
