"""The CPUs that still run when a relocation begins: the kernel has to have stopped every one but its own.

Linux stops them in machine_shutdown() (arch/arm64/kernel/process.c), and machine_kexec() (machine_kexec.c there) ends
in a BUG when one is left.
"""

from __future__ import annotations

from dataclasses import dataclass

from kexecdbg.arm64.instructions import INSTRUCTION_SIZE
from kexecdbg.checks.fetching import fetched_from
from kexecdbg.checks.relocating.control import RelocationControl
from kexecdbg.checks.relocation import Relocation
from kexecdbg.checks.stuck.diagnosis import Diagnosis, diagnose
from kexecdbg.errors import KexecdbgError


@dataclass(frozen=True)
class RunningCpu:
    """Another CPU that executes instructions while pages are copied.

    Attributes:
        number: its number.
        diagnosis: what kexec-why says about it; ``None`` when its registers do not tell.
        executes: the physical address of its next instruction; ``None`` when that cannot be told.
        overwritten: the same where the image will overwrite it, else ``None``.
    """

    number: int
    diagnosis: Diagnosis | None
    executes: int | None
    overwritten: int | None

    @property
    def is_out_of_the_way(self) -> bool:
        """Whether it certainly executes what the image leaves alone."""
        return self.executes is not None and self.overwritten is None


def running_cpus(control: RelocationControl, relocation: Relocation) -> tuple[RunningCpu, ...]:
    """The other CPUs that run now, ascending."""
    return tuple(_look_at(control, relocation, number) for number in sorted(control.running_cpus()))


def _look_at(control: RelocationControl, relocation: Relocation, number: int) -> RunningCpu:
    with control.on_cpu(number):
        state = control.state()
        try:
            diagnosis = diagnose(state, control.memory)
            pa = fetched_from(state, control.memory, diagnosis.pc)
        except KexecdbgError:  # an unknown register, or a PC in memory that cannot be read
            return RunningCpu(number, None, None, None)
    written = None if pa is None else relocation.overwritten(pa, pa + INSTRUCTION_SIZE)
    return RunningCpu(number, diagnosis, pa, written)
