"""Works out exceptions, and the instruction before each, one by one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kexecdbg.arm64.evaluation.data_processing import data_processing
from kexecdbg.arm64.instructions import INSTRUCTION_SIZE, Flow
from kexecdbg.arm64.pstate import el_of, stack_register, with_flags
from kexecdbg.qemu.cpu_log import SP
from kexecdbg.qemu.exception_log import LoggedException
from kexecdbg.trace.recording.core_registers import GENERAL, CoreRegisters
from kexecdbg.trace.recording.exceptions import is_stage_2_fault
from kexecdbg.trace.recording.log.code import address_keys
from kexecdbg.trace.recording.log.execution import Execution
from kexecdbg.trace.recording.log.present import Present
from kexecdbg.trace.recording.log.states import States
from kexecdbg.trace.recording.plan import Concern, Plan
from kexecdbg.trace.records import ExceptionTaken


class Interruptions:
    """Adds exceptions to the trace of ``present``."""

    def __init__(self, present: Present, execution: Execution) -> None:
        self._present = present
        self._execution = execution

    def take(self, before: States, exceptions: Sequence[LoggedException], after: States) -> None:
        """The instruction in state ``before``, which is the present one, and the exceptions that lead to ``after``."""
        present = self._present
        pc = int(before.pcs[0])
        plan = present.code.plan(int(address_keys(before.pcs, before.pstates)[0]))
        first = exceptions[0]
        word = plan.word if plan is not None else None
        if first.elr != pc and not _is_call(plan, pc, first):
            # The instruction was executed; the exception is that of the next one, or an interrupt.
            self._execution.take(before.followed_by(self._state_between(before, plan, first, after)))
            word = None
        elif first.is_asynchronous:
            word = None
        for exception in exceptions[:-1]:
            self._add(exception, word, None)
            word = None
        self._add(exceptions[-1], word, after)

    def _state_between(self, before: States, plan: Plan | None, exception: LoggedException, after: States) -> States:
        """The state between an instruction and the exception that follows it, which the log does not show.

        An exception leaves the general registers alone; SP and PSTATE are what the instruction made of them.
        """
        pstate, general = int(before.pstates[0]), before.registers[0].tolist()
        registers = CoreRegisters(self._present.values, general[:GENERAL], general[SP], int(before.pcs[0]), pstate)
        effect = data_processing(plan.word) if plan is not None else None
        if effect is not None:
            effect(registers, int(before.pcs[0]))
        elif plan is not None and plan.access is not None:
            plan.access.move_base(registers)
        if registers.flags is not None:
            pstate = with_flags(pstate, registers.flags)
        row = after.registers.copy()
        row[0, SP] = general[SP] if registers.sp is None else registers.sp
        if plan is not None and plan.concerns & Concern.STACK_SELECT and plan.concerns & Concern.EXCEPTION:  # ERET
            pstate = self._present.values.get(f"SPSR_EL{el_of(pstate)}", pstate)
            row[0, SP] = self._present.values.get(stack_register(pstate), general[SP])
        if exception.spsr is not None:
            pstate = exception.spsr
        return States(np.array([exception.elr], np.uint64), row, np.array([pstate], np.uint32))

    def _add(self, exception: LoggedException, word: int | None, after: States | None) -> None:
        """One exception; ``after`` is the state that the log shows next, when nothing comes between."""
        present, level = self._present, exception.to_el
        if not present.room:
            return
        pstate, stack = present.writer.value("PSTATE"), present.writer.value("SP")
        spsr = exception.spsr if exception.spsr is not None else pstate
        changes: dict[str, int | None] = {
            f"ESR_EL{level}": exception.esr,
            f"ELR_EL{level}": exception.elr,
            f"SPSR_EL{level}": spsr,
        }
        if pstate is not None:
            changes[stack_register(pstate)] = stack
        if exception.far is not None:
            changes[f"FAR_EL{level}"] = exception.far
        if is_stage_2_fault(exception.esr, exception.from_el, level):
            changes["HPFAR_EL2"] = None
        next_pc = exception.pc if exception.pc is not None else exception.elr
        if after is not None:
            row = after.row()
            next_pc = row["PC"]
            changes |= row
        elif exception.pstate is not None:
            changes["PSTATE"] = exception.pstate
            selected = stack_register(exception.pstate)
            changes["SP"] = changes.get(selected, present.values.get(selected))
        changed = {
            name: value
            for name, value in changes.items()
            if present.records(name) and name != "PC" and present.writer.value(name) != value
        }
        taken = ExceptionTaken(exception.from_el, level, exception.esr, exception.far, exception.elr, spsr)
        present.writer.step(next_pc, word, changed, exception=taken)
        for name, value in changed.items():
            present.set(name, value)


def _is_call(plan: Plan | None, pc: int, exception: LoggedException) -> bool:
    """Whether the exception is what SVC, HVC or SMC ask for: it returns to the instruction after it."""
    is_call = plan is not None and plan.instruction.flow is Flow.EXCEPTION
    return is_call and exception.elr == pc + INSTRUCTION_SIZE and not exception.is_asynchronous
