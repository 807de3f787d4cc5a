"""Which general registers an instruction may write."""

from __future__ import annotations

from kexecdbg.arm64.bits import bits
from kexecdbg.arm64.evaluation.branches import branch
from kexecdbg.arm64.evaluation.data_processing import is_processing
from kexecdbg.arm64.evaluation.loads_and_stores import Indexing, is_memory_instruction, load_store
from kexecdbg.arm64.evaluation.registers import ZERO_OR_SP
from kexecdbg.arm64.evaluation.system_operations import Hint, barrier, hint, pstate_write, system_instruction
from kexecdbg.arm64.faults import Access
from kexecdbg.arm64.instructions import Instruction

EVERY_REGISTER = frozenset(range(ZERO_OR_SP + 1))
"""Numbers of all general registers and, as 31, SP."""
_LINK = 30
_X17 = 17


def written_registers(instruction: Instruction) -> frozenset[int]:
    """Numbers of the general registers that ``instruction`` may write, 31 for SP; all of them where that is unknown.

    Of a call that is the link register alone, not what the called function writes.
    """
    word = instruction.word
    target = bits(word, 4, 0)
    if is_processing(word):
        return frozenset({target})
    if is_memory_instruction(word):
        access = load_store(word)
        if access is None:
            return EVERY_REGISTER
        moved = () if access.indexing is Indexing.NONE or access.base is None else (access.base,)
        loaded = access.registers if access.access is Access.READ else ()
        return frozenset((*loaded, *access.clobbers, *moved))
    jump = branch(word, instruction.address)
    if jump is not None:
        return frozenset({_LINK} if jump.links else ())
    move = instruction.system_move
    if move is not None:
        return frozenset() if move.is_write else frozenset({target})
    kind = hint(word)
    if kind is not None:
        return frozenset({Hint.SIGNS_LINK: {_LINK}, Hint.SIGNS_X17: {_X17}}.get(kind, set()))
    decoded = system_instruction(word)
    if decoded is not None:
        return frozenset({decoded.register} if decoded.is_read else ())
    return frozenset() if barrier(word) or pstate_write(word) else EVERY_REGISTER
