"""What the code touches once the MMU is on: each page it fetches, loads or stores, and its vectors."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from kexecdbg.arm64.evaluation import Evaluation, Maintenance, MemoryAccess, Step, StopReason
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
        instruction: what makes the access: of a FETCH the instruction that is fetched, ``None`` where it cannot be
            read; ``None`` for the vector, which is only fetched when an exception is taken.
        executed: how many instructions run between the write and that one, at least.
    """

    kind: TouchKind
    address: int
    size: int
    access: Access
    instruction: Instruction | None = None
    executed: int = 0


def after_the_write(executed: int) -> str:
    """``3 instructions after the write``."""
    return f"{executed} instruction{'' if executed == 1 else 's'} after the write"


def touches_of(evaluation: Evaluation) -> Iterator[Touch]:
    """What the code touches, in execution order; a page once for each kind of use and access.

    The last ones are the fetch of the instruction where the evaluation stopped, and the access that it stopped at.
    """
    seen: set[tuple[TouchKind, Access, int]] = set()
    for touch in (*_all_touches(evaluation.steps), *_last_touches(evaluation)):
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
                yield Touch(_kind(effect), effect.address, effect.size, effect.access, instruction, executed)
            elif isinstance(effect, Maintenance) and effect.access is not None and effect.operand is not None:
                yield Touch(TouchKind.DATA, effect.operand, 1, effect.access, instruction, executed)


def _last_touches(evaluation: Evaluation) -> Iterator[Touch]:
    stop, executed = evaluation.stop, len(evaluation.steps)
    if stop.reason in (StopReason.LIMIT, StopReason.ASKED):
        return
    yield Touch(TouchKind.FETCH, stop.address, INSTRUCTION_SIZE, Access.FETCH, stop.instruction, executed)
    if stop.reason is StopReason.FAULT and stop.target is not None and stop.access in (Access.READ, Access.WRITE):
        made = stop.memory_access
        kind, size = (TouchKind.DATA, 1) if made is None else (_kind(made), made.size)
        yield Touch(kind, stop.target, size, stop.access, stop.instruction, executed)


def _kind(access: MemoryAccess) -> TouchKind:
    return _DATA_KINDS.get(access.base, TouchKind.DATA)


_DATA_KINDS = {"PC": TouchKind.LITERAL, "SP": TouchKind.STACK}
