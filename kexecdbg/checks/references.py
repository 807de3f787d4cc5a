"""Where code refers to other code or data by its own address: what must not leave a piece of code that is copied."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from kexecdbg.arm64.bits import bit, bits, signed
from kexecdbg.arm64.evaluation.loads_and_stores import load_store
from kexecdbg.arm64.faults import Access
from kexecdbg.arm64.instructions import Instruction

_MAX_ADDRESS = (1 << 64) - 1


@dataclass(frozen=True)
class Reference:
    """A reference relative to the PC.

    Attributes:
        instruction: what makes it.
        target: virtual address.
        access: FETCH for a branch or for code that is run into, READ for a literal, ``None`` for an address that is
            only computed.
    """

    instruction: Instruction
    target: int
    access: Access | None


def references(instruction: Instruction) -> Iterator[Reference]:
    """The PC-relative references of ``instruction``, the next instruction among them where it is run into."""
    for successor in instruction.successors():
        yield Reference(instruction, successor & _MAX_ADDRESS, Access.FETCH)
    word, address = instruction.word, instruction.address
    if word & 0x1F00_0000 == 0x1000_0000:  # ADR and ADRP (Arm ARM C6.2)
        distance = signed(bits(word, 23, 5) << 2 | bits(word, 30, 29), 21)
        base = address & ~0xFFF if bit(word, 31) else address
        yield Reference(instruction, base + (distance << 12 if bit(word, 31) else distance) & _MAX_ADDRESS, None)
        return
    moved = load_store(word)
    if moved is not None and moved.base is None and not moved.prefetch:
        yield Reference(instruction, address + moved.offset & _MAX_ADDRESS, Access.READ)


def leaving(code: Iterable[Instruction], start: int, end: int) -> tuple[Reference, ...]:
    """The references from instructions between ``start`` and ``end`` (exclusive) to somewhere else, by address."""
    inside = sorted((each for each in code if start <= each.address < end), key=lambda each: each.address)
    return tuple(reference for each in inside for reference in references(each) if not start <= reference.target < end)
