"""System registers that show part of PSTATE and hold nothing else (Arm ARM C5.2)."""

from __future__ import annotations

from collections.abc import Mapping

PSTATE_VIEWS: Mapping[str, int] = {
    "CurrentEL": 0b11 << 2,
    "DAIF": 0b1111 << 6,
    "NZCV": 0b1111 << 28,
    "PAN": 1 << 22,
    "UAO": 1 << 23,
    "DIT": 1 << 24,
    "TCO": 1 << 25,
    "SSBS": 1 << 12,
    "SPSel": 1,
}
"""Their bits, at the same place as in the layout of SPSR_ELx."""
