"""How long the parts of a reboot take in the machine's own time, which stands still while a debugger looks at it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from kexecdbg.checks.relocating.control import RelocationControl
from kexecdbg.errors import CodeUnwritableError

_MRS_X9_CNTVCT_EL0 = 0xD53B_E049
"""``mrs x9, cntvct_el0``. QEMU's gdbstub does not show the counter, so the CPU is made to read it."""
_NANOSECONDS = 1_000_000_000


@dataclass(frozen=True)
class Moment:
    """A place in the course of a reboot, and the counter there; ``None`` when it could not be read."""

    name: str
    ticks: int | None


@dataclass(frozen=True)
class Phase:
    """A part of the reboot.

    Attributes:
        name: what is done.
        seconds: in the machine's time.
    """

    name: str
    seconds: float

    def instructions(self, icount_shift: int) -> int:
        """Instructions executed on a machine with ``-icount shift=N``: one every 2**N ns (QEMU docs, "TCG icount")."""
        return round(self.seconds * _NANOSECONDS) >> icount_shift


def read_counter(control: RelocationControl) -> int | None:
    """CNTVCT_EL0, read by the CPU itself at its PC; ``None`` where it cannot be made to, as in a recording.

    Raises:
        TargetError: the CPU did something else, or is not as it was before: what it does next would not be its own.
    """
    try:
        return control.execute_instead(_MRS_X9_CNTVCT_EL0).get("X9")
    except CodeUnwritableError:
        return None


def phases(moments: Sequence[Moment], spans: Iterable[tuple[str, str, str]], frequency: int | None) -> list[Phase]:
    """The phases whose both ends were reached; each span is a phase's name and the moments it lies between."""
    ticks = {moment.name: moment.ticks for moment in moments}
    found = []
    for name, start, end in spans:
        first, last = ticks.get(start), ticks.get(end)
        if first is not None and last is not None and frequency:
            found.append(Phase(name, (last - first) / frequency))
    return found


def relocation_share(found: Iterable[Phase]) -> float | None:
    """The relocation's share of the time of all phases, 0 to 1; ``None`` when there is no other phase.

    The copy is a part of the relocation.
    """
    seconds = {phase.name: phase.seconds for phase in found if phase.name != "copy"}
    total = sum(seconds.values())
    return seconds["relocation"] / total if "relocation" in seconds and len(seconds) > 1 and total > 0 else None
