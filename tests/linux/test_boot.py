"""The real kernel: booted without and with VHE, its tables walked, and a whole kexec into a second kernel.

Debian's packages are fetched on the first run; where they cannot be had the tests fail and say why.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from kexecdbg.lab.linux.guest import LinuxGuest, LinuxMachine, boot_linux
from kexecdbg.session.gdb import GdbSession

SECONDS = 120.0


@contextmanager
def in_init(guest: LinuxGuest) -> Iterator[LinuxMachine]:
    """A machine whose first kernel has reached init."""
    with boot_linux(guest) as machine:
        machine.start()
        machine.wait_init(SECONDS)
        yield machine


def documents(machine: LinuxMachine, *lines: str) -> list[Any]:
    """The JSON documents of our commands in GDB at the machine, which then runs on."""
    with GdbSession() as gdb:
        gdb.connect(str(machine.qemu.gdb_socket))
        found = [gdb.run(line, SECONDS).document for line in lines]
        gdb.disconnect(resume=True)
    return found


def test_nvhe_boots_and_kexecs_a_second_kernel() -> None:
    with in_init(LinuxGuest(cpu="cortex-a57", ram_mib=1024)) as machine:
        assert "Hyp mode initialized successfully" in machine.run("dmesg | grep kvm")
        machine.load_second()
        assert machine.run("cat /sys/kernel/kexec_loaded") == "1\n"
        # The kernel maps RAM page by page: 262,144 pages are 1 GiB. TCR_EL2 is what KVM left, the mail's own value.
        table, registers = documents(machine, "walk-ttbr1", "kexec-regs TCR_EL2")
        assert table["regime"] == "EL1&0"
        assert 262_144 < table["entries"] < 275_000
        assert (registers["TCR_EL2"]["value"], registers["TCR_EL2"]["layout"]) == ("0x80843510", "E2H=0")
        machine.execute()
        first = machine.wait_second()
        assert first == machine.run("uname -r").strip()
        assert "kexecdbg.kernel=2" in machine.run("cat /proc/cmdline")
        assert machine.run("cat /sys/kernel/kexec_loaded") == "0\n"
        assert list(machine.phases) == ["boot", "load", "shutdown", "relocation", "start-up"]


def test_vhe_boots_with_the_kernel_at_el2() -> None:
    with in_init(LinuxGuest(cpu="max", ram_mib=1024, kaslr=True)) as machine:
        assert "VHE mode initialized successfully" in machine.run("dmesg | grep kvm")
        assert "nokaslr" not in machine.run("cat /proc/cmdline")
        (table,) = documents(machine, "walk-ttbr1")
        assert table["regime"] == "EL2&0"
        assert 262_144 < table["entries"] < 275_000


@pytest.mark.parametrize("its", [False, True])
def test_the_options_of_the_machine_reach_the_guest(its: bool) -> None:
    with in_init(LinuxGuest(cpus=2, ram_mib=1024, its=its, append="kexecdbg.test=7")) as machine:
        assert machine.run("nproc") == "2\n"
        assert ("ITS: No ITS available" not in machine.run("dmesg")) is its
        assert "kexecdbg.test=7" in machine.run("cat /proc/cmdline")
