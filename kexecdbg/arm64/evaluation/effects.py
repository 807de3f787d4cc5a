"""What one instruction does besides changing general registers: the vocabulary of an evaluation's trace."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from kexecdbg.arm64.faults import Access, Fault
from kexecdbg.arm64.instructions import Instruction


@dataclass(frozen=True)
class SystemWrite:
    """A write of a system register.

    Attributes:
        register: the register it reaches, with exception level and E2H applied.
        value: what is written; ``None`` when it cannot be told.
    """

    register: str
    value: int | None


@dataclass(frozen=True)
class SystemRead:
    """A read of the system register ``register`` (resolved as in :class:`SystemWrite`)."""

    register: str


@dataclass(frozen=True)
class MemoryAccess:
    """A load or store.

    Attributes:
        access: READ or WRITE; an atomic read-modify-write is a WRITE.
        address: virtual address; ``None`` when it cannot be told.
        size: bytes.
        base: the register that the address comes from: ``X2``, ``SP``, or ``PC`` for a literal.
        pa: physical address, where it translates.
        ordered: an acquire, release, exclusive or atomic access, which has to be aligned whatever SCTLR_ELx.A says.
    """

    access: Access
    address: int | None
    size: int
    base: str
    pa: int | None = None
    ordered: bool = False


class BarrierKind(enum.Enum):
    """The barriers; the value is the mnemonic."""

    ISB = "isb"
    DSB = "dsb"
    DMB = "dmb"
    SB = "sb"


class Domain(enum.IntEnum):
    """Shareability domains, each within the next one."""

    NON_SHAREABLE = 1
    INNER_SHAREABLE = 2
    OUTER_SHAREABLE = 3
    FULL_SYSTEM = 4


@dataclass(frozen=True)
class Barrier:
    """A barrier.

    Attributes:
        kind: which one.
        domain: of a DSB or DMB.
        reads, writes: which accesses a DSB or DMB waits for. Only a DSB that waits for both completes cache and TLB
            maintenance (Arm ARM B2.3.13, "Data Synchronization Barrier").
    """

    kind: BarrierKind
    domain: Domain = Domain.FULL_SYSTEM
    reads: bool = True
    writes: bool = True


@dataclass(frozen=True)
class Maintenance:
    """A TLB or cache maintenance instruction, or an address translation instruction.

    Attributes:
        operation: as the Arm ARM writes it: ``TLBI ALLE2``, ``IC IALLU``, ``DC CVAC``, ``AT S1E2R``.
        operand: value of its register; ``None`` when it cannot be told or it has none.
        pa: of an operation by virtual address, the physical address, where it translates.
        access: of an operation by virtual address, the permission that it needs.
    """

    operation: str
    operand: int | None
    pa: int | None = None
    access: Access | None = None


@dataclass(frozen=True)
class ExceptionReturn:
    """An ERET that was followed to exception level ``el``."""

    el: int


Effect = SystemWrite | SystemRead | MemoryAccess | Barrier | Maintenance | ExceptionReturn


@dataclass(frozen=True)
class Step:
    """One evaluated instruction and what it did, in order."""

    instruction: Instruction
    effects: tuple[Effect, ...] = ()


class StopReason(enum.Enum):
    """Why an evaluation ended."""

    LIMIT = "too many instructions"
    UNDECIDED = "a branch that depends on an unknown value"
    UNKNOWN_TARGET = "a branch to an unknown address"
    UNKNOWN_INSTRUCTION = "an instruction that is not known here"
    UNREADABLE = "code that cannot be read"
    UNKNOWN_TRANSLATION = "an address whose translation cannot be told"
    FAULT = "a translation fault"
    MISALIGNED = "an unaligned access"
    STACK_MISALIGNED = "an unaligned stack pointer"
    UNDEFINED = "an undefined instruction"
    TRAPPED = "a system register access that is trapped or undefined at this exception level"
    EXCEPTION = "an instruction that takes an exception, or returns from one"
    WAITS = "a branch to itself, WFI or WFE"
    ASKED = "where it was asked to stop"


@dataclass(frozen=True)
class Stop:
    """Where and why an evaluation ended.

    Attributes:
        reason: why.
        address: of the instruction that was not executed.
        instruction: that instruction, when it could be fetched.
        fault: of a FAULT, the fault.
        access: of a FAULT or MISALIGNED: what was tried.
        target: of a FAULT or MISALIGNED, the address that was accessed; of UNDECIDED, where the branch goes if taken.
        memory_access: of a load or store, what it was.
    """

    reason: StopReason
    address: int
    instruction: Instruction | None = None
    fault: Fault | None = None
    access: Access | None = None
    target: int | None = None
    memory_access: MemoryAccess | None = None

    @property
    def text(self) -> str:
        """One clause: ``0x1b3080040: cbz x0, #0x1b3080080: a branch that depends on an unknown value``."""
        what = f"{self.instruction.text}: " if self.instruction is not None else ""
        return f"{self.address:#x}: {what}{self.reason.value}"
