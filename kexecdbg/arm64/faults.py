"""Faults of an address translation, and the bit or register field that causes each.

A denied access is never just "no": it names a :class:`Cause`, one bit in one place. Fault status codes are those of
ESR_ELx.ISS[5:0] (IFSC, DFSC) and PAR_EL1.FST, Arm ARM D24.2.42 and pseudocode ``EncodeLDFSC``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Access(Enum):
    """What the CPU wants to do with an address."""

    READ = "read"
    WRITE = "write"
    FETCH = "fetch"


class FaultKind(Enum):
    """The kinds of fault that a translation can end in; the value is the Arm ARM's name."""

    ADDRESS_SIZE = "Address size fault"
    TRANSLATION = "Translation fault"
    ACCESS_FLAG = "Access flag fault"
    PERMISSION = "Permission fault"
    EXTERNAL = "External abort"
    EXTERNAL_ON_WALK = "External abort on a table walk"
    UNKNOWN = "Unknown outcome: a table could not be read"


# First code (level 0) and the code of level -1, which does not continue the series.
_STATUS_CODES: dict[FaultKind, tuple[int, int]] = {
    FaultKind.ADDRESS_SIZE: (0x00, 0x29),
    FaultKind.TRANSLATION: (0x04, 0x2B),
    FaultKind.ACCESS_FLAG: (0x08, 0x07),  # no leaf can sit at level -1, so its second code is never asked for
    FaultKind.PERMISSION: (0x0C, 0x0B),
    FaultKind.EXTERNAL: (0x10, 0x10),  # has no level: 0
    FaultKind.EXTERNAL_ON_WALK: (0x14, 0x13),
    FaultKind.UNKNOWN: (0x14, 0x13),
}

_SETS_HPFAR = frozenset({FaultKind.TRANSLATION, FaultKind.ACCESS_FLAG, FaultKind.ADDRESS_SIZE})


class CauseKind(Enum):
    """Which rule of the architecture denies an access; the value is a short label."""

    # Leaf and table attributes of stage 1.
    LEAF_XN = "XN in the leaf"
    LEAF_UXN = "UXN in the leaf"
    LEAF_PXN = "PXN in the leaf"
    TABLE_XN = "XNTable"
    TABLE_UXN = "UXNTable"
    TABLE_PXN = "PXNTable"
    WXN = "SCTLR WXN"
    EL0_WRITABLE = "writable at EL0"
    PAN = "PSTATE.PAN"
    READ_ONLY = "AP[2], read-only"
    TABLE_READ_ONLY = "APTable[1], read-only"
    NO_EL0_ACCESS = "AP[1], no EL0 access"
    TABLE_NO_EL0 = "APTable[0], no EL0 access"
    INDIRECT_PERMISSION = "permission indirection"
    INDIRECT_CONFLICT = "privileged execute with EL0 write under permission indirection"
    OVERLAY = "permission overlay"
    NOT_DIRTY = "nDirty"
    # Descriptors.
    ACCESS_FLAG = "Access flag clear"
    INVALID_DESCRIPTOR = "invalid descriptor"
    RESERVED_DESCRIPTOR = "reserved descriptor"
    ILLEGAL_BLOCK = "block where no block is allowed"
    NEXT_TABLE_SIZE = "next table beyond the output size"
    OUTPUT_SIZE = "output address beyond the output size"
    UNREADABLE_TABLE = "table memory unreadable"
    # Registers.
    VA_OUT_OF_RANGE = "address outside the range"
    TXSZ_OUT_OF_RANGE = "TxSZ out of range"
    RESERVED_GRANULE = "reserved or unimplemented granule"
    EPD = "EPD, walks disabled"
    E0PD = "E0PD, EL0 access disabled"
    TABLE_BASE_SIZE = "table base beyond the output size"
    MMU_OFF_SIZE = "address beyond the physical address size"
    # The memory system.
    NOTHING_THERE = "nothing at the physical address"
    # Stage 2.
    STAGE2_NO_READ = "S2AP[0], no read"
    STAGE2_NO_WRITE = "S2AP[1], no write"
    STAGE2_XN = "stage 2 XN"
    STAGE2_DEVICE_WALK = "stage 1 table in stage 2 Device memory"
    STAGE2_START_LEVEL = "stage 2 start level inconsistent"
    # Warnings: legal, but the result may differ from one CPU to another.
    CONTIGUOUS_MISPROGRAMMED = "contiguous run misprogrammed"
    NT_SET = "nT set"
    BASE_MISALIGNED = "table base misaligned"
    MEMORY_TYPE_RESERVED = "reserved memory type"
    SHAREABILITY_RESERVED = "reserved shareability"
    EXECUTE_DEVICE = "executable Device memory"
    NON_FAULT_DISABLED = "NFD, no walk for non-fault EL0 loads"


#: Causes that are a stage 2 Permission fault; every other cause of a denied right is a stage 1 one.
STAGE2_PERMISSION_CAUSES = frozenset(
    {CauseKind.STAGE2_NO_READ, CauseKind.STAGE2_NO_WRITE, CauseKind.STAGE2_XN, CauseKind.STAGE2_DEVICE_WALK}
)


@dataclass(frozen=True)
class Cause:
    """One bit or field that decides something.

    Attributes:
        kind: the rule.
        text: one clause a user reads, without a full stop.
        level: level of the descriptor, when it is a descriptor.
        address: physical address of the descriptor.
        bit: position of the deciding bit in the descriptor.
        register: canonical register name, when a register decides.
        field: name of the register's field.
    """

    kind: CauseKind
    text: str
    level: int | None = None
    address: int | None = None
    bit: int | None = None
    register: str | None = None
    field: str | None = None


@dataclass(frozen=True)
class Fault:
    """A fault as a syndrome register would report it.

    Attributes:
        kind: the kind of fault.
        level: -1 to 3; the level of the descriptor, 0 where the architecture says so.
        cause: what decides it.
        stage: 1 or 2.
        s1ptw: a stage 2 fault on the access to a stage 1 table (ESR_ELx.S1PTW).
        ipa: of a stage 2 fault, the intermediate physical address; HPFAR_EL2 takes its page (see :attr:`hpfar`).
    """

    kind: FaultKind
    level: int
    cause: Cause
    stage: int = 1
    s1ptw: bool = False
    ipa: int | None = None

    @property
    def fsc(self) -> int:
        """The fault status code (ESR_ELx.ISS[5:0], PAR_EL1.FST).

        For an unreadable table it is the external abort that the CPU takes if that memory does not answer it either.
        """
        first, minus_one = _STATUS_CODES[self.kind]
        return first + self.level if self.level >= 0 else minus_one

    @property
    def hpfar(self) -> int | None:
        """The value HPFAR_EL2 takes: IPA[55:12] in bits [47:4]. ``None`` when the fault does not set it.

        Stage 2 Permission faults and external aborts set it only on a stage 1 table walk (Arm ARM, HPFAR_EL2).
        """
        if self.ipa is None or not (self.s1ptw or self.kind in _SETS_HPFAR):
            return None
        return (self.ipa >> 12) << 4

    @property
    def text(self) -> str:
        """The Arm ARM's name, ``Permission fault, level 3``, with the stage and the walk when they matter."""
        stage = ", stage 2" if self.stage == 2 else ""
        walk = ", on a stage 1 table walk" if self.s1ptw else ""
        return f"{self.kind.value}, level {self.level}{stage}{walk}"

    @property
    def phrase(self) -> str:
        """With its article, for a sentence: ``an Address size fault at level 3``."""
        article = "an" if self.text[0] in "AEIOU" else "a"
        return f"{article} {self.text.replace(', level', ' at level', 1)}"
