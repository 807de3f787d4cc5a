"""What a report is about: a machine at one moment, the verdict on it, and what it executed around that moment."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass

from kexecdbg.arm64.interfaces import PhysicalMemory
from kexecdbg.checks.prediction import ExceptionRecord
from kexecdbg.checks.verdict import Judgement, Verdict
from kexecdbg.machine.state import CpuState

SymbolOf = Callable[[int], str | None]
"""The symbol that a virtual address lies in, with an offset, ``relocate+0x24``; ``None`` where there is none."""


def no_symbols(address: int) -> str | None:
    """For a machine whose symbols nobody has."""
    return None


class StepKind(enum.Enum):
    """Why a step is worth a look; the value is what its mark is called."""

    ORDINARY = "step"
    REGISTER_WRITE = "translation register written"
    SWITCH = "switch"
    EXCEPTION = "exception"


@dataclass(frozen=True)
class TimeLineStep:
    """One step of the time line.

    Attributes:
        kind: its mark.
        pc: virtual address of the instruction.
        text: the instruction, or what a folded step stands for.
        notes: what it changed, one clause each.
        number: its number in the recording, ``None`` without one.
        el: exception level, ``None`` when it is not known.
        left_out: how many steps before it are not shown.
    """

    kind: StepKind
    pc: int
    text: str
    notes: tuple[str, ...] = ()
    number: int | None = None
    el: int | None = None
    left_out: int = 0


@dataclass(frozen=True)
class Recorded:
    """What the machine did after the switch, as far as somebody watched.

    Attributes:
        first: the first exception; ``None`` when there was none.
        agrees: whether it is the predicted one; ``None`` when nothing can be said about that.
        text: the comparison as a sentence.
    """

    first: ExceptionRecord | None
    agrees: bool | None
    text: str


@dataclass(frozen=True)
class Origin:
    """Where a report comes from.

    Attributes:
        name: the file or the target.
        facts: label and text, for a table.
        remarks: what is missing or was assumed, one sentence each.
        commands: what to type next, and what it does.
    """

    name: str
    facts: tuple[tuple[str, str], ...]
    remarks: tuple[str, ...] = ()
    commands: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Subject:
    """What a report is about.

    Attributes:
        origin: where it comes from.
        state: registers at the switch, or now when there is none.
        memory: physical memory at that moment.
        verdict: the verdict on the switch, or ``None``.
        reason: why there is no verdict, in sentences; else what led to this switch, or empty.
        without_verdict: what there is to say of a machine without one: SOUND when its MMU is on and it can go on.
        recorded: what happened then; ``None`` when nobody watched.
        steps: the time line, ascending; empty when nothing was recorded.
        steps_left_out: how many steps follow the last one shown.
        symbol_of: names virtual addresses.
        memory_remarks: says, when all that is shown has been read, how memory was read, one sentence part each.
    """

    origin: Origin
    state: CpuState
    memory: PhysicalMemory
    verdict: Verdict | None
    reason: str = ""
    recorded: Recorded | None = None
    steps: tuple[TimeLineStep, ...] = ()
    steps_left_out: int = 0
    symbol_of: SymbolOf = no_symbols
    without_verdict: Judgement = Judgement.UNKNOWN
    memory_remarks: Callable[[], tuple[str, ...]] = tuple

    @property
    def judgement(self) -> Judgement:
        """The word that stands first."""
        return self.without_verdict if self.verdict is None else self.verdict.judgement
