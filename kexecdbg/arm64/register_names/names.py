"""Register names: the Arm ARM's, gdb's and QEMU's, in any case."""

from __future__ import annotations

import re
from difflib import get_close_matches

from kexecdbg.arm64.register_names.encodings import ENCODINGS, NAMES
from kexecdbg.errors import UsageError

# gdb's core registers and the short names people type.
_CORE = {
    **{f"X{number}": f"X{number}" for number in range(31)},
    "FP": "X29",
    "LR": "X30",
    "SP": "SP",
    "PC": "PC",
    "PSTATE": "PSTATE",
    "CPSR": "PSTATE",
    "SP_EL3": "SP_EL3",
}

# What QEMU's gdbstub calls registers that AArch32 has too (target/arm/helper.c, names of ARMCPRegInfo; 7.2 to 10.0).
_QEMU = {
    "SCTLR": "SCTLR_EL1",
    "VBAR": "VBAR_EL1",
    "CPACR": "CPACR_EL1",
    "AMAIR0": "AMAIR_EL1",
    "AIDR": "AIDR_EL1",
    "CLIDR": "CLIDR_EL1",
    "CCSIDR": "CCSIDR_EL1",
    "CSSELR": "CSSELR_EL1",
    "CNTKCTL": "CNTKCTL_EL1",
    "MIDR": "MIDR_EL1",
    "MPIDR": "MPIDR_EL1",
    "REVIDR": "REVIDR_EL1",
    "L2ACTLR": "L2ACTLR_EL1",
    "SPSR_ABT": "SPSR_abt",
    "SPSR_FIQ": "SPSR_fiq",
    "SPSR_IRQ": "SPSR_irq",
    "SPSR_UND": "SPSR_und",
}
# IMPLEMENTATION DEFINED registers of Arm's cores that QEMU models (target/arm/cpu64.c and tcg/cpu64.c, 7.2 to 10.0).
_IMPLEMENTATION_DEFINED = {
    "_EL1": (
        "ATCR", "CBAR", "CPUACTLR", "CPUACTLR2", "CPUACTLR3", "CPUACTLR4", "CPUACTLR5", "CPUACTLR6", "CPUACTLR7",
        "CPUCFR", "CPUECTLR", "CPUECTLR2", "CPUMERRSR", "CPUPWRCTLR", "L2ACTLR", "L2CTLR", "L2ECTLR", "L2MERRSR",
    ),
    "_EL12": ("ATCR",),
    "_EL2": ("ATCR", "AVTCR"),
    "_EL3": (
        "ATCR", "CPUACTLR", "CPUPCR", "CPUPFR", "CPUPMR", "CPUPMR2", "CPUPOR", "CPUPOR2", "CPUPPMCR", "CPUPPMCR2",
        "CPUPPMCR3", "CPUPPMCR4", "CPUPPMCR5", "CPUPPMCR6", "CPUPSELR", "CPURNDBR", "CPURNDPEID", "DDATA0", "DDATA1",
        "DDATA2", "IDATA0", "IDATA1", "IDATA2", "RAMINDEX",
    ),
}  # fmt: skip
# The AArch64 view of an AArch32 ID register: QEMU leaves the suffix out.
_AARCH32_ID = re.compile(r"ID_(?:PFR|DFR|AFR|MMFR|ISAR)\d")
# Reserved ID registers: QEMU adds a suffix to those that had no name when it was written.
_RESERVED_ID = re.compile(r"(ID_AA64\w+_EL1)(?:_RESERVED)?")
_RESERVED_AARCH32_ID = re.compile(r"RES_(\d)_C(\d+)_C(\d+)_(\d)")
_BY_ENCODING = re.compile(r"S([0-3])_([0-7])_C(\d+)_C(\d+)_([0-7])")

_CANONICAL: dict[str, str] = {
    **{name.upper(): name for encoding, name in NAMES.items() if encoding[0] >= 2},
    **{name.upper(): name for name in ENCODINGS if name.startswith("DBGDTR")},
    **{stem + level: stem + level for level, stems in _IMPLEMENTATION_DEFINED.items() for stem in stems},
    **_CORE,
    **_QEMU,
}


def canonical_name(name: str) -> str | None:
    """The Arm ARM's name of the register that ``name`` stands for, ``None`` when there is none.

    Any case will do. Understood are the architecture's names, gdb's (``cpsr`` is PSTATE), the names QEMU's gdbstub
    uses (``SCTLR`` is SCTLR_EL1, ``ID_AA64MMFR3_EL1_RESERVED``), and encodings (``S3_0_C1_C0_0``). A ``_EL12`` or
    ``_EL02`` name is an instruction's way to reach an EL1 or EL0 register from EL2; it gives that register.
    """
    key = name.strip().upper()
    for suffix, level in (("_EL12", "_EL1"), ("_EL02", "_EL0")):
        if key.endswith(suffix) and key in _CANONICAL:
            key = key.removesuffix(suffix) + level
    if key in _CANONICAL:
        return _CANONICAL[key]
    if _AARCH32_ID.fullmatch(key):
        return _CANONICAL.get(f"{key}_EL1")
    if match := _BY_ENCODING.fullmatch(key):
        return _canonical_encoding(*(int(number) for number in match.groups()))
    if match := _RESERVED_AARCH32_ID.fullmatch(key):
        op1, crn, crm, op2 = (int(number) for number in match.groups())
        return _canonical_encoding(3, op1, crn, crm, op2)
    match = _RESERVED_ID.fullmatch(key)
    return match.group(1) if match else None


def _canonical_encoding(op0: int, op1: int, crn: int, crm: int, op2: int) -> str | None:
    if crn > 15 or crm > 15:
        return None
    return NAMES.get((op0, op1, crn, crm, op2), f"S{op0}_{op1}_C{crn}_C{crm}_{op2}")


def known_name(name: str) -> str:
    """What :func:`canonical_name` gives.

    Raises:
        UsageError: no register has that name; the message lists near ones.
    """
    canonical = canonical_name(name)
    if canonical is None:
        raise unknown_register(name)
    return canonical


def unknown_register(name: str) -> UsageError:
    """The error for a name that no register has, with near ones."""
    key = name.strip().upper()
    without_level = [f"{key}_EL{level}" for level in range(4) if f"{key}_EL{level}" in _CANONICAL]
    near = without_level or get_close_matches(key, _CANONICAL, n=4, cutoff=0.6)
    names = list(dict.fromkeys(_CANONICAL.get(match, match) for match in near))
    hint = f"did you mean {', '.join(names)}?" if names else "give an Arm name such as SCTLR_EL2"
    return UsageError(f"no register is called {name.strip()!r}; {hint}")
