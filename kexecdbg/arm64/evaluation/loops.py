"""Simple loops whose number of rounds cannot be told: passed over, with what they change made unknown."""

from __future__ import annotations

from kexecdbg.arm64.evaluation.branches import branch
from kexecdbg.arm64.evaluation.data_processing import data_processing
from kexecdbg.arm64.evaluation.effects import Barrier, Maintenance, MemoryAccess, Step, Stop, StopReason
from kexecdbg.arm64.evaluation.evaluator import Evaluator
from kexecdbg.arm64.evaluation.loads_and_stores import load_store
from kexecdbg.arm64.evaluation.system_operations import ZEROES_BLOCK, Hint, barrier, hint, system_instruction
from kexecdbg.arm64.evaluation.written_registers import written_registers
from kexecdbg.arm64.faults import Access
from kexecdbg.arm64.instructions import INSTRUCTION_SIZE, Instruction, decode_instruction
from kexecdbg.errors import MemoryUnreadableError

_LONGEST = 32
"""Instructions in a loop that is passed over, at most."""


def pass_over_loop(evaluator: Evaluator, stop: Stop) -> tuple[Step, ...] | None:
    """Go on behind the loop that ends in the undecided branch ``stop``.

    It has to be one that certainly changes nothing but general registers, and so many lines of code: straight, except
    for branches within it. Its loads, barriers and maintenance are returned, at unknown addresses, and its registers
    are unknown afterwards. ``None`` when it is not such a loop; then nothing has changed. That it ends is assumed.
    """
    if stop.reason is not StopReason.UNDECIDED or stop.target is None or stop.target > stop.address:
        return None
    body = _body(evaluator, stop.target, stop.address)
    if body is None:
        return None
    written: set[int] = set()
    steps: list[Step] = []
    for instruction in body:
        if not _is_harmless(instruction, stop.target, stop.address):
            return None
        written |= written_registers(instruction)
        effect = _ordering(instruction) or _load(instruction)
        if effect is not None:
            steps.append(Step(instruction, (effect,)))
    for number in written:
        evaluator.registers.write_or_sp(number, None)
    evaluator.registers.flags = None
    evaluator.registers.pc = stop.address + INSTRUCTION_SIZE
    return tuple(steps)


def _body(evaluator: Evaluator, first: int, last: int) -> list[Instruction] | None:
    if (last - first) // INSTRUCTION_SIZE >= _LONGEST:
        return None
    body = []
    for address in range(first, last + INSTRUCTION_SIZE, INSTRUCTION_SIZE):
        location = evaluator.space.locate(evaluator.registers, address, Access.FETCH)
        if location.pa is None:
            return None
        try:
            body.append(decode_instruction(evaluator.space.fetch(location.pa), address))
        except MemoryUnreadableError:
            return None
    return body


def _is_harmless(instruction: Instruction, first: int, last: int) -> bool:
    """Whether only general registers can change, and the loop is not left."""
    word = instruction.word
    if data_processing(word) is not None:
        return True
    access = load_store(word)
    if access is not None:
        return access.access is Access.READ
    jump = branch(word, instruction.address)
    if jump is not None:
        inside = jump.target is not None and first <= jump.target <= last + INSTRUCTION_SIZE
        return inside and not jump.links
    if instruction.system_move is not None:
        return not instruction.system_move.is_write
    return hint(word) is Hint.NOTHING or _ordering(instruction) is not None


def _load(instruction: Instruction) -> MemoryAccess | None:
    access = load_store(instruction.word)
    if access is None or access.prefetch:
        return None
    return MemoryAccess(access.access, None, access.total, access.base_name, ordered=access.ordered)


def _ordering(instruction: Instruction) -> Barrier | Maintenance | None:
    ordering = barrier(instruction.word)
    if ordering is not None:
        return ordering
    decoded = system_instruction(instruction.word)
    if decoded is None or decoded.is_read or decoded.operation.startswith("AT ") or decoded.operation in ZEROES_BLOCK:
        return None
    return Maintenance(decoded.operation, None)
