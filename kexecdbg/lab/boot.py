"""A lab guest in a QEMU of its own, stopped before its first instruction."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from kexecdbg.lab.recipe import LabGuest
from kexecdbg.qemu.process import MachineOptions, QemuProcess

_SYMBOLS = "guest.elf"

GuestT = TypeVar("GuestT", bound=LabGuest)


@dataclass(frozen=True)
class LabMachine(Generic[GuestT]):
    """A running lab guest.

    Attributes:
        guest: what was loaded.
        qemu: its QEMU, stopped at the start.
    """

    guest: GuestT
    qemu: QemuProcess

    @property
    def symbol_file(self) -> Path:
        """ELF file with the guest's symbols, for GDB; it goes with the machine."""
        return self.qemu.directory / _SYMBOLS


@contextmanager
def boot(guest: GuestT, *arguments: str) -> Iterator[LabMachine[GuestT]]:
    """Start ``guest`` in QEMU, with further ``arguments`` for it; the machine ends with the context.

    Raises:
        EnvironmentProblem: QEMU is missing or does not work.
    """

    def prepare(directory: Path) -> Sequence[str]:
        (directory / _SYMBOLS).write_bytes(guest.program.elf)
        return *guest.image.qemu_arguments(directory, guest.program.entry), *arguments

    # Without the random seeds of its device tree a guest has the same memory each time: recordings can be compared.
    machine = f"{guest.machine},dtb-randomness=off"
    with QemuProcess(MachineOptions(cpu=guest.cpu, machine=machine, prepare=prepare)) as qemu:
        yield LabMachine(guest, qemu)
