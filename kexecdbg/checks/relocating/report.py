"""What is known of a relocation that is driven to its end."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from kexecdbg.checks.relocating.landmarks import Landmark
from kexecdbg.checks.relocating.other_cpus import RunningCpu
from kexecdbg.checks.relocating.phases import Phase
from kexecdbg.checks.relocating.switch_check import SwitchCheck
from kexecdbg.checks.stuck.diagnosis import Diagnosis
from kexecdbg.kexec.argument import RelocationArgument
from kexecdbg.kexec.boot_protocol import BootCheck
from kexecdbg.kexec.defects import Audit
from kexecdbg.kexec.page_contents import PageComparison


class Outcome(enum.Enum):
    """How far the relocation has come; the value says it as a clause."""

    ARRIVED = "the new kernel is at its first instruction"
    UNDER_WAY = "pages were copied as asked for"
    BLOCKED = "stopped before a write that must not be made as things are"
    INTERRUPTED = "stopped on the way"
    WRONG_TURN = "left its way"


@dataclass(frozen=True)
class Stop:
    """A landmark that was reached.

    Attributes:
        landmark: it.
        text: the instruction there; empty when it cannot be read.
        el: exception level.
        mmu: whether the MMU is on.
        check: for a switch, what was found.
    """

    landmark: Landmark
    text: str
    el: int
    mmu: bool
    check: SwitchCheck | None


@dataclass(frozen=True)
class WrongTurn:
    """Where the relocation ended up instead.

    Attributes:
        text: what happened, as a clause.
        diagnosis: what kexec-why says about it.
        exception: whether an exception was taken.
    """

    text: str
    diagnosis: Diagnosis
    exception: bool


@dataclass(frozen=True)
class Report:
    """What is known of a relocation at one time.

    Attributes:
        outcome: how far it has come.
        argument: what the relocation code got.
        code: physical address of the relocation code.
        audit: what is wrong with the page list, from before the copy.
        pages: how many pages the list copies; ``page_size`` bytes each.
        copied: how many of them are copied.
        stops: the landmarks reached.
        running_cpus: other CPUs that were executing instructions at the start.
        comparison: destinations against sources; ``None`` before the copy.
        boot: the boot protocol at the new kernel's first instruction.
        phases: how long it took.
        wrong_turn: where it went instead.
    """

    outcome: Outcome
    argument: RelocationArgument
    code: int
    audit: Audit
    pages: int
    page_size: int
    copied: int
    stops: tuple[Stop, ...]
    running_cpus: tuple[RunningCpu, ...]
    comparison: PageComparison | None
    boot: tuple[BootCheck, ...]
    phases: tuple[Phase, ...]
    wrong_turn: WrongTurn | None

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong so far."""
        whole = self.comparison is None or not self.comparison.differing
        started = all(check.met is not False for check in self.boot)
        alone = all(cpu.is_out_of_the_way for cpu in self.running_cpus)
        return self.outcome in (Outcome.ARRIVED, Outcome.UNDER_WAY) and whole and started and alone
