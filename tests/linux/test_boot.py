"""The guest itself: what boots on each CPU, and a kexec of the user's own files that nobody looks at."""

from __future__ import annotations

import re
from pathlib import Path

from kexecdbg.lab.linux import initramfs
from kexecdbg.lab.linux.guest import LinuxGuest, boot_linux
from kexecdbg.lab.linux.packages import fetch_kernel, fetch_symbols
from tests.linux.course import COURSES, RAM_MIB, SECONDS, Course

RAM_PAGES = RAM_MIB * 256


def test_kvm_is_there(course: Course) -> None:
    """Without VHE it is at EL2, with the TCR_EL2 of the mail; with VHE the kernel itself is."""
    mode = "VHE" if course.has_vhe else "Hyp( nVHE)?"  # 6.1 and 6.12
    assert re.search(rf"kvm \[1\]: {mode} mode initialized successfully", course.dmesg)
    assert course.registers["TCR_EL2"]["layout"] == ("E2H=1" if course.has_vhe else "E2H=0")
    assert (course.registers["TCR_EL2"]["value"] == "0x80843510") is not course.has_vhe


def test_the_kernel_maps_ram_page_by_page(course: Course) -> None:
    assert course.table["regime"] == ("EL2&0" if course.has_vhe else "EL1&0")
    assert RAM_PAGES < course.table["entries"] < RAM_PAGES + RAM_PAGES // 16


def test_the_options_of_the_machine_reach_the_guest(course: Course) -> None:
    wanted = COURSES[course.name]
    assert course.cpus == f"{wanted.cpus}\n"
    assert "ITS: No ITS available" in course.dmesg
    words = course.command_line.split()
    assert ("nokaslr" not in words, "kexecdbg.test=7" in words) == (wanted.kaslr, bool(wanted.append))


def test_the_second_kernel_is_up(course: Course) -> None:
    first, second = course.releases
    assert first == second
    assert course.second_command_line.split() == [*course.command_line.split(), "kexecdbg.kernel=2"]


def test_own_files_and_nobody_looking(tmp_path: Path) -> None:
    debian = fetch_kernel()
    initrd = tmp_path / "own.cpio"
    initrd.write_bytes(initramfs.pack([initramfs.regular("own/file", b"both kernels have it\n")]))
    guest = LinuxGuest(
        "cortex-a57",
        RAM_MIB,
        kernel=debian.image,
        vmlinux=fetch_symbols(debian),
        initrd=initrd,
        tools=debian.tools,
        no_checks=True,
    )
    with boot_linux(guest) as machine:
        machine.start()
        assert machine.wait_init(SECONDS) == debian.release
        assert (machine.slide(), machine.run("cat /own/file")) == (0, "both kernels have it\n")
        machine.load_second(SECONDS)
        assert machine.run("cat /sys/kernel/kexec_loaded") == "1\n"
        machine.execute()
        machine.wait_second(SECONDS)
        assert machine.run("cat /own/file /sys/kernel/kexec_loaded") == "both kernels have it\n0\n"
        assert list(machine.phases) == ["boot", "load", "shutdown", "relocation", "start-up"]
