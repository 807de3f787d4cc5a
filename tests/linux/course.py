"""One guest's whole course: boot under GDB, load, kexec driven page by page and to its end, and the second boot.

A boot costs more than all questions to it: so each is taken once, and every test looks at what was noted down.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kexecdbg.lab.linux.guest import DEBIAN, LinuxGuest, LinuxMachine, boot_linux
from kexecdbg.session.gdb import CommandResult, GdbSession
from kexecdbg.ui.cli import main

SECONDS = 120.0
RAM_MIB = 768
COURSES = {
    "without VHE": LinuxGuest(
        "cortex-a57", RAM_MIB, cpus=2, kaslr=True, vmlinux=DEBIAN, append="kexecdbg.test=7", no_checks=True
    ),
    "with VHE": LinuxGuest("max", RAM_MIB, vmlinux=DEBIAN, no_checks=True),
}
SECOND_SWITCH = {"without VHE": "__kvm_nvhe____kvm_hyp_init", "with VHE": "enter_vhe"}
"""The function that switches the MMU on after __enable_mmu: KVM's of EL2, or the kernel's own of EL2&0."""
WITHOUT_SYMBOLS = {"with VHE"}
"""The courses whose relocation is driven by a GDB that has no symbols."""
_IN_THE_KERNEL = "__arm64_sys_reboot"
"""Called by ``kexec -e`` before anything is shut down."""
_KERNEL_LOG = re.compile(r"^\[ *\d+\.\d+\] .*\n", re.MULTILINE)
"""What the kernel prints on the same console whenever it likes."""
_IMAGE_ALIGNMENT = 0x20_0000
"""An Image lies at a multiple of 2 MiB (Linux Documentation/arch/arm64/booting.rst)."""


@dataclass(frozen=True)
class Switch:
    """A switch of the MMU on, stepped over.

    Attributes:
        function: address of the function that it is in; ``None`` where it was not looked for.
        ahead: what kexec-check said at the start of the function; ``None`` likewise.
        stepped: the document of kexec-step.
    """

    function: int | None
    ahead: Any
    stepped: Any


@dataclass(frozen=True)
class Images:
    """The documents of kexec-image on one loaded image.

    Attributes:
        with_symbols: live, in the kernel.
        by_address: the same, told where struct kimage is; WITHOUT_SYMBOLS as its name says.
        dumped: in a dump of the same moment, compared with one from after the copy.
        drawn, drawn_from_dump: what ``--map`` prints there and there.
    """

    with_symbols: Any
    by_address: Any
    dumped: Any
    drawn: str
    drawn_from_dump: str


@dataclass(frozen=True)
class Course:
    """What was noted down.

    Attributes:
        name: of the course.
        at_boot: the first kernel's switches: __enable_mmu, and that of SECOND_SWITCH.
        dmesg, command_line, cpus: of the first kernel.
        table, registers: of ``walk-ttbr1`` and ``kexec-regs TCR_EL2`` before the jump.
        images: of ``kexec-image`` there.
        first_page, all_pages, relocated: of ``kexec-relocate``: stopped after a page, after all, at the new kernel.
        arrived_at: the PC after it.
        after_relocation: the second kernel's __enable_mmu.
        releases: of both kernels.
        second_command_line: of the second kernel.
    """

    name: str
    at_boot: tuple[Switch, Switch]
    dmesg: str
    command_line: str
    cpus: str
    table: Any
    registers: Any
    images: Images
    first_page: Any
    all_pages: Any
    relocated: CommandResult
    arrived_at: int
    after_relocation: Switch
    releases: tuple[str, str]
    second_command_line: str

    @property
    def linux_version(self) -> tuple[int, ...]:
        """Major and minor number of the first kernel's version."""
        return tuple(int(number) for number in self.releases[0].split(".")[:2])

    @property
    def has_vhe(self) -> bool:
        """Whether the kernel runs at EL2."""
        return self.name == "with VHE"


def take(name: str, directory: Path) -> Course:
    """Take the course; ``directory`` is for memory dumps."""
    with boot_linux(COURSES[name]) as machine, GdbSession() as gdb:
        at_boot = _switches_at_boot(machine, gdb, SECOND_SWITCH[name])
        first_release = machine.wait_init(SECONDS)
        dmesg = machine.run("dmesg")
        command_line, cpus = (_output(machine, line) for line in ("cat /proc/cmdline", "nproc"))
        machine.load_second(SECONDS)
        _stop_before_the_shutdown(machine, gdb)
        table, registers = (_document(gdb, line) for line in ("walk-ttbr1", "kexec-regs TCR_EL2"))
        before, after = directory / "before", directory / "after"
        with_symbols = gdb.run("kexec-image --map", SECONDS)
        kimage = with_symbols.document["argument"]["address"]
        gdb.command(f"monitor dump-guest-memory {before}", SECONDS)
        if name in WITHOUT_SYMBOLS:
            gdb.command("symbol-file")
        by_address = _document(gdb, f"kexec-image {kimage}")
        first_page = _document(gdb, "kexec-relocate --pages 1")
        all_pages = _document(gdb, f"kexec-relocate --pages {first_page['pages'] - 1}")
        gdb.command(f"monitor dump-guest-memory {after}", SECONDS)
        relocated = gdb.run("kexec-relocate", SECONDS)
        arrived_at = int(gdb.command("output/x $pc"), 16)
        after_relocation = Switch(None, None, _document(gdb, "kexec-step"))
        gdb.disconnect(resume=True)
        second_release = machine.wait_second(SECONDS)
        second_command_line = _output(machine, "cat /proc/cmdline")
        symbols = str(machine.symbol_file)
    dumped = json.loads(_of_dump(before, kimage, "--after", str(after), "--json"))
    drawn_from_dump = _of_dump(before, kimage, "--map", "--vmlinux", symbols)
    return Course(
        name,
        at_boot,
        dmesg,
        command_line,
        cpus,
        table,
        registers,
        Images(with_symbols.document, by_address, dumped, with_symbols.text, drawn_from_dump),
        first_page,
        all_pages,
        relocated,
        arrived_at,
        after_relocation,
        (first_release, second_release),
        second_command_line,
    )


def _output(machine: LinuxMachine, line: str) -> str:
    """What a command prints, without what the kernel prints meanwhile."""
    return _KERNEL_LOG.sub("", machine.run(line))


def _document(gdb: GdbSession, line: str) -> Any:
    return gdb.run(line, SECONDS).document


def _of_dump(core: Path, *arguments: str) -> str:
    """What ``kexecdbg image`` prints of a dump."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        assert main(["image", "--core", str(core), *arguments]) == 0
    return printed.getvalue()


def _switches_at_boot(machine: LinuxMachine, gdb: GdbSession, function: str) -> tuple[Switch, Switch]:
    """Step over __enable_mmu, found by decoding alone, and over the switch in ``function``; then let go."""
    gdb.connect(str(machine.qemu.gdb_socket))
    first = _document(gdb, "kexec-step")
    gdb.command(f"symbol-file {machine.symbol_file}", SECONDS)
    enable_mmu, text, start = (_symbol(gdb, name) for name in ("__enable_mmu", "_text", function))
    # Code that switches the MMU on runs at its physical address: that of the image, and the distance in it.
    image = (int(first["site"], 16) - (enable_mmu - text)) & -_IMAGE_ALIGNMENT
    address = image + start - text
    gdb.command(f"thbreak *{address:#x}")
    gdb.command("continue", SECONDS)
    assert int(gdb.command("output/x $pc"), 16) == address
    second = Switch(address, _document(gdb, "kexec-check"), _document(gdb, "kexec-step"))
    gdb.disconnect(resume=True)
    return Switch(image + enable_mmu - text, None, first), second


def _stop_before_the_shutdown(machine: LinuxMachine, gdb: GdbSession) -> None:
    """Have ``kexec -e`` executed, and stop the first kernel when it begins, its symbols at hand."""
    slide = machine.slide()
    gdb.connect(str(machine.qemu.gdb_socket))
    gdb.command(f"symbol-file {machine.symbol_file} -o {slide:#x}", SECONDS)
    gdb.command(f"thbreak {_IN_THE_KERNEL}")
    machine.execute()
    gdb.command("continue", SECONDS)


def _symbol(gdb: GdbSession, name: str) -> int:
    """Where the kernel is linked to have ``name``."""
    return int(gdb.command(f"output/x (unsigned long)&{name}"), 16)
