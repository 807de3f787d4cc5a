"""kexec-relocate on a real kernel: to the second kernel's first instruction, with every page verified, and on."""

from __future__ import annotations

from typing import Any

from kexecdbg.lab.linux.guest import DEBIAN, LinuxGuest, LinuxMachine, boot_linux
from kexecdbg.session.gdb import GdbSession

SECONDS = 300.0
IMAGE_PAGES = 5000
"""Kernel and initramfs are more than 20 MiB."""


def relocate(machine: LinuxMachine, gdb: GdbSession) -> Any:
    """Load the second kernel, let it be executed under GDB, and check what every CPU has in common."""
    machine.start()
    machine.wait_init(SECONDS)
    machine.load_second(SECONDS)
    slide = machine.slide() if machine.symbol_file else 0
    gdb.connect(str(machine.qemu.gdb_socket))
    if machine.symbol_file:
        gdb.command(f"symbol-file {machine.symbol_file} -o {slide:#x}", SECONDS)
    machine.execute()
    document = gdb.run("kexec-relocate", SECONDS).document
    assert (document["outcome"], document["sound"]) == ("arrived", True)
    assert document["argument"]["layout"].startswith("struct kimage")
    assert document["pages"] == document["copied"] == document["verified"]["pages"] > IMAGE_PAGES
    assert (document["verified"]["differing"], document["list_defects"], document["running_cpus"]) == (0, [], [])
    assert {check["met"] for check in document["boot"]} == {True}
    assert [stop["landmark"] for stop in document["stops"]][:5] == ["code", "ttbr", "ttbr", "loop_end", "sctlr"]
    assert [stop["landmark"] for stop in document["stops"]][-2:] == ["entry", "kernel"]
    assert int(gdb.command("output/x $pc"), 16) == int(document["stops"][-1]["pc"], 16)
    # What runs next proves it: the second kernel comes up.
    gdb.disconnect(resume=True)
    machine.wait_second(SECONDS)
    return document


def switches(document: Any) -> list[tuple[str, bool, bool]]:
    checked = [stop["switch"] for stop in document["stops"] if stop["switch"] is not None]
    return [(switch["register"], switch["mmu"], switch["sound"]) for switch in checked]


def test_without_vhe_it_goes_through_el2_with_symbols_kaslr_and_two_cpus() -> None:
    guest = LinuxGuest(cpu="cortex-a57", ram_mib=1024, cpus=2, kaslr=True, vmlinux=DEBIAN)
    with boot_linux(guest) as machine, GdbSession() as gdb:
        document = relocate(machine, gdb)
    assert [stop["landmark"] for stop in document["stops"]][5:7] == ["hvc", "el2_vector"]
    assert [stop["el"] for stop in document["stops"]] == [1] * 6 + [2] * 3
    assert switches(document) == [
        ("TTBR1_EL1", True, True),
        ("TTBR1_EL1", True, True),
        ("SCTLR_EL1", False, True),
    ]
    assert [phase["name"] for phase in document["phases"]] == ["shutdown", "relocation", "copy", "purgatory"]
    assert all(phase["seconds"] > 0 for phase in document["phases"])


def test_with_vhe_it_stays_at_el2_and_is_found_without_symbols() -> None:
    with boot_linux(LinuxGuest(cpu="max", ram_mib=1024)) as machine, GdbSession() as gdb:
        document = relocate(machine, gdb)
    assert [stop["landmark"] for stop in document["stops"]][5] == "branch"
    assert {stop["el"] for stop in document["stops"]} == {2}
    assert switches(document) == [
        ("TTBR1_EL2", True, True),
        ("TTBR1_EL2", True, True),
        ("SCTLR_EL2", False, True),
    ]


def test_a_device_that_will_write_into_the_image_is_reported_before_the_jump() -> None:
    """With the GIC ITS the redistributor goes on using LPI tables that the relocation overwrites."""
    with boot_linux(LinuxGuest(ram_mib=1024, its=True)) as machine, GdbSession() as gdb:
        machine.start()
        machine.wait_init(SECONDS)
        machine.load_second(SECONDS)
        gdb.connect(str(machine.qemu.gdb_socket))
        machine.execute()
        document = gdb.run("kexec-relocate", SECONDS).document
    assert (document["outcome"], document["sound"], document["copied"]) == ("blocked", False, 0)
    assert [stop["landmark"] for stop in document["stops"]] == ["code", "ttbr"]
    assert "K09" in {finding["id"] for finding in document["stops"][-1]["switch"]["check"]["findings"]}
