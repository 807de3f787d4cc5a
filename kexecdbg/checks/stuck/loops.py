"""What the code at a stopped CPU's PC does if nothing disturbs it: an endless branch, a wait, or something else."""

from __future__ import annotations

from dataclasses import dataclass

from kexecdbg.arm64.instructions import INSTRUCTION_SIZE, Flow, Instruction, ReachableCode, reachable_code
from kexecdbg.arm64.interfaces import PhysicalMemory
from kexecdbg.checks.fetching import code_reader, instruction_at
from kexecdbg.errors import MemoryUnreadableError
from kexecdbg.machine.state import CpuState

_LONGEST = 64
"""How many instructions around the PC are looked at."""

_WAITS = frozenset({"wfi", "wfe", "wfit", "wfet"})
_NO_EFFECT = frozenset({"nop", "yield", "isb", "dsb", "dmb", "sb", "sev", "sevl", "hint"})


@dataclass(frozen=True)
class Loop:
    """The instructions that the CPU goes round in.

    Attributes:
        instructions: by address; for a CPU that waits, at least the instruction it waits in.
        has_exit: whether an instruction of it can leave the loop.
        waits: it contains WFI or WFE.
        does_nothing: there is no way out, and no instruction changes anything: ``b .``.
    """

    instructions: tuple[Instruction, ...]
    has_exit: bool
    waits: bool
    does_nothing: bool


def loop_at(state: CpuState, memory: PhysicalMemory, pc: int) -> Loop | None:
    """The short loop that ``pc`` is in or runs into, or the wait that it has just come out of; else ``None``."""
    code = reachable_code(code_reader(state, memory), [pc], _LONGEST)
    closed = not (code.open_ends or code.truncated)
    cycle = _cycle_through(code, pc)
    # Code without a way out that does not come back to the PC runs into a loop further on.
    around = cycle or (set(code.instructions) if closed else set())
    waited = _wait_before(state, memory, pc)
    if not around:
        return Loop((waited,), has_exit=True, waits=True, does_nothing=False) if waited else None
    instructions = [code.instructions[address] for address in sorted(around)]
    if waited and waited not in instructions:
        instructions.insert(0, waited)
    names = [_mnemonic(instruction) for instruction in instructions]
    return Loop(
        tuple(instructions),
        has_exit=not closed or around != set(code.instructions),
        waits=any(name in _WAITS for name in names),
        does_nothing=closed
        and all(item.flow is Flow.BRANCH or name in _NO_EFFECT for item, name in zip(instructions, names, strict=True)),
    )


def _cycle_through(code: ReachableCode, pc: int) -> set[int]:
    """The addresses on paths from ``pc`` back to it; empty when there is none."""
    predecessors: dict[int, list[int]] = {}
    for address, instruction in code.instructions.items():
        for successor in instruction.successors():
            predecessors.setdefault(successor, []).append(address)
    found: set[int] = set()
    queue = [pc]
    while queue:
        for address in predecessors.get(queue.pop(), ()):
            if address not in found:
                found.add(address)
                queue.append(address)
    return found


def _wait_before(state: CpuState, memory: PhysicalMemory, pc: int) -> Instruction | None:
    """The WFI or WFE just before ``pc``: a CPU that waits in it shows the next instruction's address."""
    try:
        instruction = instruction_at(state, memory, pc - INSTRUCTION_SIZE)
    except MemoryUnreadableError:
        return None
    return instruction if _mnemonic(instruction) in _WAITS else None


def _mnemonic(instruction: Instruction) -> str:
    return instruction.text.split(maxsplit=1)[0]
