"""Which registers matter when an MMU is switched on, for each exception level."""

from __future__ import annotations

_NAMES = ("SCTLR", "TCR", "MAIR", "TTBR0", "TTBR1", "VBAR", "ESR", "FAR", "ELR", "SPSR")
_ONLY_EL2 = ("HCR_EL2",)


def control_registers(el: int) -> tuple[str, ...]:
    """Names of the registers that decide translation and exceptions at exception level ``el`` (1 to 3).

    TTBR1_EL2 is among those of EL2; it exists only with FEAT_VHE. EL0 is controlled by EL1's registers.
    """
    level = max(el, 1)
    names = [f"{name}_EL{level}" for name in _NAMES if not (level == 3 and name == "TTBR1")]
    return (*(_ONLY_EL2 if level == 2 else ()), *names)
