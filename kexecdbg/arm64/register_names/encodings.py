"""System register and system instruction names by encoding, and encodings by name (Arm ARM D22.3, C5)."""

from __future__ import annotations

from collections.abc import Iterator

from kexecdbg.arm64.register_names.encoding_tables import SYSTEM_REGISTERS
from kexecdbg.arm64.register_names.encoding_tables_debug import DEBUG_REGISTERS, PSTATE_FIELDS, SYSTEM_INSTRUCTIONS

Encoding = tuple[int, int, int, int, int]


def _rows(op0: int, table: str) -> Iterator[tuple[Encoding, str]]:
    op1 = crn = crm = op2 = 0
    for line in table.strip("\n").splitlines():
        words = line.split()
        if not line.startswith(" "):
            op1, crn, crm = (int(word) for word in words[:3])
            op2, words = 0, words[3:]
        for name in words:
            if name != "-":
                yield (op0, op1, crn, crm, op2), name
            op2 += 1


NAMES: dict[Encoding, str] = {
    **dict(_rows(1, SYSTEM_INSTRUCTIONS)),
    **dict(_rows(2, DEBUG_REGISTERS)),
    **dict(_rows(3, SYSTEM_REGISTERS)),
}
ENCODINGS: dict[str, Encoding] = {name: encoding for encoding, name in NAMES.items()}
# One encoding, two names: what is read is DBGDTRRX_EL0, what is written DBGDTRTX_EL0.
ENCODINGS["DBGDTRTX_EL0"] = ENCODINGS["DBGDTRRX_EL0"]

_TLBI_NXS_CRN = 9  # FEAT_XS: each TLBI of CRn=8 again with CRn=9 and the qualifier nXS


def by_encoding(op0: int, op1: int, crn: int, crm: int, op2: int) -> str:
    """The name that an ``MSR``, ``MRS`` or ``SYS`` with this encoding has.

    ``SCTLR_EL1``; for a system instruction its mnemonic, ``TLBI VMALLE1``; ``S3_0_C15_C2_0`` (``S1_...`` for SYS)
    when the architecture has no name for it. The name is the instruction's: at EL2 with E2H=1 ``SCTLR_EL1`` reaches
    SCTLR_EL2.
    """
    name = NAMES.get((op0, op1, crn, crm, op2))
    if name is None and op0 == 1 and crn == _TLBI_NXS_CRN:
        plain = NAMES.get((op0, op1, _TLBI_NXS_CRN - 1, crm, op2), "")
        name = f"{plain}NXS" if plain.startswith("TLBI_") else None
    if name is None and op0 == 0 and crn == 4:
        name = PSTATE_FIELDS.get((op1, op2))
    if name is None:
        return f"S{op0}_{op1}_C{crn}_C{crm}_{op2}"
    return name.replace("_", " ", 1) if op0 == 1 else name


def encoding_of(name: str) -> Encoding | None:
    """The encoding of the register or instruction ``name``, ``None`` when it has none (PSTATE, PC, X0, SP_EL3)."""
    return ENCODINGS.get(name)
