"""Makes a trace of the states that QEMU logged: instructions decoded, memory and system registers worked out.

The log has the general registers, SP, PC and PSTATE before each instruction, and each exception. Everything else
follows from decoding: what was stored and where, and what the system registers are, starting from the values that the
machine had when the recording began. What runs without exceptions is worked out for many instructions at once; an
exception, and the instruction before it, one by one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from kexecdbg.arm64.bits import bit, bits
from kexecdbg.arm64.evaluation.data_processing import data_processing
from kexecdbg.arm64.evaluation.system_registers import changes_translation, depends_on
from kexecdbg.arm64.features import effective_e2h
from kexecdbg.arm64.instructions import INSTRUCTION_SIZE, Flow, accessed_register
from kexecdbg.arm64.interfaces import PhysicalMemory
from kexecdbg.arm64.regimes import SCTLR_EE
from kexecdbg.checks.enable_site import pending_write
from kexecdbg.machine.state import CpuState
from kexecdbg.qemu.cpu_log import SP, LoggedStates
from kexecdbg.qemu.exception_log import LoggedException
from kexecdbg.trace.recording.analyses import look_at_end, look_at_switch
from kexecdbg.trace.recording.core_registers import GENERAL, CoreRegisters
from kexecdbg.trace.recording.exceptions import is_stage_2_fault
from kexecdbg.trace.recording.log.accesses import States, accesses_of, conditional_stores, pieces
from kexecdbg.trace.recording.log.code import NOWHERE, CodeMap, address_keys
from kexecdbg.trace.recording.log.columns import COLUMN_NAMES, SystemChanges, Writes, make_block
from kexecdbg.trace.recording.log.memory import LoggedMemory
from kexecdbg.trace.recording.log.snapshot import RamSnapshot
from kexecdbg.trace.recording.plan import Concern, Plan
from kexecdbg.trace.records import ExceptionTaken
from kexecdbg.trace.step_block import PAGE_SIZE, U64
from kexecdbg.trace.writer import STEPS_PER_BLOCK, TraceWriter

_TOUCHES_MEMORY = Concern.MEMORY | Concern.ZEROES_BLOCK
_SYSTEM = Concern.SYSTEM_WRITE | Concern.SYSTEM_READ | Concern.ADDRESS_TRANSLATION | Concern.STACK_SELECT
_SHORTEST = 64
"""Steps that are worked out together at least; more and more, up to a block, while translations do not change."""
_FLAGS = 0xF << 28
_SWITCHES_LOOKED_AT = 4
"""How often the analyses are made at one switch."""


class LogReconstruction:
    """Turns logged states into steps of ``writer``.

    Attributes:
        repeats: how often the last exception was taken, one time right after the other.
        idle: how many states, to the last, were the same: the CPU rests in a branch to itself.

    Args:
        writer: a trace that starts with the machine's state when the log was switched on.
        snapshot: memory as it was then.
        most_repeats: how many identical exceptions, one after another, are recorded; a CPU that spins in its vectors
            takes a hundred thousand a second.
    """

    def __init__(self, writer: TraceWriter, snapshot: RamSnapshot, most_repeats: int) -> None:
        self.repeats = 0
        self._most_repeats = most_repeats
        self.idle = 0
        self._writer = writer
        self.memory = LoggedMemory(snapshot, writer)
        names = writer.header.registers
        self._values = {name: value for name in names if (value := writer.value(name)) is not None}
        self._recorded = frozenset(names)
        self._code = CodeMap(self.memory, self._values)
        self._chunk = _SHORTEST
        self._last = _one_state(self._values)
        self._waiting: list[LoggedException] = []
        self._last_exception: LoggedException | None = None
        self._unknown_stores = 0
        self._switches: dict[int, int] = {}
        self._look_at_switch()

    # What the log brings

    def take(self, logged: LoggedStates) -> None:
        """Work out the steps up to the last of these states."""
        states = _following(self._last, logged)
        gaps: dict[int, list[LoggedException]] = {}
        if self._waiting:
            gaps[0] = self._waiting
        for place, exception in logged.exceptions:
            self._count_repeats(exception)
            if self.repeats <= self._most_repeats:
                gaps.setdefault(place, []).append(exception)
        # Where exceptions at the end lead to is not known before the next state comes.
        self._waiting = gaps.pop(states.steps, [])
        start = 0
        for place, exceptions in gaps.items():
            self._take_states(states.part(start, place))
            self._take_gap(states.part(place, place), exceptions, states.part(place + 1, place + 1))
            start = place + 1
        rest = states.part(start, states.steps)
        self._take_states(rest)
        self._last = rest.part(rest.steps, rest.steps)

    def finish(self, core: Sequence[int], system: Mapping[str, int], memory: PhysicalMemory) -> tuple[str, ...]:
        """The machine has stopped, with these registers: the last step ends there.

        Args:
            core: X0 to X30, SP, PC and PSTATE.
            system: the other registers.
            memory: the machine's memory, which is compared with what was worked out.

        Returns: what is not in the trace, as sentences.
        """
        final = States(
            np.array([core[GENERAL + 1]], np.uint64),
            np.array([core[: GENERAL + 1]], np.uint64),
            np.array([core[GENERAL + 2]], np.uint32),
        )
        exceptions, self._waiting = self._waiting, []
        if exceptions:
            self._take_gap(self._last, exceptions, final)
        else:
            self._take_states(_joined(self._last, final))
        self._last = final
        remarks = [*self._compare_registers(system), *self._compare_memory(memory)]
        look_at_end(self._state(final), self.memory)
        return tuple(remarks)

    def _count_repeats(self, exception: LoggedException) -> None:
        self.repeats = self.repeats + 1 if exception == self._last_exception else 1
        self._last_exception = exception

    def _compare_registers(self, system: Mapping[str, int]) -> list[str]:
        names = self._recorded - {*COLUMN_NAMES, "PC", "PSTATE"}
        real = {name: value for name, value in system.items() if name in names}
        unknown = {name: value for name, value in real.items() if name not in self._values}
        different = {
            name: value for name, value in real.items() if name in self._values and self._values[name] != value
        }
        self._values.update(real)
        self._writer.amend({**unknown, **different})
        if not different:
            return []
        found = ", ".join(f"{name} {value:#x}" for name, value in sorted(different.items()))
        return [f"not what instructions wrote, since when is not known: {found}"]

    def _compare_memory(self, memory: PhysicalMemory) -> list[str]:
        different = self.memory.compare(memory)
        if not different:
            return []
        shown = ", ".join(f"{page:#x}" for page in different[:3]) + (", ..." if len(different) > 3 else "")
        return [f"{len(different)} pages changed in ways that the log does not show; unknown before the end: {shown}"]

    # States without exceptions between them

    def _take_states(self, states: States) -> None:
        states, repetitions = _without_repetitions(states)
        self.idle = repetitions if not states.steps else 0
        position = 0
        while position < states.steps:
            position += self._take_chunk(states.part(position, min(position + self._chunk, states.steps)))

    def _take_chunk(self, states: States) -> int:
        """Work out steps from the first of ``states`` on; how many, one at least."""
        keys, inverse = np.unique(address_keys(states.pcs[:-1], states.pstates[:-1]), return_inverse=True)
        self._values["PSTATE"] = int(states.pstates[0])
        plans = [self._code.plan(key) for key in keys.tolist()]
        count = self._before_translation_change(states, plans, inverse)
        states, inverse = states.part(0, count), inverse[:count]
        writes = self._memory_touched(states, plans, inverse)
        hit = self._first_hit(writes)
        if hit is not None:
            count = hit + 1
            states, inverse, writes = states.part(0, count), inverse[:count], writes.up_to(count)
        system = self._system_changes(states, plans, inverse)
        changes_translation = _changes_translation(plans[inverse[-1]])
        self._writer.append(make_block(self._writer, states, plans, inverse, system, writes))
        if changes_translation or hit is not None:
            self._code.translations_changed()
            self._chunk = _SHORTEST
        else:
            self._chunk = min(2 * self._chunk, STEPS_PER_BLOCK)
        return count

    def _before_translation_change(
        self, states: States, plans: Sequence[Plan | None], inverse: npt.NDArray[np.intp]
    ) -> int:
        """How many steps have the same translations; the last of them may change these."""
        changing = np.array([_changes_translation(plan) for plan in plans], np.bool_)[inverse]
        first = next(iter(np.flatnonzero(changing).tolist()), None)
        if first is None:
            return states.steps
        plan = plans[inverse[first]]
        assert plan is not None
        write = pending_write(plan.instruction, self._state(states.part(first, first)))
        if write is None or not write.enables_mmu:
            return first + 1
        if first > 0:
            return first  # the analyses are made in the state right before it
        self._look_at_switch(states.part(0, 0), plan.instruction.address)
        return 1

    def _look_at_switch(self, state: States | None = None, address: int = 0) -> None:
        if self._switches.setdefault(address, 0) < _SWITCHES_LOOKED_AT:
            self._switches[address] += 1
            look_at_switch(self._state(state or self._last), self.memory)

    def _state(self, state: States) -> CpuState:
        """The registers in the first of ``state``."""
        row = dict(zip(COLUMN_NAMES, state.registers[0].tolist(), strict=True))
        return CpuState({**self._values, **row, "PC": int(state.pcs[0]), "PSTATE": int(state.pstates[0])})

    def _memory_touched(self, states: States, plans: Sequence[Plan | None], inverse: npt.NDArray[np.intp]) -> Writes:
        """What the steps store. All pages that they touch go into the trace as they are before."""
        block_size = 4 << bits(self._values.get("DCZID_EL0", 4), 3, 0)
        big_endian = self._is_big_endian(int(states.pstates[0]))
        writes = Writes()
        for plan, steps in zip(plans, _steps_of_each(inverse, len(plans)), strict=True):
            if plan is None or not len(steps) or not plan.concerns & (_TOUCHES_MEMORY | Concern.UNKNOWN_STORE):
                continue
            if plan.concerns & Concern.UNKNOWN_STORE:
                self._unknown_stores += 1
                continue
            access = accesses_of(plan, steps, states, block_size, big_endian)
            steps, addresses, data = access.steps, access.addresses, access.data
            conditional = conditional_stores(plan, steps, states, big_endian) if access.is_write else None
            if conditional is not None:
                addresses = addresses[np.isin(steps, conditional[0])]
                steps, data = conditional
            for which, vas, size, offset in pieces(addresses, access.size):
                pas = self._physical(vas, states.pstates[steps[which]])
                there = pas != NOWHERE
                if access.is_write:
                    part = None if data is None else data[which[there], offset : offset + size]
                    writes.add(steps[which[there]], vas[there], pas[there], size, part)
                    self._unknown_stores += int(np.count_nonzero(~there))
        return writes

    def _physical(self, vas: U64, pstates: npt.NDArray[np.uint32]) -> U64:
        """Physical addresses, NOWHERE for those that do not translate; their pages go into the trace."""
        offsets = vas & np.uint64(PAGE_SIZE - 1)
        pages = self._code.physical_pages(address_keys(vas - offsets, pstates))
        there = pages != NOWHERE
        for page in np.unique(pages[there]).tolist():
            self.memory.see(page)
        return np.where(there, pages | offsets, pages)

    def _is_big_endian(self, pstate: int) -> bool:
        return bool(bit(self._values.get(f"SCTLR_EL{max(bits(pstate, 3, 2), 1)}", 0), SCTLR_EE))

    def _first_hit(self, writes: Writes) -> int | None:
        """The first step that stores to tables that translations depend on, or to code."""
        hits = [
            int(steps[hit].min())
            for steps, pas in zip(writes.steps, writes.pas, strict=True)
            if (hit := self._code.is_table_or_code(pas & np.uint64(-PAGE_SIZE & (1 << 64) - 1))).any()
        ]
        return min(hits, default=None)

    def _system_changes(
        self, states: States, plans: Sequence[Plan | None], inverse: npt.NDArray[np.intp]
    ) -> SystemChanges:
        changes = SystemChanges()
        concerned = np.array([plan is not None and bool(plan.concerns & _SYSTEM) for plan in plans], np.bool_)
        for step in np.flatnonzero(concerned[inverse]).tolist():
            plan = plans[inverse[step]]
            assert plan is not None
            for name, value in self._system_effects(plan, states, step):
                if name in self._recorded and self._values.get(name) != value:
                    changes.add(step, self._writer.number(name), value)
                    self._set(name, value)
        return changes

    def _set(self, name: str, value: int | None) -> None:
        if value is None:
            self._values.pop(name, None)
        else:
            self._values[name] = value

    def _system_effects(self, plan: Plan, states: States, step: int) -> Iterator[tuple[str, int | None]]:
        """The system registers that a step writes, or that it shows the value of."""
        pstate = int(states.pstates[step])
        el = bits(pstate, 3, 2)
        move = plan.system_move
        if move is not None:
            name = accessed_register(move.register, el, bool(effective_e2h(self._values)))
            # A read shows what the register holds, whatever was believed; it is in the general register afterwards.
            row = states.registers[step if move.is_write else step + 1]
            if move.general != "XZR":
                yield name, int(row[int(move.general[1:])])
            elif move.is_write:
                yield name, 0
            if move.is_write:
                yield from ((dependent, None) for dependent in depends_on(name))
        if plan.concerns & Concern.ADDRESS_TRANSLATION:
            yield "PAR_EL1", None
        if plan.concerns & Concern.STACK_SELECT and self._stack_changes(plan, pstate, int(states.pstates[step + 1])):
            yield _stack_register(pstate), int(states.registers[step, SP])

    def _stack_changes(self, plan: Plan, before: int, after: int) -> bool:
        """Whether QEMU stores SP to its SP_ELx: at every ERET, and when MSR SPSel changes anything."""
        return bool(plan.concerns & Concern.EXCEPTION) or _stack_register(before) != _stack_register(after)

    # Exceptions

    def _take_gap(self, before: States, exceptions: Sequence[LoggedException], after: States) -> None:
        """The instruction in state ``before``, and the ``exceptions`` that lead to state ``after``."""
        pc = int(before.pcs[0])
        plan = self._code.plan(int(address_keys(before.pcs, before.pstates)[0]))
        first = exceptions[0]
        word = None
        if first.elr == pc and not first.is_asynchronous:
            word = plan.word if plan is not None else None
        elif first.elr != pc and not _is_call(plan, pc, first):
            self._take_states(_joined(before, self._interrupted_state(before, plan, first, after)))
        elif first.elr != pc and plan is not None:
            word = plan.word
        for exception in exceptions[:-1]:
            self._take_exception(exception, word, None)
            word = None
        self._take_exception(exceptions[-1], word, after)

    def _interrupted_state(
        self, before: States, plan: Plan | None, exception: LoggedException, after: States
    ) -> States:
        """The state between an instruction and the exception after it, which the log does not show."""
        general = before.registers[0].tolist()
        registers = CoreRegisters(
            self._values, general[:GENERAL], general[SP], int(before.pcs[0]), int(before.pstates[0])
        )
        effect = data_processing(plan.word) if plan is not None else None
        if effect is not None:
            effect(registers, int(before.pcs[0]))
        elif plan is not None and plan.access is not None:
            plan.access.move_base(registers)
        pstate = int(before.pstates[0])
        if registers.flags is not None:
            pstate = pstate & ~_FLAGS | registers.flags << 28
        if plan is not None and plan.concerns & Concern.EXCEPTION:  # ERET
            pstate = self._values.get(f"SPSR_EL{bits(pstate, 3, 2)}", pstate)
        row = after.registers.copy()
        row[0, SP] = general[SP] if registers.sp is None else registers.sp
        if plan is not None and plan.concerns & Concern.STACK_SELECT:
            row[0, SP] = self._values.get(_stack_register(pstate), general[SP])
        return States(
            np.array([exception.elr], np.uint64),
            row,
            np.array([pstate if exception.spsr is None else exception.spsr], np.uint32),
        )

    def _take_exception(self, exception: LoggedException, word: int | None, after: States | None) -> None:
        """One exception; ``after`` is the state that the log shows next, when nothing comes between."""
        level = exception.to_el
        pstate, stack = self._present("PSTATE"), self._present("SP")
        spsr = exception.spsr if exception.spsr is not None else pstate
        changes: dict[str, int | None] = {
            f"ESR_EL{level}": exception.esr,
            f"ELR_EL{level}": exception.elr,
            f"SPSR_EL{level}": spsr,
            _stack_register(pstate): stack,
            "PSTATE": exception.pstate,
        }
        if exception.far is not None:
            changes[f"FAR_EL{level}"] = exception.far
        if is_stage_2_fault(exception.esr, exception.from_el, level):
            changes["HPFAR_EL2"] = None
        next_pc = exception.pc
        if after is not None:
            next_pc = int(after.pcs[0])
            changes |= dict(zip(COLUMN_NAMES, after.registers[0].tolist(), strict=True))
            changes["PSTATE"] = int(after.pstates[0])
        elif exception.pstate is not None:
            changes["SP"] = self._values.get(_stack_register(exception.pstate)) if stack is not None else None
        taken = ExceptionTaken(exception.from_el, level, exception.esr, exception.far, exception.elr, spsr)
        kept = {
            name: value
            for name, value in changes.items()
            if name in self._recorded and self._writer.value(name) != value
        }
        self._writer.step(next_pc if next_pc is not None else exception.elr, word, kept, exception=taken)
        for name, value in kept.items():
            self._set(name, value)

    def _present(self, name: str) -> int:
        value = self._writer.value(name)
        return 0 if value is None else value


def _one_state(values: Mapping[str, int]) -> States:
    return States(
        np.array([values["PC"]], np.uint64),
        np.array([[values.get(name, 0) for name in COLUMN_NAMES]], np.uint64),
        np.array([values.get("PSTATE", 0)], np.uint32),
    )


def _following(last: States, logged: LoggedStates) -> States:
    return _joined(last, States(logged.pcs, logged.registers, logged.pstates))


def _joined(first: States, second: States) -> States:
    return States(
        np.concatenate((first.pcs, second.pcs)),
        np.concatenate((first.registers, second.registers)),
        np.concatenate((first.pstates, second.pstates)),
    )


def _without_repetitions(states: States) -> tuple[States, int]:
    """The states that differ from the one before, and how many at the end were left out.

    QEMU logs a block before it looks whether it has to stop instead of executing it; then the same state comes again.
    """
    same = (
        (states.pcs[1:] == states.pcs[:-1])
        & (states.pstates[1:] == states.pstates[:-1])
        & (states.registers[1:] == states.registers[:-1]).all(axis=1)
    )
    if not same.any():
        return states, 0
    kept = np.concatenate(([True], ~same))
    at_end = len(same) - (int(np.flatnonzero(~same)[-1]) + 1 if (~same).any() else 0)
    return States(states.pcs[kept], states.registers[kept], states.pstates[kept]), at_end


def _changes_translation(plan: Plan | None) -> bool:
    if plan is None:
        return False
    move = plan.system_move
    if move is not None:
        return move.is_write and changes_translation(move.register)
    return bool(plan.concerns & Concern.TRANSLATION)


def _steps_of_each(inverse: npt.NDArray[np.intp], count: int) -> list[npt.NDArray[np.int64]]:
    """For each distinct instruction, the steps that executed it, ascending."""
    order = np.argsort(inverse, kind="stable")
    bounds = np.searchsorted(inverse[order], np.arange(count + 1))
    return [order[bounds[place] : bounds[place + 1]] for place in range(count)]


def _is_call(plan: Plan | None, pc: int, exception: LoggedException) -> bool:
    """Whether the exception is what SVC, HVC or SMC ask for: it returns to the instruction after it."""
    is_call = plan is not None and plan.instruction.flow is Flow.EXCEPTION
    return is_call and exception.elr == pc + INSTRUCTION_SIZE and not exception.is_asynchronous


def _stack_register(pstate: int) -> str:
    """The SP_ELx that is SP with this PSTATE."""
    return f"SP_EL{bits(pstate, 3, 2)}" if pstate & 1 else "SP_EL0"
