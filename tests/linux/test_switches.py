"""The switches of the MMU that a real kernel makes when it boots: found, judged sound, and what was predicted."""

from __future__ import annotations

from typing import Any

import pytest

from kexecdbg.lab.linux.guest import DEBIAN, LinuxGuest, LinuxMachine, boot_linux
from kexecdbg.session.gdb import GdbSession

SECONDS = 180.0
IMAGE_ALIGNMENT = 0x20_0000
"""An Image lies at a multiple of 2 MiB (Linux Documentation/arch/arm64/booting.rst)."""


class Kernel:
    """A kernel that boots under GDB, stopped before its first instruction."""

    def __init__(self, machine: LinuxMachine, gdb: GdbSession) -> None:
        self.machine = machine
        self.gdb = gdb
        self.image = 0
        gdb.connect(str(machine.qemu.gdb_socket))

    def symbol(self, name: str) -> int:
        """Where the kernel is linked to have ``name``."""
        return int(self.gdb.command(f"output/x (unsigned long)&{name}"), 16)

    def step_over_switch(self) -> Any:
        """The document of kexec-step."""
        return self.gdb.run(f"kexec-step --timeout {SECONDS:g}", 2 * SECONDS).document

    def run_to(self, name: str) -> int:
        """Run to the function at its physical address, where code runs that switches the MMU on."""
        address = self.image + self.symbol(name) - self.symbol("_text")
        self.gdb.command(f"thbreak *{address:#x}")
        self.gdb.command("continue", SECONDS)
        assert int(self.gdb.command("output/x $pc"), 16) == address
        return address

    def read_symbols(self, in_enable_mmu: int) -> None:
        """Read the kernel's symbols, and learn from an address in ``__enable_mmu`` where the image lies."""
        assert self.machine.symbol_file is not None
        self.gdb.command(f"symbol-file {self.machine.symbol_file}", SECONDS)
        start = in_enable_mmu - (self.symbol("__enable_mmu") - self.symbol("_text"))
        self.image = start & ~(IMAGE_ALIGNMENT - 1)
        assert start - self.image < 0x100


def went_as_predicted(stepped: Any, *hazards: str) -> bool:
    """Whether the switch was judged sound with just these findings, and the CPU did what was predicted."""
    found = [(finding["id"], finding["severity"]) for finding in stepped["check"]["findings"]]
    assert found == [(hazard, "hazard") for hazard in hazards]
    assert stepped["check"]["verdict"] == "sound"
    assert stepped["observed"]["first"] is None
    return bool(stepped["agrees"])


def check_switches(cpu: str, function: str, set_up: set[str]) -> None:
    """``__enable_mmu``, then the switch in ``function`` whose ``set_up`` is stepped, then the way on to init."""
    with boot_linux(LinuxGuest(cpu=cpu, ram_mib=1024, vmlinux=DEBIAN)) as machine, GdbSession() as gdb:
        kernel = Kernel(machine, gdb)
        first = kernel.step_over_switch()
        # VBAR_EL1 is still 0 there.
        assert went_as_predicted(first, "M05")
        kernel.read_symbols(int(first["site"], 16))
        start = kernel.run_to(function)
        from_afar = gdb.run("kexec-check", SECONDS).document
        second = kernel.step_over_switch()
        assert from_afar["ahead"] > 0
        assert (from_afar["site"], from_afar["predicted"]) == (second["site"], second["check"]["predicted"])
        assert start < int(second["site"], 16) < start + 0x100
        assert went_as_predicted(second)
        assert set_up <= {name for step in second["steps"] for name in step["changes"]}
        gdb.disconnect(resume=True)
        machine.wait_init(SECONDS)


def test_el1_at_boot_and_el2_for_kvm_without_vhe() -> None:
    check_switches("cortex-a57", "__kvm_nvhe____kvm_hyp_init", {"MAIR_EL2", "TTBR0_EL2", "TCR_EL2"})


def test_el1_at_boot_and_enter_vhe() -> None:
    check_switches("max", "enter_vhe", set())


@pytest.mark.parametrize("cpu", ["cortex-a57", "max"])
def test_el1_of_the_second_kernel_after_the_relocation(cpu: str) -> None:
    with boot_linux(LinuxGuest(cpu=cpu, ram_mib=1024)) as machine, GdbSession() as gdb:
        machine.start()
        machine.wait_init(SECONDS)
        machine.load_second(SECONDS)
        kernel = Kernel(machine, gdb)
        machine.execute()
        relocated = gdb.run("kexec-relocate", 2 * SECONDS).document
        assert relocated["outcome"] == "arrived"
        assert went_as_predicted(kernel.step_over_switch(), "M05")
        gdb.disconnect(resume=True)
        machine.wait_second(SECONDS)
