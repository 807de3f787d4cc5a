"""What the code touches once the MMU is on: each page it fetches, loads or stores, and its vectors."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from kexecdbg.arm64.evaluation import Maintenance, MemoryAccess, Step
from kexecdbg.arm64.faults import Access
from kexecdbg.arm64.instructions import INSTRUCTION_SIZE, Instruction

_PAGE_BITS = 12


class TouchKind(enum.Enum):
    """What an address is to the code."""

    FETCH = "code"
    LITERAL = "literal"
    STACK = "stack"
    DATA = "data"
    VECTOR = "vector"


@dataclass(frozen=True)
class Touch:
    """The first access of one kind to one page.

    Attributes:
        kind: what the address is to the code.
        address: virtual address.
        size: bytes.
        access: READ, WRITE or FETCH.
        instruction: what makes the access: of a FETCH the instruction that is fetched; ``None`` for the vector, which
            is only fetched when an exception is taken.
        executed: how many instructions run between the write and that one, at least.
    """

    kind: TouchKind
    address: int
    size: int
    access: Access
    instruction: Instruction | None = None
    executed: int = 0


def touches_of(steps: Iterable[Step]) -> Iterator[Touch]:
    """What ``steps`` touch, in execution order; a page once for each kind of use and access."""
    seen: set[tuple[TouchKind, Access, int]] = set()
    for touch in _all_touches(steps):
        pages = {touch.address >> _PAGE_BITS, touch.address + touch.size - 1 >> _PAGE_BITS}
        keys = {(touch.kind, touch.access, page) for page in pages}
        if not keys <= seen:
            seen |= keys
            yield touch


def _all_touches(steps: Iterable[Step]) -> Iterator[Touch]:
    for executed, step in enumerate(steps):
        instruction = step.instruction
        yield Touch(TouchKind.FETCH, instruction.address, INSTRUCTION_SIZE, Access.FETCH, instruction, executed)
        for effect in step.effects:
            if isinstance(effect, MemoryAccess) and effect.address is not None:
                kind = _DATA_KINDS.get(effect.base, TouchKind.DATA)
                yield Touch(kind, effect.address, effect.size, effect.access, instruction, executed)
            elif isinstance(effect, Maintenance) and effect.access is not None and effect.operand is not None:
                yield Touch(TouchKind.DATA, effect.operand, 1, effect.access, instruction, executed)


_DATA_KINDS = {"PC": TouchKind.LITERAL, "SP": TouchKind.STACK}
