"""A block of consecutive steps as columns of numbers: how the file holds them and how engines hand them over.

docs/trace-format.md, "STEPS", is the description of the bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Container, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from kexecdbg.errors import TraceError
from kexecdbg.trace.frames import MAX_BLOCK, compress, decompress

U8 = npt.NDArray[np.uint8]
U16 = npt.NDArray[np.uint16]
U32 = npt.NDArray[np.uint32]
U64 = npt.NDArray[np.uint64]

PAGE_SIZE = 4096
MAX_STEPS = 1 << 16
"""Steps of one block at most."""
BECOMES_UNKNOWN = 1 << 15
"""In ``change_registers``: the register is not known any more; its value is without meaning."""
DATA_UNKNOWN = 1 << 31
"""In ``write_sizes``: the bytes that were written are not known; ``write_data`` has none for it."""
WORD_KNOWN = 1
"""In ``flags``: the instruction could be fetched."""

EXCEPTION = np.dtype(
    [
        ("step", "<u4"),
        ("from_el", "u1"),
        ("to_el", "u1"),
        ("known", "u1"),
        ("reserved", "u1"),
        ("esr", "<u8"),
        ("far", "<u8"),
        ("elr", "<u8"),
        ("spsr", "<u8"),
    ]
)
SYNDROME_FIELDS = ("esr", "far", "elr", "spsr")
"""Bit n of ``known`` says that field n is."""
EVENT = np.dtype(
    [
        ("step", "<u4"),
        ("kind", "u1"),
        ("counted", "u1"),
        ("reserved", "<u2"),
        ("source", "<u8"),
        ("destination", "<u8"),
        ("size", "<u8"),
        ("instructions", "<u8"),
    ]
)

_PREFIX = struct.Struct("<QII")
_COUNTS = struct.Struct("<6I")


@dataclass(frozen=True)
class StepBlock:
    """``count`` steps from step ``first`` on, and the whole state before them.

    Attributes:
        first: number of the first step.
        known: for each register of the header, whether its value before the first step is known.
        values: that value; 0 where it is unknown.
        pcs: the PC before each step and after the last one; the PC has no entries in the changes.
        words: the instructions; ``flags`` has :data:`WORD_KNOWN` for those that could be fetched.
        change_counts: for each step, how many entries of ``change_registers`` and ``change_values`` are its own.
        write_counts: the same for ``write_vas``, ``write_pas`` and ``write_sizes``.
        write_data: the bytes of all writes whose data is known, one after another.
        exceptions, events: rows of :data:`EXCEPTION` and :data:`EVENT`, ``step`` counted from ``first``, ascending.
    """

    first: int
    known: U8
    values: U64
    pcs: U64
    words: U32
    flags: U8
    change_counts: U16
    change_registers: U16
    change_values: U64
    write_counts: U16
    write_vas: U64
    write_pas: U64
    write_sizes: U32
    write_data: bytes
    exceptions: npt.NDArray[Any]
    events: npt.NDArray[Any]

    @property
    def count(self) -> int:
        """How many steps."""
        return len(self.words)

    @cached_property
    def change_starts(self) -> npt.NDArray[np.int64]:
        """Index of each step's first change, and the number of all."""
        return _starts(self.change_counts)

    @cached_property
    def write_starts(self) -> npt.NDArray[np.int64]:
        """Index of each step's first write, and the number of all."""
        return _starts(self.write_counts)

    @cached_property
    def data_starts(self) -> npt.NDArray[np.int64]:
        """Position of each write's bytes in ``write_data``, and the length of all."""
        return _starts(np.where(self.write_sizes & DATA_UNKNOWN, 0, self.write_sizes))

    def state_before(self, step: int) -> tuple[U8, U64]:
        """Which registers are known before ``step`` (counted from ``first``), and their values; the PC is not set."""
        known, values = self.known.copy(), self.values.copy()
        end = self.change_starts[step]
        registers = self.change_registers[:end] & (BECOMES_UNKNOWN - 1)
        # Of several changes of one register, the last one counts: numpy assigns in order.
        known[registers] = (self.change_registers[:end] & BECOMES_UNKNOWN) == 0
        values[registers] = self.change_values[:end]
        return known, values

    def register_before_each(self, register: int) -> tuple[U64, npt.NDArray[np.bool_]]:
        """The value of one register before each step, and whether it is known; not for the PC."""
        values = np.empty(self.count, np.uint64)
        known = np.empty(self.count, np.bool_)
        places = np.flatnonzero((self.change_registers & (BECOMES_UNKNOWN - 1)) == register)
        # A change by step s shows from state s + 1 on.
        steps = np.searchsorted(self.change_starts, places, side="right")
        bounds = np.concatenate(([0], steps, [self.count])).astype(np.int64)
        new = np.concatenate((self.values[register : register + 1], self.change_values[places]))
        is_known = np.concatenate(
            (self.known[register : register + 1] != 0, (self.change_registers[places] & BECOMES_UNKNOWN) == 0)
        )
        lengths = np.maximum(np.diff(bounds), 0)
        values[:] = np.repeat(new, lengths)
        known[:] = np.repeat(is_known, lengths)
        return values, known

    def without(self, registers: Container[int]) -> StepBlock:
        """The same steps with these registers unknown in all of them."""
        numbers = [number for number in range(len(self.values)) if number in registers]
        known = self.known.copy()
        known[numbers] = 0
        concerned = np.isin(self.change_registers & (BECOMES_UNKNOWN - 1), numbers)
        changes = np.where(concerned, self.change_registers | BECOMES_UNKNOWN, self.change_registers)
        return replace(self, known=known, change_registers=changes.astype(np.uint16))

    def pack(self) -> bytes:
        """The payload of a STEPS frame."""
        counts = (
            len(self.values),
            len(self.change_registers),
            len(self.write_sizes),
            len(self.write_data),
            len(self.exceptions),
            len(self.events),
        )
        differences = np.diff(self.pcs, prepend=np.uint64(0))
        columns = (
            self.known, self.values, differences, self.words, self.flags, self.change_counts, self.change_registers,
            self.change_values, self.write_counts, self.write_vas, self.write_pas, self.write_sizes,
        )  # fmt: skip
        kinds = [kind for _, kind, _ in _columns(self.count, counts)]
        body = b"".join(np.ascontiguousarray(c, k).tobytes() for c, k in zip(columns, kinds, strict=True))
        tail = self.write_data + self.exceptions.tobytes() + self.events.tobytes()
        block = _COUNTS.pack(*counts) + body + tail
        return _PREFIX.pack(self.first, self.count, len(block)) + compress(block)

    @staticmethod
    def span(payload: bytes) -> tuple[int, int]:
        """First step and number of steps of the block in ``payload``, without decompressing it.

        Raises:
            TraceError: it is too short, or claims too much.
        """
        if len(payload) < _PREFIX.size:
            raise TraceError("a block of steps is too short")
        first, count, size = _PREFIX.unpack_from(payload)
        if count > MAX_STEPS or size > MAX_BLOCK:
            raise TraceError(f"a block of steps claims {count} steps and {size} bytes")
        return first, count

    @classmethod
    def unpack(cls, payload: bytes, registers: int) -> StepBlock:
        """The block in ``payload`` of a trace with so many ``registers``.

        Raises:
            TraceError: it is damaged.
        """
        first, count = cls.span(payload)
        what = f"the block of steps from {first} on"
        block = decompress(payload[_PREFIX.size :], _PREFIX.unpack_from(payload)[2], what)
        if len(block) < _COUNTS.size:
            raise TraceError(f"{what}: damaged: it has no column sizes")
        counts = _COUNTS.unpack_from(block)
        columns, data, exceptions, events = _split(block, count, counts, what)
        columns["pcs"] = np.cumsum(columns["pcs"], dtype=np.uint64)
        steps = cls(first=first, write_data=data, exceptions=exceptions, events=events, **columns)
        if counts[0] != registers or not steps._is_consistent():
            raise TraceError(f"{what}: damaged: its columns contradict each other")
        return steps

    def _is_consistent(self) -> bool:
        sizes = self.write_sizes & (DATA_UNKNOWN - 1)
        in_page = (self.write_pas & np.uint64(PAGE_SIZE - 1)) + sizes
        return bool(
            int(self.change_counts.sum(dtype=np.int64)) == len(self.change_registers)
            and int(self.write_counts.sum(dtype=np.int64)) == len(self.write_sizes)
            and np.all((self.change_registers & (BECOMES_UNKNOWN - 1)) < len(self.values))
            and np.all((sizes > 0) & (in_page <= PAGE_SIZE))
            and int(self.data_starts[-1]) == len(self.write_data)
            and all(_ascending_below(rows["step"], self.count) for rows in (self.exceptions, self.events))
            and np.all(np.isin(self.events["kind"], (1, 2)))
        )


def concatenate(blocks: Sequence[StepBlock]) -> StepBlock:
    """Blocks that follow each other, as one."""
    if len(blocks) == 1:
        return blocks[0]
    first = blocks[0]
    joined = {
        name: np.concatenate([getattr(block, name) for block in blocks])
        for name, _, _ in _columns(0, (0, 0, 0))
        if name not in ("known", "values", "pcs")
    }
    rows = {}
    for name in ("exceptions", "events"):
        shifted = [getattr(block, name).copy() for block in blocks]
        for block, row in zip(blocks, shifted, strict=True):
            row["step"] += block.first - first.first
        rows[name] = np.concatenate(shifted)
    pcs = np.concatenate([*(block.pcs[:-1] for block in blocks[:-1]), blocks[-1].pcs])
    data = b"".join(block.write_data for block in blocks)
    return StepBlock(first.first, first.known, first.values, pcs, write_data=data, **joined, **rows)


def _starts(counts: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    starts = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(counts, dtype=np.int64, out=starts[1:])
    return starts


def _ascending_below(steps: npt.NDArray[Any], limit: int) -> bool:
    return len(steps) == 0 or (int(steps[-1]) < limit and bool(np.all(steps[:-1] <= steps[1:])))


def _columns(count: int, counts: tuple[int, ...]) -> list[tuple[str, str, int]]:
    """Name, type and length of each column, in the order of the file."""
    registers, changes, writes = counts[:3]
    return [
        ("known", "u1", registers),
        ("values", "<u8", registers),
        ("pcs", "<u8", count + 1),
        ("words", "<u4", count),
        ("flags", "u1", count),
        ("change_counts", "<u2", count),
        ("change_registers", "<u2", changes),
        ("change_values", "<u8", changes),
        ("write_counts", "<u2", count),
        ("write_vas", "<u8", writes),
        ("write_pas", "<u8", writes),
        ("write_sizes", "<u4", writes),
    ]


def _split(
    block: bytes, count: int, counts: tuple[int, ...], what: str
) -> tuple[dict[str, Any], bytes, npt.NDArray[Any], npt.NDArray[Any]]:
    layout = [(name, np.dtype(kind), length) for name, kind, length in _columns(count, counts)]
    layout += [
        ("data", np.dtype("u1"), counts[3]),
        ("exceptions", EXCEPTION, counts[4]),
        ("events", EVENT, counts[5]),
    ]
    if _COUNTS.size + sum(kind.itemsize * length for _, kind, length in layout) != len(block):
        raise TraceError(f"{what}: damaged: its columns do not fill it")
    columns: dict[str, Any] = {}
    position = _COUNTS.size
    for name, kind, length in layout:
        columns[name] = np.frombuffer(block, kind, length, position)
        position += kind.itemsize * length
    data = columns.pop("data").tobytes()
    return columns, data, columns.pop("exceptions"), columns.pop("events")
