"""Works out what one instruction did from the states before and after it, and from the machine's memory."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from kexecdbg.arm64.bits import bits, mask
from kexecdbg.arm64.evaluation.system_registers import changes_translation, depends_on
from kexecdbg.arm64.faults import Access
from kexecdbg.arm64.features import effective_e2h
from kexecdbg.arm64.instructions import INSTRUCTION_SIZE, accessed_register
from kexecdbg.arm64.interfaces import PhysicalMemory
from kexecdbg.arm64.pstate import PSTATE_VIEWS, el_of
from kexecdbg.arm64.vectors import VECTOR_SIZE, is_vector
from kexecdbg.checks.enable_site import pending_write
from kexecdbg.errors import MemoryUnreadableError, TargetError
from kexecdbg.machine.state import CpuState
from kexecdbg.trace.recording.address_spaces import AddressSpaces
from kexecdbg.trace.recording.analyses import look_at_switch
from kexecdbg.trace.recording.copies import Piece
from kexecdbg.trace.recording.core_registers import GENERAL, CoreRegisters
from kexecdbg.trace.recording.exceptions import (
    EXCEPTION_REGISTERS,
    STACK_REGISTERS,
    exception_between,
)
from kexecdbg.trace.recording.plan import Concern, Plan, plan_for
from kexecdbg.trace.recording.seen_memory import SeenMemory
from kexecdbg.trace.records import ExceptionTaken, MemoryWrite
from kexecdbg.trace.step_block import PAGE_SIZE
from kexecdbg.trace.writer import TraceWriter

CORE_NAMES = (*(f"X{number}" for number in range(GENERAL)), "SP", "PC", "PSTATE")
"""What a row of core registers has."""
SP, PC, PSTATE = GENERAL, GENERAL + 1, GENERAL + 2
EL_BITS = PSTATE_VIEWS["CurrentEL"]
"""PSTATE.EL."""
Core = tuple[int, ...]
"""X0 to X30, SP, PC and PSTATE."""

_READS_REGISTERS = Concern.SYSTEM_WRITE | Concern.ADDRESS_TRANSLATION | Concern.STACK_SELECT | Concern.EXCEPTION
_SWITCHES_LOOKED_AT = 4
"""How often the analyses are made at one switch."""


@dataclass(frozen=True)
class Record:
    """A step that has been made, ready to be written.

    Attributes:
        next_pc, word, changes, writes, exception: as :meth:`TraceWriter.step` takes them.
        loses_track: it may have written memory, and nobody knows where.
    """

    next_pc: int
    word: int | None
    changes: dict[str, int | None]
    writes: tuple[MemoryWrite, ...] = ()
    exception: ExceptionTaken | None = None
    loses_track: bool = False


class StepObserver:
    """The machine around one CPU that is stopped before each instruction.

    Attributes:
        values: all recorded registers, as they are now.
        seen: memory; what is read through it goes into the trace.
        spaces: where addresses lead now.
        changes_of_code: how often what is decoded was forgotten, for those who keep more of it.

    Args:
        memory: the machine's physical memory.
        writer: a trace that starts with the CPU's present state.
        read_registers: reads registers of the machine now.
    """

    def __init__(
        self,
        memory: PhysicalMemory,
        writer: TraceWriter,
        read_registers: Callable[[Iterable[str]], dict[str, int]],
    ) -> None:
        self.values = writer.values()
        self.seen = SeenMemory(memory, writer)
        self.spaces = AddressSpaces(self.seen)
        self.changes_of_code = 0
        self._memory = memory
        self._writer = writer
        self._read_registers = read_registers
        self._recorded = frozenset(writer.header.registers)
        self._plans: dict[tuple[int, int], Plan] = {}
        self._code_pages: set[int] = set()
        self._switches: dict[int, int] = {}

    def state(self) -> CpuState:
        """The registers now."""
        return CpuState(dict(self.values))

    # Before an instruction

    def plan(self, core: Core) -> Plan | None:
        """The instruction at the PC; ``None`` when it cannot be fetched."""
        return self._plans.get((core[PC], core[PSTATE] & EL_BITS)) or self._new_plan(core[PC], core[PSTATE])

    def known_plan(self, pc: int, pstate: int) -> Plan | None:
        """The instruction at an address, if it has been executed."""
        return self._plans.get((pc, pstate & EL_BITS))

    def _new_plan(self, pc: int, pstate: int) -> Plan | None:
        pa = self.spaces.locate(self.values, pstate, pc, Access.FETCH)
        if pa is None:
            return None
        try:
            word = int.from_bytes(self.seen.read(pa, INSTRUCTION_SIZE), "little")
        except MemoryUnreadableError:
            return None
        self._code_pages.add(pa // PAGE_SIZE)
        plan = self._plans[pc, pstate & EL_BITS] = plan_for(word, pc)
        return plan

    def prepare(self, plan: Plan, core: Core) -> list[Piece]:
        """Look at what the instruction can change before it does; the memory that it will write."""
        if plan.concerns & Concern.SYSTEM_WRITE:
            self._look_before_switch(plan)
        if plan.concerns & (Concern.MEMORY | Concern.ZEROES_BLOCK):
            return self._accesses(plan, core)
        return []

    def _look_before_switch(self, plan: Plan) -> None:
        pc = plan.instruction.address
        write = pending_write(plan.instruction, self.values)
        if write is not None and write.enables_mmu and self._switches.get(pc, 0) < _SWITCHES_LOOKED_AT:
            self._switches[pc] = self._switches.get(pc, 0) + 1
            self.seen.search_if_void()
            look_at_switch(self.state(), self.seen)

    def _accesses(self, plan: Plan, core: Core) -> list[Piece]:
        """The memory that a load or store is about to touch, which goes into the trace; of a store, all of it."""
        registers = self.core_registers(core)
        if plan.access is not None:
            access, size = plan.access.access, plan.access.total
            address = plan.access.address(registers, plan.instruction.address)
        else:
            access, size = Access.WRITE, self.block_size
            operand = registers.read(plan.operand)
            address = None if operand is None else operand & -size
        if address is None:
            return []
        pieces = list(self.spaces.pieces(self.values, core[PSTATE], address, size, access))
        for _, pa, _ in pieces:
            self.seen.see(pa)
        return pieces if access is Access.WRITE else []

    @property
    def block_size(self) -> int:
        """Bytes that DC ZVA zeroes (Arm ARM D24.2.34, DCZID_EL0.BS)."""
        return 4 << bits(self.values.get("DCZID_EL0", 4), 3, 0)

    def core_registers(self, core: Core) -> CoreRegisters:
        """``core`` for evaluating an instruction."""
        return CoreRegisters(self.values, list(core[:GENERAL]), core[SP], core[PC], core[PSTATE])

    # After it

    def take(self, plan: Plan | None, before: Core, after: Core, writes: list[Piece]) -> Record:
        """What the instruction did.

        Args:
            plan: it; ``None`` when it could not be fetched.
            before, after: the core registers.
            writes: what :meth:`prepare` gave.
        """
        changes = self.update(before, after)
        pc, next_pc, el = before[PC], after[PC], el_of(after[PSTATE])
        at_vector = next_pc % VECTOR_SIZE == 0 and is_vector(next_pc, self.values.get(f"VBAR_EL{el}"))
        concerns = plan.concerns if plan is not None else Concern.EXCEPTION
        exception = None
        if at_vector or concerns & _READS_REGISTERS or (before[PSTATE] ^ after[PSTATE]) & EL_BITS:
            changes |= self._read_again(plan, before, after, at_vector)
        if at_vector:
            returns_to = (pc, (pc + INSTRUCTION_SIZE) & mask(64))
            exception = exception_between(el_of(before[PSTATE]), returns_to, self.values, next_pc, el)
        written = self._written(plan, before, writes) if writes and exception is None else ()
        if concerns & Concern.TRANSLATION:
            self.forget_translations()
        word = plan.word if plan is not None else None
        return Record(next_pc, word, changes, written, exception, bool(concerns & Concern.UNKNOWN_STORE))

    def update(self, before: Core, after: Core) -> dict[str, int | None]:
        """The core registers are ``after`` now; those that differ."""
        changes: dict[str, int | None] = {}
        for name, old, new in zip(CORE_NAMES, before, after, strict=True):
            if old != new:
                changes[name] = self.values[name] = new
        return changes

    def _read_again(self, plan: Plan | None, before: Core, after: Core, at_vector: bool) -> dict[str, int | None]:
        """The system registers that the step changed, of those that it can have changed."""
        names: set[str] = set()
        concerns = plan.concerns if plan is not None else Concern.EXCEPTION
        if plan is not None and concerns & Concern.SYSTEM_WRITE and plan.system_move is not None:
            el = el_of(before[PSTATE])
            target = accessed_register(plan.system_move.register, el, bool(effective_e2h(self.values)))
            names.update((target, *depends_on(target)))
            if changes_translation(target):
                self.forget_translations()
        if concerns & Concern.ADDRESS_TRANSLATION:
            names.add("PAR_EL1")
        if concerns & Concern.STACK_SELECT or (before[PSTATE] ^ after[PSTATE]) & EL_BITS:
            names.update(STACK_REGISTERS)
        if at_vector or concerns & Concern.EXCEPTION:
            names.update(EXCEPTION_REGISTERS)
        return self.changed(names & self._recorded)

    def changed(self, names: Collection[str] | None = None) -> dict[str, int | None]:
        """Those of the registers (default: all) that are not as they were believed to be; read now."""
        wanted = self._recorded if names is None else names
        found = self._read_registers(wanted) if wanted else {}
        changes: dict[str, int | None] = {
            name: value for name, value in found.items() if self.values.get(name) != value
        }
        self.values.update({name: value for name, value in changes.items() if value is not None})
        return changes

    def _written(self, plan: Plan | None, before: Core, pieces: list[Piece]) -> tuple[MemoryWrite, ...]:
        """The writes that the step made to ``pieces``, read back from memory."""
        writes = []
        for va, pa, size in pieces:
            try:
                data: bytes | None = self._memory.read(pa, size)
            except MemoryUnreadableError:
                data = _stored(plan, before)
            writes.append(MemoryWrite(va, pa, size, data if data is None or len(data) == size else None))
            self.memory_written(pa)
        return tuple(writes)

    def memory_written(self, pa: int) -> None:
        """Memory was written at ``pa``: it may hold tables, or code."""
        self.spaces.written(pa)
        if pa // PAGE_SIZE in self._code_pages:
            self.forget_code()

    def lose_track(self) -> None:
        """The machine did something that was not followed; the state that it came to has been written."""
        self.seen.lose_track()
        self.forget_translations()

    def forget_translations(self) -> None:
        """Addresses may lead elsewhere now."""
        self.spaces.changed()
        self.forget_code()

    def forget_code(self) -> None:
        """Instructions may be others now."""
        self._plans.clear()
        self._code_pages.clear()
        self.changes_of_code += 1


def check_core_names(names: tuple[str, ...]) -> None:
    """Return when a stub's core registers are those that we know.

    Raises:
        TargetError: they are others.
    """
    if names != CORE_NAMES:
        raise TargetError(f"gdbstub: its general registers are {', '.join(names)}, not AArch64's")


def _stored(plan: Plan | None, before: Core) -> bytes | None:
    """What a store of general registers wrote, little-endian; ``None`` for others."""
    if plan is None or plan.access is None or not plan.access.registers:
        return None
    values = (0 if number == GENERAL else before[number] for number in plan.access.registers)
    return b"".join((value & mask(8 * plan.access.size)).to_bytes(plan.access.size, "little") for value in values)
