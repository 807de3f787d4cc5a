"""Works out what instructions did that ran without exceptions, many of them at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from kexecdbg.arm64.evaluation.system_registers import changes_translation, depends_on
from kexecdbg.arm64.features import effective_e2h
from kexecdbg.arm64.instructions import accessed_register
from kexecdbg.arm64.pstate import el_of, stack_register
from kexecdbg.checks.enable_site import pending_write
from kexecdbg.qemu.cpu_log import SP
from kexecdbg.qemu.kept_bits import kept_of
from kexecdbg.trace.recording.analyses import look_at_switch
from kexecdbg.trace.recording.log.accesses import Accesses, accesses_of, conditional_stores, pieces
from kexecdbg.trace.recording.log.code import NOWHERE, address_keys
from kexecdbg.trace.recording.log.columns import SystemChanges, Writes, make_block
from kexecdbg.trace.recording.log.present import Present
from kexecdbg.trace.recording.log.states import States, Steps
from kexecdbg.trace.recording.plan import Concern, Plan
from kexecdbg.trace.step_block import PAGE_SIZE, U64
from kexecdbg.trace.writer import STEPS_PER_BLOCK

_TOUCHES_MEMORY = Concern.MEMORY | Concern.ZEROES_BLOCK | Concern.UNKNOWN_STORE
_SYSTEM = Concern.SYSTEM_WRITE | Concern.SYSTEM_READ | Concern.ADDRESS_TRANSLATION | Concern.STACK_SELECT
_SHORTEST = 64
"""Steps that are worked out together at least; more and more, up to a block, while translations do not change."""
_PAGE_MASK = np.uint64(-PAGE_SIZE & (1 << 64) - 1)
_SWITCHES_LOOKED_AT = 4
"""How often the analyses are made at one switch."""


class Instructions:
    """The distinct instructions of some steps, decoded.

    Attributes:
        plans: them; ``None`` for one that cannot be fetched.
        which: for each step, the place of its instruction in ``plans``.
    """

    def __init__(self, present: Present, states: States) -> None:
        present.values["PSTATE"] = int(states.pstates[0])
        keys, which = np.unique(address_keys(states.pcs[:-1], states.pstates[:-1]), return_inverse=True)
        self.plans: Sequence[Plan | None] = [present.code.plan(key) for key in keys.tolist()]
        self.which: npt.NDArray[np.intp] = which

    def limit(self, count: int) -> None:
        """Keep the first ``count`` steps."""
        self.which = self.which[:count]

    def of_step(self, step: int) -> Plan | None:
        """The instruction of one step."""
        return self.plans[int(self.which[step])]

    def steps_that(self, concerns: Concern) -> list[int]:
        """The steps whose instruction has one of ``concerns``."""
        concerned = np.array([plan is not None and bool(plan.concerns & concerns) for plan in self.plans], np.bool_)
        steps: list[int] = np.flatnonzero(concerned[self.which]).tolist()
        return steps

    def first_changing_translations(self) -> int | None:
        """The first step after which addresses may translate otherwise."""
        changing = np.array([_changes_translations(plan) for plan in self.plans], np.bool_)
        found = np.flatnonzero(changing[self.which])
        return int(found[0]) if len(found) else None

    def with_steps(self, concerns: Concern) -> Iterator[tuple[Plan, Steps]]:
        """Each instruction with one of ``concerns``, and the steps that execute it, ascending."""
        order = np.argsort(self.which, kind="stable")
        bounds = np.searchsorted(self.which[order], np.arange(len(self.plans) + 1))
        for place, plan in enumerate(self.plans):
            if plan is not None and plan.concerns & concerns and bounds[place] < bounds[place + 1]:
                yield plan, order[bounds[place] : bounds[place + 1]]


class Execution:
    """Adds steps to the trace of ``present``."""

    def __init__(self, present: Present) -> None:
        self._present = present
        self._together = _SHORTEST
        self._switches: dict[int, int] = {}

    def take(self, states: States) -> None:
        """Work out the steps between ``states``, of which the first is the present one, as far as there is room."""
        states = states.part(0, min(states.steps, self._present.room))
        position = 0
        while position < states.steps:
            position += self._take_some(states.part(position, min(position + self._together, states.steps)))

    def _take_some(self, states: States) -> int:
        """Work out steps from the first of ``states`` on; how many, one at least."""
        present = self._present
        instructions = Instructions(present, states)
        count = self._before_translations_change(states, instructions)
        states = states.part(0, count)
        instructions.limit(count)
        writes = self.writes(states, instructions)
        hit = self.first_on_tables_or_code(writes)
        if hit is not None:
            count = hit + 1
            states, writes = states.part(0, count), writes.up_to(count)
            instructions.limit(count)
        system = self._system_changes(states, instructions)
        block = make_block(present.writer, states, instructions.plans, instructions.which, system, writes)
        present.writer.append(block)
        if hit is not None or _changes_translations(instructions.of_step(count - 1)):
            present.code.translations_changed()
            self._together = _SHORTEST
        else:
            self._together = min(2 * self._together, STEPS_PER_BLOCK)
        return count

    def _before_translations_change(self, states: States, instructions: Instructions) -> int:
        """How many steps have the same translations; the last of them may change these."""
        first = instructions.first_changing_translations()
        if first is None:
            return states.steps
        plan = instructions.of_step(first)
        assert plan is not None  # an instruction that is not known changes nothing
        at_change = states.part(first, first)
        write = pending_write(plan.instruction, self._present.state(at_change))
        if write is None or not write.enables_mmu:
            return first + 1
        if first > 0:
            return first  # the analyses are made when the trace has come to the state right before the switch
        self.look_at_switch(at_change)
        return 1

    def look_at_switch(self, states: States) -> None:
        """Make the analyses in the present state, the first of ``states``, a few times for each place."""
        pc = int(states.pcs[0])
        self._switches[pc] = self._switches.get(pc, 0) + 1
        if self._switches[pc] <= _SWITCHES_LOOKED_AT:
            look_at_switch(self._present.state(states), self._present.memory)

    # Memory

    def writes(self, states: States, instructions: Instructions, touched: list[Accesses] | None = None) -> Writes:
        """What the steps store; ``touched`` takes all their accesses.

        The pages that they touch go into the trace as they are now.
        """
        present = self._present
        big_endian = present.is_big_endian(int(states.pstates[0]))
        writes = Writes()
        for plan, steps in instructions.with_steps(_TOUCHES_MEMORY):
            if plan.concerns & Concern.UNKNOWN_STORE:
                present.stores_unknown()
                continue
            access = accesses_of(plan, steps, states, present.block_size, big_endian)
            if touched is not None:
                touched.append(access)
            conditional = conditional_stores(plan, steps, states, big_endian) if access.is_write else None
            self._add(access if conditional is None else access.only(*conditional), states, writes)
        return writes

    def _add(self, access: Accesses, states: States, writes: Writes) -> None:
        for which, vas, size, offset in pieces(access.addresses, access.size):
            steps = access.steps[which]
            pas = self.physical(vas, states.pstates[steps])
            if access.is_write:
                there = pas != NOWHERE
                data = None if access.data is None else access.data[which[there], offset : offset + size]
                writes.add(steps[there], vas[there], pas[there], size, data)
                self._present.stores_unknown(int(np.count_nonzero(~there)))

    def physical(self, vas: U64, pstates: npt.NDArray[np.uint32]) -> U64:
        """Physical addresses, NOWHERE for those that do not translate; their pages go into the trace."""
        offsets = vas & ~_PAGE_MASK
        pages = self._present.code.physical_pages(address_keys(vas - offsets, pstates))
        there = pages != NOWHERE
        for page in np.unique(pages[there]).tolist():
            self._present.memory.see(page)
        return np.where(there, pages | offsets, pages)

    def first_on_tables_or_code(self, writes: Writes) -> int | None:
        """The first step that stores to tables that translations depend on, or to code; ``None`` if none does."""
        hits = [
            int(steps[hit].min())
            for steps, pas in zip(writes.steps, writes.pas, strict=True)
            if (hit := self._present.code.is_table_or_code(pas & _PAGE_MASK)).any()
        ]
        return min(hits, default=None)

    # System registers

    def _system_changes(self, states: States, instructions: Instructions) -> SystemChanges:
        present = self._present
        changes = SystemChanges()
        for step in instructions.steps_that(_SYSTEM):
            plan = instructions.of_step(step)
            assert plan is not None  # steps_that() gives no others
            for name, value in self._system_effects(plan, states, step):
                if present.records(name) and present.values.get(name) != value:
                    changes.add(step, present.writer.number(name), value)
                    present.set(name, value)
        return changes

    def _system_effects(self, plan: Plan, states: States, step: int) -> Iterator[tuple[str, int | None]]:
        """The system registers that a step writes, or that it shows the value of."""
        pstate = int(states.pstates[step])
        move = plan.system_move
        if move is not None:
            e2h = bool(effective_e2h(self._present.values))
            name = accessed_register(move.register, el_of(pstate), e2h)
            # A read shows what the register holds, whatever was believed: it is in the general register afterwards.
            row = states.registers[step if move.is_write else step + 1]
            if move.general != "XZR":
                value = int(row[int(move.general[1:])])
                yield name, kept_of(name, value, self._present.values) if move.is_write else value
            elif move.is_write:
                yield name, 0
            if move.is_write:
                yield from ((dependent, None) for dependent in depends_on(name))
        if plan.concerns & Concern.ADDRESS_TRANSLATION:
            yield "PAR_EL1", None
        if plan.concerns & Concern.STACK_SELECT:
            is_return = bool(plan.concerns & Concern.EXCEPTION)
            if is_return or stack_register(pstate) != stack_register(int(states.pstates[step + 1])):
                # QEMU stores SP to its SP_ELx now (target/arm/internals.h, aarch64_save_sp).
                yield stack_register(pstate), int(states.registers[step, SP])


def _changes_translations(plan: Plan | None) -> bool:
    if plan is None:
        return False
    move = plan.system_move
    if move is not None:
        return move.is_write and changes_translation(move.register)
    return bool(plan.concerns & Concern.TRANSLATION)
