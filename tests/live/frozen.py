"""Machines that have frozen before anybody looked: lab guests that ran alone, and a GDB that comes afterwards."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from kexecdbg.lab.boot import LabMachine, boot
from kexecdbg.lab.guest import build_program
from kexecdbg.lab.recipe import LabGuest
from kexecdbg.lab.scenarios import find_scenarios
from tests.live.machines import GDBS, SECONDS, Bench

CPUS = 4
COUNTING, FROZEN, PARKED, OFF = range(CPUS)
"""What each CPU of :func:`several_cpus` does."""
_SEVERAL_CPUS = 0x5000_0000


@contextmanager
def after_the_freeze(scenario: str) -> Iterator[Bench]:
    """A machine that ran ``scenario`` without GDB until it was in its vector, and a GDB that then connects."""
    with boot(find_scenarios([scenario])[0].guest.build()) as machine:
        machine.qemu.command("cont")
        wait_until_at(machine, machine.guest.vectors + 0x200)
        with GDBS.session(str(machine.qemu.gdb_socket)) as gdb:
            yield Bench(machine, gdb)


@contextmanager
def several_cpus(scenario: str = "A") -> Iterator[Bench]:
    """A machine with four CPUs: 0 counts, 1 ran ``scenario`` into its freeze, 2 waits in WFI, 3 is off."""
    with _four_cpus(scenario) as machine:
        machine.qemu.command("cont")
        wait_until_at(machine, machine.guest.vectors + 0x200, FROZEN)
        wait_until_at(machine, machine.guest.program.symbols["park"] + 4, PARKED)
        with GDBS.session(str(machine.qemu.gdb_socket)) as gdb:
            yield Bench(machine, gdb)


@contextmanager
def several_cpus_before(scenario: str = "A", address: int = _SEVERAL_CPUS) -> Iterator[Bench]:
    """The same with GDB, stopped where CPU 1 starts ``scenario``; its thread is selected.

    The program of the others lies at ``address``.
    """
    with _four_cpus(scenario, address) as machine, GDBS.session(str(machine.qemu.gdb_socket)) as gdb:
        lab = Bench(machine, gdb)
        lab.stop_at(lab.symbol("second_cpu_entry"))
        yield lab


@contextmanager
def _four_cpus(scenario: str, address: int = _SEVERAL_CPUS) -> Iterator[LabMachine[LabGuest]]:
    guest = find_scenarios([scenario])[0].guest.build()
    program = build_program("several_cpus", {"several_cpus_address": address, "second_cpu_entry": guest.program.entry})
    for address, data in program.segments.items():
        guest.image.place(address, data)
    with boot(replace(guest, program=program, machine=f"{guest.machine},smp.cpus={CPUS}")) as machine:
        yield machine


def wait_until_at(machine: LabMachine[LabGuest], pc: int, cpu: int = 0) -> None:
    """Ask QEMU's monitor until ``cpu`` is at ``pc``; each question takes the time that it takes the monitor."""
    question = {"command-line": "info registers", "cpu-index": cpu}
    deadline = time.monotonic() + SECONDS
    while f"PC={pc:016x}" not in machine.qemu.command("human-monitor-command", question):
        assert time.monotonic() < deadline, f"CPU {cpu} never came to {pc:#x}"
