"""When a recording ends, and what it comes to."""

from __future__ import annotations

import enum
from collections.abc import Collection
from dataclasses import dataclass

from kexecdbg.arm64.instructions import INSTRUCTION_SIZE
from kexecdbg.errors import UsageError


class EndReason(enum.Enum):
    """Why a recording ended; the value says so to the user."""

    STEPS = "as many steps as asked for"
    REACHED = "the address was reached"
    SECONDS = "the time was up"
    MACHINE_ENDED = "the machine ended"
    SPINS = "the CPU takes the same exception for ever"
    RESTS = "the CPU rests in a branch to itself"
    WAITS = "the CPU waits for an interrupt"
    STOPPED = "it was stopped"


@dataclass(frozen=True)
class Limits:
    """When to end.

    Attributes:
        steps: number of recorded steps.
        until: virtual addresses; the recording ends before the instruction there executes.
        seconds: of the user's time.
        repeats: identical exceptions, one after another, after which the CPU counts as spinning.

    Raises:
        UsageError: no instruction can be at an address of ``until``.
    """

    steps: int | None = None
    until: Collection[int] = ()
    seconds: float | None = None
    repeats: int = 4

    def __post_init__(self) -> None:
        for address in self.until:
            beyond = address % INSTRUCTION_SIZE
            if beyond:
                raise UsageError(
                    f"until {address:#x}: no instruction can be there; they are at multiples of {INSTRUCTION_SIZE}, "
                    f"{address - beyond:#x} is the one before"
                )


@dataclass(frozen=True)
class RecordingResult:
    """A finished recording.

    Attributes:
        steps: how many steps were recorded.
        reason: why it ended.
        remarks: what is known not to be in the trace, as sentences.
    """

    steps: int
    reason: EndReason
    remarks: tuple[str, ...] = ()

    @property
    def machine_ended(self) -> bool:
        """Whether there is no machine any more."""
        return self.reason is EndReason.MACHINE_ENDED
