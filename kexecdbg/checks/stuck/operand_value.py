"""Whether the instructions just before an ``msr`` can have made the value that is in its register now."""

from __future__ import annotations

from kexecdbg.arm64.bits import bit
from kexecdbg.arm64.evaluation import EvaluatedRegisters, Evaluator, StopReason, SystemRead, TranslatedMemory, evaluate
from kexecdbg.arm64.instructions import INSTRUCTION_SIZE, Flow, Instruction, decode_instruction
from kexecdbg.arm64.interfaces import PhysicalMemory
from kexecdbg.arm64.regimes import SCTLR_M, RegimeFacts
from kexecdbg.checks.fetching import code_reader
from kexecdbg.errors import MemoryUnreadableError
from kexecdbg.machine.state import CpuState

_LONGEST = 32
"""How many instructions before the ``msr`` are looked at."""
BYTES_AROUND = 256 * INSTRUCTION_SIZE
"""Before and after it, the instructions there are searched for branches into them."""


def can_have_written(
    before: CpuState, memory: PhysicalMemory, facts: RegimeFacts, operand: str, value: int
) -> bool | None:
    """Whether the code that ends at the ``msr`` at the PC of ``before`` leaves ``value`` in ``operand``.

    ``None`` when that does not depend on these instructions alone: the value comes from before them. Only the
    instructions that are executed whenever the ``msr`` is are looked at, with every general register unknown.
    ``before`` has SCTLR_ELx as it was guessed to be, M clear; from a value made of that, only M is concluded.
    """
    site = before.require("PC", "where the switch is")
    start = _block_start(before, memory, site)
    if start == site:
        return None
    registers = EvaluatedRegisters(before.with_values({"PC": start}))
    registers.forget_general()
    for name in (facts.esr, facts.far, facts.elr, facts.spsr, "DAIF"):
        registers.forget(name)  # as exceptions have left them since
    found = evaluate(
        Evaluator(registers, TranslatedMemory(memory)), _LONGEST, lambda instruction, _: instruction.address == site
    )
    made = registers.get(operand)
    if found.stop.reason is not StopReason.ASKED or made is None:
        return None
    from_sctlr = any(
        isinstance(effect, SystemRead) and effect.register == facts.sctlr
        for step in found.steps
        for effect in step.effects
    )
    if from_sctlr:
        return False if bit(made ^ value, SCTLR_M) else None
    return made == value


def _block_start(before: CpuState, memory: PhysicalMemory, site: int) -> int:
    """Address of the first instruction that is followed by all others up to ``site``, a bounded way back."""
    fetch = code_reader(before, memory)
    code: dict[int, Instruction] = {}
    for address in range(max(0, site - BYTES_AROUND), site + BYTES_AROUND, INSTRUCTION_SIZE):
        try:
            code[address] = decode_instruction(fetch(address), address)
        except MemoryUnreadableError:
            continue
    targets = {instruction.target for instruction in code.values()}
    start = site
    while start not in targets and site - start < _LONGEST * INSTRUCTION_SIZE:
        previous = code.get(start - INSTRUCTION_SIZE)
        if previous is None or previous.flow is not Flow.NEXT:
            break
        start = previous.address
    return start
