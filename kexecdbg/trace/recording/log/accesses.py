"""The loads and stores in a run of logged states: addresses and data for many instructions at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from kexecdbg.arm64.bits import bit, bits
from kexecdbg.arm64.evaluation.loads_and_stores import LoadStore
from kexecdbg.arm64.faults import Access
from kexecdbg.trace.access_addresses import access_addresses
from kexecdbg.trace.recording.core_registers import GENERAL
from kexecdbg.trace.recording.log.states import States, Steps
from kexecdbg.trace.recording.plan import Concern, Plan
from kexecdbg.trace.step_block import PAGE_SIZE, U8, U64

_ZERO = np.uint64(0)


@dataclass(frozen=True)
class Accesses:
    """What one load or store instruction touched each time it was executed.

    Attributes:
        plan: the instruction.
        steps: the steps that executed it.
        addresses: virtual address in each.
        size: bytes.
        data: what was stored in each, one row a step; ``None`` for loads and where the log does not show it.
    """

    plan: Plan
    steps: Steps
    addresses: U64
    size: int
    data: U8 | None

    def only(self, steps: Steps, data: U8) -> Accesses:
        """Those in ``steps``, which stored ``data``."""
        return replace(self, steps=steps, addresses=self.addresses[np.isin(self.steps, steps)], data=data)

    @property
    def is_write(self) -> bool:
        """Whether it stores."""
        return self.plan.access is None or self.plan.access.access is Access.WRITE


def accesses_of(plan: Plan, steps: Steps, states: States, block_size: int, big_endian: bool) -> Accesses:
    """What ``plan``, a load, a store or DC ZVA, touched in ``steps``."""
    registers = states.registers[steps]
    if plan.concerns & Concern.ZEROES_BLOCK:
        operand = _column(registers, plan.operand)
        zeroes = np.zeros((len(steps), block_size), np.uint8)
        return Accesses(plan, steps, operand & np.uint64(-block_size & (1 << 64) - 1), block_size, zeroes)
    access = plan.access
    assert access is not None
    addresses = _addresses(access, registers, plan.instruction.address)
    data = None
    if access.access is Access.WRITE:
        following = states.registers[steps + 1]
        data = _stored(plan, access, registers, following, big_endian)
    return Accesses(plan, steps, addresses, access.total, data)


def _column(registers: npt.NDArray[np.uint64], number: int) -> U64:
    """One general register of each row, 31 being zero."""
    column: U64 = np.zeros(len(registers), np.uint64) if number == GENERAL else registers[:, number]
    return column


def _addresses(access: LoadStore, registers: npt.NDArray[np.uint64], instruction: int) -> U64:
    # Column 31 is SP, as register 31 is here.
    base = np.full(len(registers), instruction, np.uint64) if access.base is None else registers[:, access.base]
    return access_addresses(access, base, None if access.index is None else _column(registers, access.index))


def _stored(
    plan: Plan,
    access: LoadStore,
    before: npt.NDArray[np.uint64],
    after: npt.NDArray[np.uint64],
    big_endian: bool,
) -> U8 | None:
    if access.registers:
        return _bytes([_column(before, number) for number in access.registers], access.size, big_endian)
    value = _atomic(plan.word, before, after)
    return None if value is None else _bytes([value], access.size, big_endian)


def _bytes(values: Sequence[U64], size: int, big_endian: bool) -> U8:
    """The low ``size`` bytes of each value, side by side, one row a step."""
    wide = np.stack(values, axis=1)
    octets = np.ascontiguousarray(wide).view(np.uint8).reshape(len(wide), len(values), 8)[:, :, :size]
    if big_endian:
        octets = octets[:, :, ::-1]
    return np.ascontiguousarray(octets).reshape(len(wide), len(values) * size)


_SMAX, _SMIN, _UMAX, _UMIN, _SWAP = 0b0100, 0b0101, 0b0110, 0b0111, 0b1000


def _atomic(word: int, before: npt.NDArray[np.uint64], after: npt.NDArray[np.uint64]) -> U64 | None:
    """What LDADD and the like leave in memory, computed from what they found; ``None`` for what is not known here.

    Arm ARM C4.1.94, "Atomic memory operations": bits 15:12 pick the operation, Rs is the operand, Rt gets what was
    found; with Rt 31 (STADD) the log does not show what was found.
    """
    source, target = bits(word, 20, 16), bits(word, 4, 0)
    if bits(word, 29, 24) != 0b111000 or not bit(word, 21) or bits(word, 11, 10):
        return None
    operation = bits(word, 15, 12)
    operand = _column(before, source)
    if operation == _SWAP:
        return operand
    if target == GENERAL or operation > _SWAP:
        return None
    found = after[:, target]
    simple = (found + operand, found & ~operand, found ^ operand, found | operand)
    if operation < len(simple):
        return simple[operation]
    width = 8 << bits(word, 31, 30)
    if operation in (_UMAX, _UMIN):
        mask = np.uint64((1 << width) - 1)
        larger = (found & mask) > (operand & mask)
    else:
        shift = np.uint64(64 - width)
        larger = (found << shift).view(np.int64) > (operand << shift).view(np.int64)
    takes_found = larger if operation in (_SMAX, _UMAX) else ~larger
    return np.where(takes_found, found, operand)


def conditional_stores(plan: Plan, steps: Steps, states: States, big_endian: bool) -> tuple[Steps, U8] | None:
    """Those of ``steps`` in which a store-exclusive or CAS stored, and what; ``None`` for other instructions.

    Arm ARM C4.1.94, "Load/store exclusive" (Rs is 0 when it stored) and "Compare and swap" (Rs gets what was found).
    """
    word, access = plan.word, plan.access
    if access is None or bits(word, 29, 24) != 0b001000 or access.access is Access.READ or access.registers:
        return None
    source = bits(word, 20, 16)
    before, after = _column(states.registers[steps], source), _column(states.registers[steps + 1], source)
    numbers = [bits(word, 4, 0), bits(word, 14, 10)]
    if not bit(word, 23):
        happened = after == _ZERO
        numbers = numbers[: access.elements]
    elif bit(word, 21) and source != GENERAL:
        mask = np.uint64((1 << 8 * access.size) - 1)
        happened = (before & mask) == (after & mask)
        numbers = numbers[:1]
    else:
        return None
    stored = steps[happened]
    rows = states.registers[stored]
    return stored, _bytes([_column(rows, number) for number in numbers], access.size, big_endian)


def pieces(addresses: U64, size: int) -> Iterator[tuple[Steps, U64, int, int]]:
    """Parts of accesses that lie within one page: which accesses, their addresses, size, and offset in the access."""
    room = PAGE_SIZE - (addresses & np.uint64(PAGE_SIZE - 1)).astype(np.int64)
    whole = np.flatnonzero(room >= size)
    if len(whole):
        yield whole, addresses[whole], size, 0
    for number in np.flatnonzero(room < size).tolist():
        first = int(room[number])
        one = np.array([number])
        yield one, addresses[one], first, 0
        yield one, addresses[one] + np.uint64(first), size - first, first
