"""The situation of a machine that is only partly known: it keeps a record of what was asked of it and is not known."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

from kexecdbg.arm64.interfaces import PhysicalMemory
from kexecdbg.checks.lead_up import Way
from kexecdbg.checks.situation import Situation
from kexecdbg.errors import MemoryUnreadableError, RegisterUnknownError
from kexecdbg.machine.device_registers import read_register_of
from kexecdbg.machine.memory_map import MemoryMap
from kexecdbg.machine.state import CpuState

NO_ADDRESS = -1
"""The site and the next PC of a situation in which it is not known which instruction comes next."""


@dataclass
class Missing:
    """What was asked for and is not known, in the order of the questions.

    Attributes:
        reads: physical address and size of each read of memory that failed.
        registers: canonical names.
        asked: the registers that were asked for, known or not.
        code: the code that makes the switch was asked for, and the switch is only assumed.
        gave_up: a question without an answer ended the whole matter.
    """

    reads: dict[tuple[int, int], None] = field(default_factory=dict)
    registers: dict[str, None] = field(default_factory=dict)
    asked: set[str] = field(default_factory=set)
    code: bool = False
    gave_up: bool = False


class _AskedRegisters:
    def __init__(self, state: CpuState, missing: Missing) -> None:
        self._state = state
        self._missing = missing

    def get(self, name: str, /) -> int | None:
        value = self._state.get(name)
        self._missing.asked.add(name)
        if value is None:
            self._missing.registers[name] = None
        return value


class _AskedMemory:
    def __init__(self, memory: PhysicalMemory, missing: Missing) -> None:
        self._memory = memory
        self._missing = missing

    def read(self, address: int, size: int) -> bytes:
        try:
            return self._memory.read(address, size)
        except MemoryUnreadableError:
            self._missing.reads[address, size] = None
            raise


class _AskedMachineMemory(_AskedMemory):
    """Memory of a machine that says which addresses are memory at all."""

    def __init__(self, memory: PhysicalMemory, missing: Missing, memory_map: MemoryMap) -> None:
        super().__init__(memory, missing)
        self.memory_map = memory_map

    def read_device_register(self, address: int, size: int) -> int:
        """As the machine's."""
        return read_register_of(self._memory, address, size)


@dataclass(frozen=True)
class PartlyKnownSituation(Situation):
    """A situation whose unanswered questions are in ``missing``; made by :func:`partly_known`.

    Where its next PC is :data:`NO_ADDRESS`, asking for it raises RegisterUnknownError.
    """

    missing: Missing = field(default_factory=Missing)

    def __getattribute__(self, name: str) -> object:
        value = super().__getattribute__(name)
        if name in ("site", "next_pc") and value == NO_ADDRESS:
            raise RegisterUnknownError("PC", "what the next fetch gets", "give --next ADDRESS")
        return value

    @cached_property
    def is_assumed(self) -> bool:
        """See :class:`Situation`."""
        address: object = super().__getattribute__("next_pc")
        return address == NO_ADDRESS or self.site == self.next_pc

    @cached_property
    def lead_up(self) -> tuple[Way, ...]:
        """See :class:`Situation`; none of a switch that is only assumed, which is noted."""
        if self.is_assumed:
            self.missing.code = True
            return ()
        return super().lead_up


def partly_known(situation: Situation) -> PartlyKnownSituation:
    """``situation`` with nothing computed yet and nothing missed."""
    missing = Missing()

    def asked(state: CpuState) -> CpuState:
        return CpuState(_AskedRegisters(state, missing), state.assumed)

    memory_map = situation.memory_map
    return PartlyKnownSituation(
        before=asked(situation.before),
        after=asked(situation.after),
        memory=(
            _AskedMemory(situation.memory, missing)
            if memory_map is None
            else _AskedMachineMemory(situation.memory, missing, memory_map)
        ),
        site=situation.site,
        next_pc=situation.next_pc,
        approach=situation.approach,
        start=None if situation.start is None else asked(situation.start),
        missing=missing,
    )
