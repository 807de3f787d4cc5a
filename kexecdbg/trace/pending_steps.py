"""Steps that are being collected one by one, until they are a block."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from kexecdbg.trace.records import Event, ExceptionTaken, MemoryWrite
from kexecdbg.trace.step_block import (
    BECOMES_UNKNOWN,
    DATA_UNKNOWN,
    EVENT,
    EXCEPTION,
    SYNDROME_FIELDS,
    U8,
    U64,
    WORD_KNOWN,
    StepBlock,
)


class PendingSteps:
    """Steps collected one by one.

    Args:
        first: number of the first one.
        known, values: the registers before it, as in :class:`StepBlock`.
        pc: the PC before it.
    """

    def __init__(self, first: int, known: U8, values: U64, pc: int) -> None:
        self.first = first
        self._words: list[int] = []
        self._pcs = [pc]
        self._known, self._values = known, values
        self._flags: list[int] = []
        self._change_counts: list[int] = []
        self._change_registers: list[int] = []
        self._change_values: list[int] = []
        self._writes: list[MemoryWrite] = []
        self._write_counts: list[int] = []
        self._exceptions: list[tuple[int, ...]] = []
        self._events: list[tuple[int, ...]] = []

    def __len__(self) -> int:
        return len(self._words)

    @property
    def pc(self) -> int:
        """The PC after the last one."""
        return self._pcs[-1]

    def add(
        self,
        next_pc: int,
        word: int | None,
        changes: Mapping[int, int | None],
        writes: Collection[MemoryWrite],
        exception: ExceptionTaken | None,
        events: Sequence[Event],
    ) -> None:
        """One step more; ``changes`` by register index."""
        step = len(self._words)
        self._words.append(word or 0)
        self._flags.append(0 if word is None else WORD_KNOWN)
        self._pcs.append(next_pc)
        self._change_counts.append(len(changes))
        for index, value in sorted(changes.items()):
            self._change_registers.append(index if value is not None else index | BECOMES_UNKNOWN)
            self._change_values.append(value or 0)
        self._write_counts.append(len(writes))
        self._writes.extend(writes)
        if exception is not None:
            self._exceptions.append(_exception_row(step, exception))
        self._events.extend(_event_row(step, event) for event in events)

    def block(self) -> StepBlock:
        """The steps so far as columns."""
        return StepBlock(
            first=self.first,
            known=self._known,
            values=self._values,
            pcs=np.array(self._pcs, np.uint64),
            words=np.array(self._words, np.uint32),
            flags=np.array(self._flags, np.uint8),
            change_counts=np.array(self._change_counts, np.uint16),
            change_registers=np.array(self._change_registers, np.uint16),
            change_values=np.array(self._change_values, np.uint64),
            write_counts=np.array(self._write_counts, np.uint16),
            write_vas=np.array([write.va for write in self._writes], np.uint64),
            write_pas=np.array([write.pa for write in self._writes], np.uint64),
            write_sizes=np.array(
                [write.size | (DATA_UNKNOWN if write.data is None else 0) for write in self._writes], np.uint32
            ),
            write_data=b"".join(write.data for write in self._writes if write.data is not None),
            exceptions=np.array(self._exceptions, EXCEPTION),
            events=np.array(self._events, EVENT),
        )


def _exception_row(step: int, exception: ExceptionTaken) -> tuple[int, ...]:
    values = [getattr(exception, name) for name in SYNDROME_FIELDS]
    known = sum(1 << bit for bit, value in enumerate(values) if value is not None)
    return (step, exception.from_el, exception.to_el, known, 0, *(value or 0 for value in values))


def _event_row(step: int, event: Event) -> tuple[int, ...]:
    counted = event.instructions is not None
    return (
        step, event.kind, counted, 0, event.source, event.destination, event.size, event.instructions or 0,
    )  # fmt: skip
