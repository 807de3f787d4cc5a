"""How a lab guest goes on: to its end, or into its vectors."""

from __future__ import annotations

from kexecdbg.arm64.pstate import el_of
from kexecdbg.arm64.vectors import VectorSource
from kexecdbg.checks.prediction import ExceptionRecord
from kexecdbg.errors import TargetError
from kexecdbg.lab.boot import LabMachine
from kexecdbg.lab.recipe import LabGuest
from kexecdbg.session.gdb import GdbSession


def vectors_of(guest: LabGuest) -> list[int]:
    """Where the guest's synchronous exceptions go."""
    return [guest.vectors + source for source in (VectorSource.SP_EL0, VectorSource.SP_ELX)]


def run_to_end(machine: LabMachine[LabGuest], gdb: GdbSession, seconds: float) -> ExceptionRecord | None:
    """Let the guest run until it has come to its end and said so, or takes an exception; that exception.

    Raises:
        TargetError: it does neither.
    """
    guest = machine.guest
    vectors = vectors_of(guest)
    for address in [*vectors, *([] if guest.rests_at is None else [guest.rests_at])]:
        gdb.command(f"thbreak *{address:#x}")
    gdb.command("continue", seconds)
    try:
        pc = int(gdb.command("output/x $pc"), 16)
    except TargetError:
        pc = None  # it has powered itself off
    # QEMU stops at a breakpoint before it fetches: the syndrome is still that of the first exception.
    if pc in vectors:
        return syndrome(gdb)
    machine.qemu.console.wait_for(guest.console, seconds)
    return None


def syndrome(gdb: GdbSession) -> ExceptionRecord:
    """The syndrome registers of the exception level that the CPU is at."""
    el = el_of(int(gdb.command("output/x $cpsr"), 16))
    names = [f"{name}_EL{el}" for name in ("ESR", "FAR", "ELR")]
    document = gdb.run(f"kexec-regs {' '.join(names)}").document
    return ExceptionRecord(*(int(document[name]["value"], 16) for name in names))
