"""The exception vectors: which entry of the current level's table an address is in, and the code behind them.

Arm ARM D1.3.1.1.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from kexecdbg.arm64.instructions import INSTRUCTION_SIZE, Flow
from kexecdbg.arm64.interfaces import PhysicalMemory, RegisterValues
from kexecdbg.arm64.regimes import RegimeFacts
from kexecdbg.checks.fetching import instruction_at
from kexecdbg.errors import MemoryUnreadableError
from kexecdbg.machine.state import CpuState

TABLE_SIZE = 0x800
_ENTRY_SIZE = 0x80
_GROUP_SIZE = 0x200
_SOURCES = ("current EL with SP_EL0", "current EL with SP_ELx", "lower EL, AArch64", "lower EL, AArch32")
_KINDS = ("synchronous", "IRQ", "FIQ", "SError")
_FROM_LOWER = 0x400
_SYNCHRONOUS = (0x000, 0x200, 0x400, 0x600)
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
        return (self.address - self.base) // _ENTRY_SIZE * _ENTRY_SIZE

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
        return _SOURCES[self.offset // _GROUP_SIZE]

    @property
    def kind(self) -> str:
        """The kind of exception: ``synchronous``, ``IRQ``, ``FIQ`` or ``SError``."""
        return _KINDS[self.offset // _ENTRY_SIZE % 4]

    @property
    def has_syndrome(self) -> bool:
        """Whether exceptions of this entry write ESR_ELx; interrupts do not."""
        return self.kind in ("synchronous", "SError")

    @property
    def from_lower(self) -> bool:
        """Whether the exception comes from a lower exception level."""
        return self.offset >= _FROM_LOWER


def vector_entry(registers: RegisterValues, facts: RegimeFacts, address: int) -> VectorEntry | None:
    """The entry of VBAR_ELx's table that ``address`` is in; ``None`` when it is in none, or VBAR_ELx is unknown."""
    value = registers.get(facts.vbar)
    if value is None:
        return None
    base = value & ~(TABLE_SIZE - 1)
    return VectorEntry(facts.vbar, base, address) if base <= address < base + TABLE_SIZE else None


def handler_code(state: CpuState, memory: PhysicalMemory, facts: RegimeFacts) -> frozenset[int]:
    """Addresses of the instructions that an exception handler starts with: from the synchronous vectors on.

    Direct branches are followed, calls are not: what is called may be called by others as well.
    """
    value = state.get(facts.vbar)
    if value is None:
        return frozenset()
    base = value & ~(TABLE_SIZE - 1)
    queue = deque(base + offset for offset in _SYNCHRONOUS)
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
