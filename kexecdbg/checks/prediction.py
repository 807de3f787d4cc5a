"""What is predicted of the CPU: the first exception, the second, or that it runs on."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from kexecdbg.arm64.faults import Access
from kexecdbg.arm64.syndromes import is_as_predicted


@dataclass(frozen=True)
class ExceptionRecord:
    """An exception as the syndrome registers of its target level show it.

    Attributes:
        esr, elr: register values.
        far: register value, or ``None`` when this exception leaves FAR alone; of one that was taken also where it is
            not known.
        el: the exception level it is taken to; ``None`` for the one the code runs at.
    """

    esr: int
    far: int | None
    elr: int
    el: int | None = None

    def agrees_with(self, taken: ExceptionRecord) -> bool:
        """Whether ``taken`` is this exception, which was predicted; a FAR that is not known does not agree."""
        return self.far in (None, taken.far) and self.elr == taken.elr and is_as_predicted(self.esr, taken.esr)


class Outcome(enum.Enum):
    """Where the CPU ends up."""

    RUNS_ON = "runs on"
    SPINS = "spins: every exception faults on its own vector"
    IN_VECTOR = "goes on in its exception vector"
    UNKNOWN = "cannot be told"


@dataclass(frozen=True)
class Place:
    """Where the first exception happens, or where it can no longer be told what does.

    Attributes:
        address: of the instruction.
        text: that instruction; ``None`` when it is not known.
        access: what it tries; ``None`` when it is not an access that fails.
        target: the address that it accesses.
        executed: how many instructions after the write run before it.
    """

    address: int
    text: str | None
    access: Access | None
    target: int | None
    executed: int


@dataclass(frozen=True)
class Prediction:
    """The first exception after the write, what follows it, and where that ends.

    ``first`` is ``None`` when the CPU runs on as far as the code can be followed, ``then`` when no second exception
    follows. ``at`` is where the first one happens; of a CPU that runs on, how far it was followed. ``vector`` is the
    address that the first one enters.
    """

    first: ExceptionRecord | None
    then: ExceptionRecord | None
    outcome: Outcome
    at: Place | None = None
    vector: int | None = None
