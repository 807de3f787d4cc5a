"""kexec-image on a real kernel that has loaded a second one: live with its symbols and without, and in a dump."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from kexecdbg.kexec.kernel_elf import open_vmlinux, symbol_address
from kexecdbg.kexec.kimage_btf import layout_by_btf
from kexecdbg.kexec.kimage_dwarf import layout_by_dwarf
from kexecdbg.kexec.kimage_loads import ORDER, layout_by_loads
from kexecdbg.lab.linux.guest import DEBIAN, LinuxGuest, boot_linux
from kexecdbg.session.gdb import GdbSession

SECONDS = 180.0
PAGE = 4096
AN_IMAGE = 20 << 20
"""Less than any kernel of a distribution has."""


def code_of(vmlinux: Path, name: str, size: int) -> bytes:
    """The first bytes of a function in the kernel's file."""
    with open_vmlinux(vmlinux) as elf:
        address = symbol_address(elf, name)
        assert address is not None
        for segment in elf.iter_segments("PT_LOAD"):
            start = segment["p_vaddr"]
            if start <= address < start + segment["p_filesz"]:
                return bytes(segment.data()[address - start : address - start + size])
    raise AssertionError(f"{name} is in no segment")


def check_layouts(vmlinux: Path) -> None:
    """DWARF, BTF and the loads in the code agree."""
    by_dwarf, by_btf = layout_by_dwarf(vmlinux), layout_by_btf(vmlinux)
    assert by_dwarf.offsets == by_btf.offsets
    assert (by_dwarf.size, by_dwarf.segments) == (by_btf.size, by_btf.segments)
    by_loads = layout_by_loads(code_of(vmlinux, "arm64_relocate_new_kernel", 0x100))
    assert by_loads.offsets == {name: by_dwarf.offsets[name] for name in ORDER}


def check_image(image: Any) -> None:
    """Sound, and as large as an image is."""
    assert (image["sound"], image["audit"], image["list"]["end"]) == (True, [], "done")
    filled = sum(int(each["end"], 16) - int(each["start"], 16) for each in image["segments"])
    assert image["list"]["pages"] * PAGE == filled > AN_IMAGE
    assert len(image["segments"]) == 4  # kernel, initramfs, device tree, purgatory
    assert sum(run["pages"] for run in image["list"]["runs"]) == image["list"]["pages"]
    for each in image["destinations"]:
        assert each["mapped"] == int(each["end"], 16) - int(each["start"], 16)
        assert int(each["va"], 16) >> 48 == 0xFFFF
    assert {"argument", "code", "tables", "vectors"} == {area["kind"] for area in image["areas"]}


def test_the_image_of_a_second_kernel(tmp_path: Path) -> None:
    core = tmp_path / "guest.core"
    guest = LinuxGuest(cpu="cortex-a57", ram_mib=1024, vmlinux=DEBIAN)
    try:
        with boot_linux(guest) as machine, GdbSession() as gdb:
            assert machine.symbol_file is not None
            check_layouts(machine.symbol_file)
            machine.start()
            machine.wait_init(SECONDS)
            machine.load_second(SECONDS)
            slide = machine.slide()
            gdb.connect(str(machine.qemu.gdb_socket))
            gdb.command(f"symbol-file {machine.symbol_file} -o {slide:#x}", SECONDS)
            live = gdb.run("kexec-image", SECONDS).document
            assert live["argument"]["layout"].startswith("struct kimage, by BTF of vmlinux")
            check_image(live)
            gdb.command("symbol-file")
            bare = gdb.run(f"kexec-image {live['argument']['address']}", SECONDS).document
            assert bare["argument"]["layout"] == "struct kimage, 5.16 to 6.1"
            check_image(bare)
            gdb.command(f"monitor dump-guest-memory {core}", SECONDS)
        command = [
            sys.executable,
            "-m",
            "kexecdbg",
            "image",
            "--json",
            "--core",
            str(core),
            live["argument"]["address"],
        ]
        finished = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
        assert (finished.returncode, finished.stderr) == (0, "")
        dumped = json.loads(finished.stdout)
        check_image(dumped)
        same = ("list", "segments", "destinations")
        assert {key: dumped[key] for key in same} == {key: live[key] for key in same}
        assert any(clause.startswith("TCR_EL1 = ") for clause in dumped["assumptions"])
    finally:
        core.unlink(missing_ok=True)
