"""The exception vectors: which entry of the current level's table an address is in, and the code behind them."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from kexecdbg.arm64.instructions import INSTRUCTION_SIZE, Flow
from kexecdbg.arm64.interfaces import PhysicalMemory, RegisterValues
from kexecdbg.arm64.regimes import RegimeFacts
from kexecdbg.arm64.vectors import VECTOR_SIZE, VectorKind, VectorSource, in_vectors, vectors_base
from kexecdbg.checks.fetching import instruction_at
from kexecdbg.errors import MemoryUnreadableError
from kexecdbg.machine.state import CpuState

_SOURCES = {
    VectorSource.SP_EL0: "current EL with SP_EL0",
    VectorSource.SP_ELX: "current EL with SP_ELx",
    VectorSource.LOWER_EL: "lower EL, AArch64",
    VectorSource.LOWER_EL_AARCH32: "lower EL, AArch32",
}
_KINDS = {
    VectorKind.SYNCHRONOUS: "synchronous",
    VectorKind.IRQ: "IRQ",
    VectorKind.FIQ: "FIQ",
    VectorKind.SERROR: "SError",
}
_SOURCE_SIZE = VectorSource.SP_ELX - VectorSource.SP_EL0
_LONGEST_HANDLER = 256


@dataclass(frozen=True)
class VectorEntry:
    """An address in the vector table of an exception level.

    Attributes:
        vbar: name of the table's base register, ``VBAR_EL2``.
        base: address of the table.
        address: the address in it.
    """

    vbar: str
    base: int
    address: int

    @property
    def offset(self) -> int:
        """Offset of the entry in the table, 0 to 0x780."""
        return (self.address - self.base) // VECTOR_SIZE * VECTOR_SIZE

    @property
    def start(self) -> int:
        """Address of the entry's first instruction."""
        return self.base + self.offset

    @property
    def at_start(self) -> bool:
        """Whether the address is the entry's first instruction, where an exception goes."""
        return self.address == self.start

    @property
    def source(self) -> str:
        """Where an exception comes from that takes this entry: ``current EL with SP_ELx``."""
        return _SOURCES[VectorSource(self.offset - self.offset % _SOURCE_SIZE)]

    @property
    def kind(self) -> str:
        """The kind of exception: ``synchronous``, ``IRQ``, ``FIQ`` or ``SError``."""
        return _KINDS[VectorKind(self.offset % _SOURCE_SIZE)]

    @property
    def has_syndrome(self) -> bool:
        """Whether exceptions of this entry write ESR_ELx; interrupts do not."""
        return self.kind in ("synchronous", "SError")

    @property
    def from_lower(self) -> bool:
        """Whether the exception comes from a lower exception level."""
        return self.offset >= VectorSource.LOWER_EL


def vector_entry(registers: RegisterValues, facts: RegimeFacts, address: int) -> VectorEntry | None:
    """The entry of VBAR_ELx's table that ``address`` is in; ``None`` when it is in none, or VBAR_ELx is unknown."""
    value = registers.get(facts.vbar)
    if value is None or not in_vectors(address, value):
        return None
    return VectorEntry(facts.vbar, vectors_base(value), address)


def handler_code(state: CpuState, memory: PhysicalMemory, facts: RegimeFacts) -> frozenset[int]:
    """Addresses of the instructions that an exception handler starts with: from the synchronous vectors on.

    Direct branches are followed, calls are not: what is called may be called by others as well.
    """
    value = state.get(facts.vbar)
    if value is None:
        return frozenset()
    queue = deque(vectors_base(value) + source for source in VectorSource)
    found: set[int] = set()
    while queue and len(found) < _LONGEST_HANDLER:
        address = queue.popleft()
        if address in found:
            continue
        try:
            instruction = instruction_at(state, memory, address)
        except MemoryUnreadableError:
            continue
        found.add(address)
        after_call = (address + INSTRUCTION_SIZE,)
        queue.extend(after_call if instruction.flow is Flow.CALL else instruction.successors())
    return frozenset(found)
