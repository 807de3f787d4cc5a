"""What one step of a trace says."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from kexecdbg.arm64.instructions import Instruction, decode_instruction


@dataclass(frozen=True)
class RegisterChange:
    """A register that a step changed.

    Attributes:
        name: canonical name.
        old: the value before, ``None`` when it was not known.
        new: the value after, ``None`` when it is not known any more.
    """

    name: str
    old: int | None
    new: int | None


@dataclass(frozen=True)
class MemoryWrite:
    """Bytes that a step wrote.

    Attributes:
        va: virtual address, as the instruction had it.
        pa: physical address.
        size: bytes; a write that crosses a page is two.
        data: what was written, ``None`` when it is not known.
    """

    va: int
    pa: int
    size: int
    data: bytes | None


@dataclass(frozen=True)
class ExceptionTaken:
    """An exception that a step took.

    Attributes:
        from_el, to_el: exception levels.
        esr, far, elr, spsr: the registers of ``to_el`` after it; ``far`` is ``None`` for exceptions that leave
            FAR_ELx alone, each of them is ``None`` where it is not known.
    """

    from_el: int
    to_el: int
    esr: int | None
    far: int | None
    elr: int | None
    spsr: int | None


class EventKind(enum.IntEnum):
    """What a folded step stands for."""

    RAN = 1
    """The machine ran unobserved: a continue, or a loop that was run to its exit."""
    PAGE_COPIED = 2
    """The relocation copied ``size`` bytes from ``source`` to ``destination`` (physical)."""


@dataclass(frozen=True)
class Event:
    """Part of a folded step, which stands for many instructions.

    Attributes:
        kind: what happened.
        source, destination: physical addresses, for a copy; else 0.
        size: bytes, for a copy; else 0.
        instructions: how many instructions it took, ``None`` when nobody counted.
    """

    kind: EventKind
    source: int = 0
    destination: int = 0
    size: int = 0
    instructions: int | None = None


@dataclass(frozen=True)
class TraceStep:
    """One step of a trace: what happened between two states.

    Attributes:
        number: the step leads from state ``number`` to state ``number + 1``.
        pc: address of the instruction (virtual).
        next_pc: the PC afterwards.
        word: the instruction, ``None`` when it could not be fetched.
        changes: registers that changed, the PC left out.
        writes: memory that was written.
        exception: the exception taken instead of, or by, the instruction.
        events: empty for a single instruction; a folded step says here what it stands for.
    """

    number: int
    pc: int
    next_pc: int
    word: int | None
    changes: tuple[RegisterChange, ...]
    writes: tuple[MemoryWrite, ...]
    exception: ExceptionTaken | None
    events: tuple[Event, ...]

    @property
    def text(self) -> str:
        """The instruction as text, or what there is instead of it."""
        if self.instruction is not None:
            return self.instruction.text
        return "(instruction not known)" if self.exception is None else "(no instruction executed)"

    @property
    def instruction(self) -> Instruction | None:
        """The instruction, ``None`` when it could not be fetched or the step is a folded one."""
        return None if self.word is None or self.is_folded else decode_instruction(self.word, self.pc)

    @property
    def is_folded(self) -> bool:
        """Whether it stands for many instructions."""
        return bool(self.events)
