"""The code on both sides of the switch, evaluated: how it gets there from the PC, and what it does right after."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from kexecdbg.arm64.evaluation import (
    Effect,
    EvaluatedRegisters,
    Evaluation,
    Evaluator,
    ExceptionReturn,
    Location,
    Stop,
    StopReason,
    SystemWrite,
    TranslatedMemory,
    evaluate,
)
from kexecdbg.arm64.faults import Access
from kexecdbg.arm64.instructions import Instruction
from kexecdbg.arm64.interfaces import PhysicalMemory, RegisterValues
from kexecdbg.arm64.regimes import current_el, mmu_enabled, regime_of
from kexecdbg.checks.enable_site import pending_write
from kexecdbg.errors import RegisterUnknownError
from kexecdbg.machine.device_registers import read_register_of
from kexecdbg.machine.memory_map import MemoryMap, memory_map_of
from kexecdbg.machine.state import CpuState

_LONGEST_APPROACH = 2048
"""How many instructions are evaluated to get to the switch, at most."""
_LONGEST_AFTERMATH = 128
"""How many instructions are evaluated after it, at most."""


class _MappedTranslatedMemory(TranslatedMemory):
    """Evaluated memory of a machine whose memory map is known."""

    def __init__(self, base: PhysicalMemory, memory_map: MemoryMap) -> None:
        super().__init__(base)
        self.memory_map = memory_map
        self._machine = base

    def read_device_register(self, address: int, size: int) -> int:
        """As the machine's; the code's stores to devices are not followed."""
        return read_register_of(self._machine, address, size)


def _evaluated(memory: PhysicalMemory) -> TranslatedMemory:
    memory_map = memory_map_of(memory)
    return TranslatedMemory(memory) if memory_map is None else _MappedTranslatedMemory(memory, memory_map)


@dataclass(frozen=True)
class Approach:
    """The code from the PC to the switch.

    Attributes:
        evaluation: what it does; stopped at the switch, or where it cannot be told how it goes on.
        state: the registers there.
        memory: physical memory there, with what the code stores.
        reached: it is the switch.
    """

    evaluation: Evaluation
    state: CpuState
    memory: PhysicalMemory
    reached: bool


def approach(state: CpuState, memory: PhysicalMemory) -> Approach:
    """Evaluate from the PC of ``state`` to the first ``msr`` that switches the MMU of its exception level on."""
    after_stores = _evaluated(memory)
    evaluator = Evaluator(EvaluatedRegisters(state), after_stores)
    found = evaluate(evaluator, _LONGEST_APPROACH, _switches_mmu_on)
    reached = CpuState(evaluator.registers)
    return Approach(
        found,
        reached,
        after_stores if after_stores.has_stores else memory,
        found.stop.reason is StopReason.ASKED,
    )


def _switches_mmu_on(instruction: Instruction, registers: EvaluatedRegisters) -> bool:
    if instruction.system_move is None or not instruction.system_move.is_write:
        return False
    try:
        write = pending_write(instruction, registers)
        regime = regime_of(current_el(registers), registers)
        if write is None or not write.enables_mmu or write.register != regime.facts.sctlr:
            return False
        return not mmu_enabled(regime, registers)
    except RegisterUnknownError:
        return False


def aftermath(
    before: RegisterValues,
    after: CpuState,
    memory: PhysicalMemory,
    next_pc: int,
    limit: int = _LONGEST_AFTERMATH,
) -> Evaluation:
    """Evaluate at most ``limit`` instructions from ``next_pc`` in the state ``after`` the switch, as if none faulted.

    It ends where the regime's translation is changed again, or left for another exception level. An address that faults
    leads where it led ``before``.
    """
    el = current_el(after)
    regime = regime_of(el, after)
    names = {regime.facts.sctlr, regime.facts.tcr, regime.facts.ttbr0, regime.facts.ttbr1}
    registers = EvaluatedRegisters(after.with_values({"PC": next_pc}))
    evaluator = Evaluator(registers, _AsIntended(before, memory))
    found = evaluate(evaluator, limit)
    for number, step in enumerate(found.steps[:-1]):
        if any(_ends_translation(effect, names, el) for effect in step.effects):
            following = found.steps[number + 1].instruction
            return Evaluation(found.steps[: number + 1], Stop(StopReason.ASKED, following.address, following))
    return found


def _ends_translation(effect: Effect, names: Collection[str | None], el: int) -> bool:
    if isinstance(effect, ExceptionReturn):
        return effect.el != el
    return isinstance(effect, SystemWrite) and effect.register in names


class _AsIntended(TranslatedMemory):
    """Memory through the new translation; where that faults, through the old one."""

    def __init__(self, before: RegisterValues, memory: PhysicalMemory) -> None:
        super().__init__(memory)
        self._before = before
        self._old = TranslatedMemory(memory)

    def locate(self, registers: RegisterValues, va: int, access: Access) -> Location:
        """As :class:`TranslatedMemory`, without faults."""
        location = super().locate(registers, va, access)
        return location if location.fault is None else self._old.locate(self._before, va, access)
