"""Records a machine by stepping it through its gdbstub: the full state at each step.

What makes it fast: one packet for the general registers, system registers read only after what can change them, and
the record of one step made while the machine executes the next.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Protocol

from kexecdbg.arm64.bits import bits, mask
from kexecdbg.arm64.evaluation.system_registers import changes_translation, depends_on
from kexecdbg.arm64.faults import Access
from kexecdbg.arm64.features import effective_e2h
from kexecdbg.arm64.instructions import INSTRUCTION_SIZE, accessed_register
from kexecdbg.arm64.interfaces import PhysicalMemory
from kexecdbg.checks.enable_site import pending_write
from kexecdbg.errors import MemoryUnreadableError, TargetError
from kexecdbg.machine.gdb_remote import MachineEndedError, StopReply
from kexecdbg.machine.state import CpuState
from kexecdbg.trace.recording.address_spaces import AddressSpaces
from kexecdbg.trace.recording.analyses import look_at_end, look_at_switch
from kexecdbg.trace.recording.copies import Piece, events_of
from kexecdbg.trace.recording.core_registers import GENERAL, CoreRegisters
from kexecdbg.trace.recording.exceptions import (
    EXCEPTION_REGISTERS,
    STACK_REGISTERS,
    exception_between,
    is_vector_entry,
)
from kexecdbg.trace.recording.loops import Loop, Touched, can_measure, find_loop, measure
from kexecdbg.trace.recording.plan import Concern, Plan, plan_for
from kexecdbg.trace.recording.result import EndReason, Limits, RecordingResult
from kexecdbg.trace.recording.seen_memory import SeenMemory
from kexecdbg.trace.records import Event, EventKind, ExceptionTaken, MemoryWrite
from kexecdbg.trace.step_block import PAGE_SIZE
from kexecdbg.trace.writer import STEPS_PER_BLOCK, TraceWriter

_READS_REGISTERS = Concern.SYSTEM_WRITE | Concern.ADDRESS_TRANSLATION | Concern.STACK_SELECT | Concern.EXCEPTION
_VECTOR_SP_EL0, _VECTOR_SP_ELX, _VECTOR_LOWER_EL = 0x000, 0x200, 0x400
_SP, _PC, _PSTATE = GENERAL, GENERAL + 1, GENERAL + 2
_EL = 0b11 << 2
_STEP_SECONDS = 10.0
_FOLD_SECONDS = 60.0
_ROUNDS_BEFORE_FOLDING = 2
_MOST_FOLDED = 1 << 30
"""Bytes that a folded loop may touch, at most; it is taken as not understood otherwise."""
_SWITCHES_LOOKED_AT = 4
"""How often the analyses are made at one switch."""


class SteppedCpu(Protocol):
    """One CPU of a stopped machine that can be stepped; :class:`kexecdbg.machine.gdb_remote.GdbRemote` is one."""

    @property
    def core_names(self) -> tuple[str, ...]:
        """Names of what :meth:`read_core` gives."""
        ...

    def read_core(self) -> tuple[int, ...]:
        """X0 to X30, SP, PC and PSTATE."""
        ...

    def read_registers(self, names: Iterable[str], /) -> dict[str, int]:
        """Values of those registers that can be read."""
        ...

    def start_step(self) -> None:
        """Let the CPU execute one instruction, the others stand still."""
        ...

    def wait_stop(self, seconds: float | None = None, /) -> StopReply:
        """Wait for the end of the step."""
        ...

    def run_to(self, addresses: Collection[int], seconds: float | None = None, /) -> int:
        """Run until the PC is one of ``addresses``; see :class:`kexecdbg.machine.debugger.Debugger`."""
        ...


@dataclass(frozen=True)
class _Record:
    """A step that has been made and not been written yet."""

    next_pc: int
    word: int | None
    changes: dict[str, int | None]
    writes: tuple[MemoryWrite, ...] = ()
    exception: ExceptionTaken | None = None


class SteppingRecorder:
    """Steps ``cpu`` and writes what happens to ``writer``.

    Args:
        cpu: the CPU, stopped.
        memory: the machine's physical memory.
        writer: a trace that starts with the CPU's present state.
        fold: run simple loops to their end, and record each as one step.
        whole_memory: record all RAM that was ever written, at once.
    """

    def __init__(
        self,
        cpu: SteppedCpu,
        memory: PhysicalMemory,
        writer: TraceWriter,
        fold: bool = True,
        whole_memory: bool = False,
    ) -> None:
        self._cpu = cpu
        self._names = cpu.core_names
        if self._names != (*(f"X{number}" for number in range(GENERAL)), "SP", "PC", "PSTATE"):
            raise TargetError(f"gdbstub: its general registers are {', '.join(self._names)}, not AArch64's")
        self._memory = memory
        self._writer = writer
        self._seen = SeenMemory(memory, writer)
        if whole_memory:
            self._seen.see_everything()
        self._spaces = AddressSpaces(self._seen)
        self._fold = fold
        self._recorded = frozenset(writer.header.registers)
        self._core = cpu.read_core()
        self._values = {name: value for name in self._recorded if (value := writer.value(name)) is not None}
        self._plans: dict[tuple[int, int], Plan] = {}
        self._code_pages: set[int] = set()
        self._pending: _Record | None = None
        self._last_exception: tuple[int, ExceptionTaken] | None = None
        self._repeats = 0
        self._loop_end: tuple[int, int] | None = None
        self._loop_rounds = 0
        self._unfoldable: set[int] = set()
        self._loops: dict[tuple[int, int], Loop] = {}
        self._switches: dict[int, int] = {}
        self._remarks: list[str] = []
        self._stop_asked = False

    def stop(self) -> None:
        """Ask the recording to end after the present step; for signal handlers and other threads."""
        self._stop_asked = True

    def record(self, limits: Limits) -> RecordingResult:
        """Record until one of ``limits`` is reached, the machine ends or the CPU gets stuck.

        Raises:
            TargetError: the stub does not answer; what was recorded until then is in the trace.
            TraceError: the trace cannot be written.
        """
        deadline = None if limits.seconds is None else time.monotonic() + limits.seconds
        look_at_switch(self._state(), self._seen)
        try:
            while (reason := self._end(limits, deadline) or self._advance(deadline)) is None:
                pass
        except MachineEndedError:
            reason = EndReason.MACHINE_ENDED
        finally:
            self._emit()
        if reason is not EndReason.MACHINE_ENDED:
            self._audit()
            look_at_end(self._state(), self._seen)
        return RecordingResult(self._writer.steps, reason, tuple(self._remarks))

    def _end(self, limits: Limits, deadline: float | None) -> EndReason | None:
        steps = self._writer.steps + (self._pending is not None)
        if limits.steps is not None and steps >= limits.steps:
            return EndReason.STEPS
        if self._core[_PC] in limits.until and steps:
            return EndReason.REACHED
        if self._repeats >= limits.repeats:
            return EndReason.SPINS
        if deadline is not None and time.monotonic() >= deadline:
            return EndReason.SECONDS
        return EndReason.STOPPED if self._stop_asked else None

    def _state(self) -> CpuState:
        return CpuState(dict(self._values))

    # One step

    def _advance(self, deadline: float | None) -> EndReason | None:
        """One step, or one folded loop; the reason when the recording has to end."""
        if self._writer.pending_steps >= STEPS_PER_BLOCK - 1:
            self._audit()
        pc, pstate = self._core[_PC], self._core[_PSTATE]
        plan = self._plans.get((pc, pstate & _EL)) or self._new_plan(pc, pstate)
        if self._loop_rounds >= _ROUNDS_BEFORE_FOLDING:
            self._remember_loop(pc)
        loop = self._loops.get((pc, pstate & _EL)) if self._loops else None
        if loop is not None and can_measure(loop, self._core_registers()):
            self._emit()
            self._run_loop(loop, deadline)
            return None
        accesses: list[Piece] = []
        if plan is not None and plan.concerns:
            if plan.concerns & Concern.WAITS:
                return EndReason.WAITS
            accesses = self._prepare(plan)
        self._cpu.start_step()
        self._emit()
        if self._cpu.wait_stop(_STEP_SECONDS).ended:
            return EndReason.MACHINE_ENDED
        before, self._core = self._core, self._cpu.read_core()
        self._take(plan, before, accesses)
        at_rest = self._core == before and plan is not None and plan.successors[:1] == (pc,)
        return EndReason.RESTS if at_rest else None

    def _new_plan(self, pc: int, pstate: int) -> Plan | None:
        pa = self._spaces.locate(self._values, pstate, pc, Access.FETCH)
        if pa is None:
            return None
        try:
            word = int.from_bytes(self._seen.read(pa, INSTRUCTION_SIZE), "little")
        except MemoryUnreadableError:
            return None
        self._code_pages.add(pa >> 12)
        plan = self._plans[pc, pstate & _EL] = plan_for(word, pc)
        return plan

    def _prepare(self, plan: Plan) -> list[Piece]:
        """What has to be looked at before the instruction executes; the memory it will write."""
        concerns = plan.concerns
        if concerns & Concern.SYSTEM_WRITE:
            self._look_before_switch(plan)
        if concerns & (Concern.MEMORY | Concern.ZEROES_BLOCK):
            return self._accesses(plan)
        return []

    def _look_before_switch(self, plan: Plan) -> None:
        pc = plan.instruction.address
        write = pending_write(plan.instruction, self._values)
        if write is not None and write.enables_mmu and self._switches.get(pc, 0) < _SWITCHES_LOOKED_AT:
            self._switches[pc] = self._switches.get(pc, 0) + 1
            self._emit()
            look_at_switch(self._state(), self._seen)

    def _accesses(self, plan: Plan) -> list[Piece]:
        """The memory that a load or store is about to touch, which goes into the trace; of a store, all of it."""
        registers = self._core_registers()
        if plan.access is not None:
            access, size = plan.access.access, plan.access.total
            address = plan.access.address(registers, plan.instruction.address)
        else:
            access, size = Access.WRITE, self._block_size()
            operand = registers.read(plan.operand)
            address = None if operand is None else operand & -size
        if address is None:
            return []
        pieces = list(self._spaces.pieces(self._values, self._core[_PSTATE], address, size, access))
        for _, pa, _ in pieces:
            self._seen.see(pa)
        return pieces if access is Access.WRITE else []

    def _block_size(self) -> int:
        """Bytes that DC ZVA zeroes (Arm ARM D24.2.34, DCZID_EL0.BS)."""
        return 4 << bits(self._values.get("DCZID_EL0", 4), 3, 0)

    def _core_registers(self) -> CoreRegisters:
        core = self._core
        return CoreRegisters(self._values, list(core[:GENERAL]), core[_SP], core[_PC], core[_PSTATE])

    def _take(self, plan: Plan | None, before: tuple[int, ...], writes: list[Piece]) -> None:
        """Take note of the step that has just been made."""
        core = self._core
        changes: dict[str, int | None] = {
            name: new for name, old, new in zip(self._names, before, core, strict=True) if old != new
        }
        self._values.update({name: new for name, new in changes.items() if new is not None})
        pc, next_pc, el = before[_PC], core[_PC], bits(core[_PSTATE], 3, 2)
        at_vector = next_pc & 0x7F == 0 and is_vector_entry(next_pc, self._values.get(f"VBAR_EL{el}"))
        concerns = plan.concerns if plan is not None else Concern.EXCEPTION
        exception = None
        if at_vector or concerns & _READS_REGISTERS or (before[_PSTATE] ^ core[_PSTATE]) & _EL:
            changes |= self._read_again(plan, before, at_vector)
        if at_vector:
            returns_to = (pc, (pc + INSTRUCTION_SIZE) & mask(64))
            exception = exception_between(bits(before[_PSTATE], 3, 2), returns_to, self._values, next_pc, el)
        self._count_repeats(pc, exception)
        word = plan.word if plan is not None else None
        written = self._written(plan, before, writes) if writes and exception is None else ()
        self._pending = _Record(next_pc, word, changes, written, exception)
        if plan is not None:
            self._follow_up(plan, pc, next_pc)

    def _read_again(self, plan: Plan | None, before: tuple[int, ...], at_vector: bool) -> dict[str, int | None]:
        """The system registers that the step changed, of those that it can have changed."""
        names: set[str] = set()
        concerns = plan.concerns if plan is not None else Concern.EXCEPTION
        if plan is not None and concerns & Concern.SYSTEM_WRITE and plan.system_move is not None:
            el = bits(before[_PSTATE], 3, 2)
            target = accessed_register(plan.system_move.register, el, bool(effective_e2h(self._values)))
            names.update((target, *depends_on(target)))
            if changes_translation(target):
                self._forget_translations()
        if concerns & Concern.ADDRESS_TRANSLATION:
            names.add("PAR_EL1")
        if concerns & Concern.STACK_SELECT or (before[_PSTATE] ^ self._core[_PSTATE]) & _EL:
            names.update(STACK_REGISTERS)
        if at_vector or concerns & Concern.EXCEPTION:
            names.update(EXCEPTION_REGISTERS)
        return self._changed(names & self._recorded)

    def _changed(self, names: Collection[str]) -> dict[str, int | None]:
        found = self._cpu.read_registers(names) if names else {}
        changes = {name: value for name, value in found.items() if self._values.get(name) != value}
        self._values.update(changes)
        return dict(changes)

    def _written(self, plan: Plan | None, before: tuple[int, ...], pieces: list[Piece]) -> tuple[MemoryWrite, ...]:
        """The writes that the step made to ``pieces``, read back from memory."""
        writes = []
        for va, pa, size in pieces:
            try:
                data: bytes | None = self._memory.read(pa, size)
            except MemoryUnreadableError:
                data = _stored(plan, before)
            writes.append(MemoryWrite(va, pa, size, data if data is None or len(data) == size else None))
            self._spaces.written(pa)
            if pa >> 12 in self._code_pages:
                self._forget_code()
        return tuple(writes)

    def _follow_up(self, plan: Plan, pc: int, next_pc: int) -> None:
        if plan.concerns & Concern.TRANSLATION:
            self._forget_translations()
        if plan.concerns & Concern.UNKNOWN_STORE:
            self._emit()
            self._seen.lose_track()
            self._forget_code()
        if self._fold and plan.is_loop_end:
            end = (pc, next_pc)
            self._loop_rounds = self._loop_rounds + 1 if self._loop_end == end and next_pc <= pc else 0
            self._loop_end = end

    def _forget_translations(self) -> None:
        self._spaces.changed()
        self._forget_code()

    def _forget_code(self) -> None:
        self._plans.clear()
        self._loops.clear()
        self._unfoldable.clear()
        self._code_pages.clear()

    def _count_repeats(self, pc: int, exception: ExceptionTaken | None) -> None:
        if exception is None:
            self._repeats, self._last_exception = 0, None
        elif self._last_exception == (pc, exception):
            self._repeats += 1
        else:
            self._repeats, self._last_exception = 1, (pc, exception)

    # Loops

    def _remember_loop(self, pc: int) -> None:
        """Keep the loop that starts at ``pc``, if it is one to fold: from now on it is folded from its first round."""
        self._loop_rounds = 0
        end = self._loop_end
        if end is None or end[1] != pc or end[0] in self._unfoldable:
            return
        el = self._core[_PSTATE] & _EL
        last = self._plans.get((end[0], el))
        loop = find_loop(self._plan_at, last, self._block_size()) if last is not None else None
        if loop is None or not can_measure(loop, self._core_registers()):
            self._unfoldable.add(end[0])
        else:
            self._loops[pc, el] = loop

    def _plan_at(self, address: int) -> Plan | None:
        return self._plans.get((address, self._core[_PSTATE] & _EL))

    def _run_loop(self, loop: Loop, deadline: float | None) -> None:
        remaining = _FOLD_SECONDS if deadline is None else max(0.1, deadline - time.monotonic())
        try:
            self._cpu.run_to({loop.exit, *self._vectors()}, remaining)
        except MachineEndedError:
            raise
        except TargetError:
            pass  # the time was up, or something else stopped it: wherever it is now, the record says so
        before, registers = self._core, self._core_registers()
        self._core = self._cpu.read_core()
        rounds = measure(loop, registers, self._core[:GENERAL]) if self._core[_PC] == loop.exit else None
        if rounds is None or sum(each.end - each.start for each in rounds.touched) > _MOST_FOLDED:
            self._take_unfollowed(loop, before)
            return
        reads, writes = (self._touched(rounds.touched, access) for access in (Access.READ, Access.WRITE))
        events = events_of(rounds, len(loop.plans), reads, writes, self._memory)
        changes = {name: new for name, old, new in zip(self._names, before, self._core, strict=True) if old != new}
        self._values.update(changes)
        self._writer.step(self._core[_PC], loop.plans[0].word, changes, events=events)
        for _, pa, _ in writes:
            self._seen.see_written(pa)
            self._spaces.written(pa)
            if pa >> 12 in self._code_pages:
                self._forget_code()
        for _, pa, _ in reads:
            self._seen.see(pa)

    def _vectors(self) -> list[int]:
        """Where an exception of the loop would go: from this level to itself, and to EL2."""
        el, uses_sp_elx = bits(self._core[_PSTATE], 3, 2), self._core[_PSTATE] & 1
        offsets = {el: _VECTOR_SP_ELX if uses_sp_elx else _VECTOR_SP_EL0}
        offsets |= {higher: _VECTOR_LOWER_EL for higher in range(el + 1, 3)}
        bases = {level: self._values.get(f"VBAR_EL{level}") for level in offsets}
        return [base + offsets[level] for level, base in bases.items() if base is not None]

    def _touched(self, touched: Iterable[Touched], access: Access) -> list[Piece]:
        """The pages that a loop touched."""
        pages = {
            page
            for each in touched
            if each.access is access
            for page in range(each.start & -PAGE_SIZE, each.end, PAGE_SIZE)
        }
        return [
            piece
            for page in sorted(pages)
            for piece in self._spaces.pieces(self._values, self._core[_PSTATE], page, PAGE_SIZE, access)
        ]

    def _take_unfollowed(self, loop: Loop, before: tuple[int, ...]) -> None:
        """The loop was left, and what it did cannot be told: the state now is all that is recorded."""
        old = dict(self._values)
        self._values.update(zip(self._names, self._core, strict=True))
        self._changed(self._recorded)
        changes: dict[str, int | None] = {name: new for name, new in self._values.items() if old.get(name) != new}
        pc, el = self._core[_PC], bits(self._core[_PSTATE], 3, 2)
        addresses = [plan.instruction.address for plan in loop.plans]
        exception = exception_between(bits(before[_PSTATE], 3, 2), addresses, self._values, pc, el)
        self._writer.step(pc, loop.plans[0].word, changes, exception=exception, events=(Event(EventKind.RAN),))
        self._seen.lose_track()
        self._forget_translations()

    # Writing

    def _emit(self) -> None:
        """Write the step that is pending."""
        record, self._pending = self._pending, None
        if record is not None:
            self._writer.step(record.next_pc, record.word, record.changes, record.writes, record.exception)

    def _audit(self) -> None:
        """Compare all registers with what is believed, while what is believed has not been written yet."""
        self._emit()
        changes = {name: value for name, value in self._changed(self._recorded).items() if value is not None}
        if changes:
            first = self._writer.steps - self._writer.pending_steps
            self._remarks.append(
                f"{', '.join(sorted(changes))} changed without an instruction that writes it; unknown in states "
                f"{first} to {self._writer.steps - 1}"
            )
        self._writer.amend(changes)


def _stored(plan: Plan | None, before: tuple[int, ...]) -> bytes | None:
    """What a store of general registers wrote, little-endian; ``None`` for others."""
    if plan is None or plan.access is None or not plan.access.registers:
        return None
    values = (0 if number == GENERAL else before[number] for number in plan.access.registers)
    return b"".join((value & mask(8 * plan.access.size)).to_bytes(plan.access.size, "little") for value in values)
