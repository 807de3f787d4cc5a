"""A lab guest in a QEMU of its own, stopped before its first instruction."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kexecdbg.lab.relocation import RelocationCase, RelocationGuest, build_relocation_guest
from kexecdbg.qemu.process import MachineOptions, QemuProcess

_SYMBOLS = "relocation.elf"


@dataclass(frozen=True)
class LabMachine:
    """A running lab guest.

    Attributes:
        guest: what was loaded.
        qemu: its QEMU, stopped at the start.
    """

    guest: RelocationGuest
    qemu: QemuProcess

    @property
    def symbol_file(self) -> Path:
        """ELF file with the guest's symbols, for GDB; it goes with the machine."""
        return self.qemu.directory / _SYMBOLS


@contextmanager
def boot_relocation(case: RelocationCase) -> Iterator[LabMachine]:
    """Start ``case`` in QEMU; the machine ends with the context.

    Raises:
        EnvironmentProblem: QEMU or the cross binutils are missing or do not work.
    """
    guest = build_relocation_guest(case)

    def prepare(directory: Path) -> Sequence[str]:
        (directory / _SYMBOLS).write_bytes(guest.program.elf)
        return guest.image.qemu_arguments(directory, guest.entry)

    with QemuProcess(MachineOptions(cpu=case.cpu, prepare=prepare)) as qemu:
        yield LabMachine(guest, qemu)
