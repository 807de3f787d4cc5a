"""Loops that can be recorded as one step: what they read and wrote is worked out from how they begin and end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from kexecdbg.arm64.bits import mask, signed
from kexecdbg.arm64.evaluation.data_processing import data_processing
from kexecdbg.arm64.faults import Access
from kexecdbg.arm64.instructions import INSTRUCTION_SIZE
from kexecdbg.trace.recording.core_registers import CoreRegisters
from kexecdbg.trace.recording.plan import Concern, Plan

_LONGEST = 64
"""Instructions in a loop that is folded, at most."""
_MOST_ROUNDS = 1 << 40
_HARMLESS = Concern.MEMORY | Concern.ZEROES_BLOCK


@dataclass(frozen=True)
class Loop:
    """Straight-line code that ends in a conditional branch back to its start.

    Attributes:
        plans: its instructions.
        block_size: bytes that DC ZVA writes.
    """

    plans: tuple[Plan, ...]
    block_size: int

    @property
    def head(self) -> int:
        """Address of the first instruction."""
        return self.plans[0].instruction.address

    @property
    def exit(self) -> int:
        """Address of the instruction behind the loop."""
        return self.plans[-1].instruction.address + INSTRUCTION_SIZE


@dataclass(frozen=True)
class Touched:
    """Virtual addresses that one load or store of a loop touched: ``start`` to ``end`` (exclusive), all in all."""

    access: Access
    start: int
    end: int
    size: int
    """Bytes of all rounds together; less than the distance when there are gaps."""


@dataclass(frozen=True)
class Rounds:
    """What a loop did.

    Attributes:
        count: how often it went round.
        touched: for each load and store.
    """

    count: int
    touched: tuple[Touched, ...]


def find_loop(fetch: Callable[[int], Plan | None], end: Plan, block_size: int) -> Loop | None:
    """The loop that the branch ``end`` closes, if it can be folded: nothing in it but arithmetic, loads and stores.

    ``fetch`` gives the plan for an address, ``None`` where there is no code.
    """
    head, last = end.successors[0], end.instruction.address
    if not end.is_loop_end or (last - head) // INSTRUCTION_SIZE >= _LONGEST:
        return None
    plans = []
    for address in range(head, last, INSTRUCTION_SIZE):
        plan = fetch(address)
        if plan is None or plan.concerns & ~_HARMLESS or plan.successors != (address + INSTRUCTION_SIZE,):
            return None
        if plan.access is not None and (plan.access.base is None or plan.access.index is not None):
            return None
        plans.append(plan)
    return Loop((*plans, end), block_size)


@dataclass(frozen=True)
class _Round:
    """Addresses and sizes of the accesses of one round, in order."""

    accesses: tuple[tuple[Access, int, int], ...]


def measure(loop: Loop, before: CoreRegisters, after: Sequence[int]) -> Rounds | None:
    """What the loop did between two states of the general registers; ``None`` when that cannot be told.

    Args:
        loop: the loop.
        before: registers at its head; they are changed.
        after: X0 to X30 when it was left at its end.
    """
    start = list(before.general())
    first = _go_round(loop, before)
    middle = list(before.general())
    second = _go_round(loop, before)
    if first is None or second is None:
        return None
    count = _count(start, middle, list(before.general()), after)
    if count is None:
        return None
    touched = []
    for (access, address, size), (_, following, _) in zip(first.accesses, second.accesses, strict=True):
        distance = signed((following - address) & mask(64), 64) * (count - 1)
        low = address + min(distance, 0)
        touched.append(Touched(access, low, address + max(distance, 0) + size, size * (count if distance else 1)))
    return Rounds(count, tuple(touched))


def can_measure(loop: Loop, before: CoreRegisters) -> bool:
    """Whether the addresses of the loop's accesses follow from the registers at its head; they are changed."""
    return _go_round(loop, before) is not None and _go_round(loop, before) is not None


def _go_round(loop: Loop, registers: CoreRegisters) -> _Round | None:
    accesses: list[tuple[Access, int, int]] = []
    for plan in loop.plans[:-1]:
        effect = data_processing(plan.word)
        if effect is not None:
            effect(registers, plan.instruction.address)
        elif plan.access is not None:
            address = plan.access.address(registers, plan.instruction.address)
            if address is None:
                return None
            accesses.append((plan.access.access, address, plan.access.total))
            plan.access.move_base(registers)
            moved = plan.access.registers if plan.access.access is Access.READ else ()
            for number in (*moved, *plan.access.clobbers):
                registers.write(number, None)
        elif plan.concerns & Concern.ZEROES_BLOCK:
            operand = registers.read(plan.operand)
            if operand is None:
                return None
            accesses.append((Access.WRITE, operand & -loop.block_size, loop.block_size))
    return _Round(tuple(accesses))


def _count(
    start: Sequence[int | None], middle: Sequence[int | None], end: Sequence[int | None], after: Sequence[int]
) -> int | None:
    """How many rounds take the registers that change by the same amount in each round from ``start`` to ``after``."""
    counts = set()
    for first, second, third, last in zip(start, middle, end, after, strict=True):
        if first is None or second is None or third is None or first == second:
            continue
        stride = signed((second - first) & mask(64), 64)
        if signed((third - second) & mask(64), 64) != stride:
            continue
        count, rest = divmod(signed((last - first) & mask(64), 64), stride)
        counts.add(0 if rest else count)
    return counts.pop() if len(counts) == 1 and 0 < min(counts) < _MOST_ROUNDS else None
