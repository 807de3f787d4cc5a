"""Instructions as a CPU fetches them: at virtual addresses, through the translation that is in force."""

from __future__ import annotations

from collections.abc import Callable

from kexecdbg.arm64.evaluation.address_space import PAGE_SIZE
from kexecdbg.arm64.faults import Access
from kexecdbg.arm64.instructions import INSTRUCTION_SIZE, Instruction, decode_instruction
from kexecdbg.arm64.interfaces import PhysicalMemory
from kexecdbg.arm64.regimes import current_el, regime_of
from kexecdbg.arm64.walk import walk
from kexecdbg.errors import MemoryUnreadableError
from kexecdbg.machine.state import CpuState


def fetched_from(state: CpuState, memory: PhysicalMemory, va: int) -> int | None:
    """Physical address that the CPU in ``state`` fetches ``va`` from; ``None`` when it cannot."""
    regime = regime_of(current_el(state), state)
    result = walk(state, memory, va, regime=regime)
    return result.pa if result.fault_for(Access.FETCH) is None else None


def instruction_at(state: CpuState, memory: PhysicalMemory, va: int) -> Instruction:
    """The instruction that the CPU in ``state`` fetches from ``va``.

    Raises:
        MemoryUnreadableError: the address does not translate, or its memory cannot be read.
    """
    pa = fetched_from(state, memory, va)
    if pa is None:
        raise _cannot_fetch(va)
    return decode_instruction(int.from_bytes(memory.read(pa, INSTRUCTION_SIZE), "little"), va)


def code_reader(state: CpuState, memory: PhysicalMemory) -> Callable[[int], int]:
    """What gives the instruction word at a virtual address as the CPU in ``state`` fetches it: for much code.

    Each page is translated once. It raises MemoryUnreadableError as :func:`instruction_at` does.
    """
    pages: dict[int, int | None] = {}

    def fetch(va: int) -> int:
        offset = va & PAGE_SIZE - 1
        page = va - offset
        if page not in pages:
            pages[page] = fetched_from(state, memory, page)
        base = pages[page]
        if base is None:
            raise _cannot_fetch(va)
        return int.from_bytes(memory.read(base + offset, INSTRUCTION_SIZE), "little")

    return fetch


def _cannot_fetch(va: int) -> MemoryUnreadableError:
    return MemoryUnreadableError(va, INSTRUCTION_SIZE, "the CPU cannot fetch this virtual address")
