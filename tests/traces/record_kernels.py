"""Records windows of a real kernel: KVM's switch at EL2, and the relocation from one kernel to the next.

The relocation copies 30 MB between its first window and its second; what lies between the windows is not recorded.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from kexecdbg.arm64.instructions import INSTRUCTION_SIZE
from kexecdbg.checks.copy_loop import find_copy_loop
from kexecdbg.lab.linux.guest import DEBIAN, LinuxGuest, LinuxMachine, boot_linux
from kexecdbg.session.gdb import GdbSession
from kexecdbg.trace.reader import Trace
from tests.traces.corpus import Window

_SECONDS = 300.0
_RAM_MIB = 768
_IMAGE_ALIGNMENT = 0x20_0000
"""An Image lies at a multiple of 2 MiB (Linux Documentation/arch/arm64/booting.rst)."""
_KVM_SWITCH = "__kvm_nvhe____kvm_hyp_init"


def record_kernel(cpu: str, files: Mapping[Window, Path]) -> None:
    """Boot Debian's kernel on ``cpu``, kexec it, and record the windows on the way, all of the relocation or none.

    Raises:
        EnvironmentProblem: QEMU, GDB or the packages are missing.
    """
    with boot_linux(LinuxGuest(cpu, _RAM_MIB, vmlinux=DEBIAN, no_checks=True)) as machine, GdbSession() as gdb:
        if Window.KVM in files:
            _record_kvm(machine, gdb, files[Window.KVM])
        else:
            machine.start()
        if Window.JUMP in files:
            machine.wait_init(_SECONDS)
            machine.load_second(_SECONDS)
            _record_relocation(machine, gdb, files)


def _record_kvm(machine: LinuxMachine, gdb: GdbSession, path: Path) -> None:
    gdb.connect(str(machine.qemu.gdb_socket))
    site = int(gdb.run("kexec-step --before", _SECONDS).document["site"], 16)
    gdb.command(f"symbol-file {machine.symbol_file}", _SECONDS)
    image = (site - _offset(gdb, "__enable_mmu")) & -_IMAGE_ALIGNMENT
    _run_to(gdb, image + _offset(gdb, _KVM_SWITCH))
    _record(gdb, path, Window.KVM)
    gdb.disconnect(resume=True)


def _record_relocation(machine: LinuxMachine, gdb: GdbSession, files: Mapping[Window, Path]) -> None:
    gdb.connect(str(machine.qemu.gdb_socket))
    gdb.command(f"symbol-file {machine.symbol_file}", _SECONDS)
    gdb.command("thbreak machine_kexec")
    machine.execute()
    gdb.command("continue", _SECONDS)
    code, new_kernel = (
        int(gdb.command(f"output/x kexec_image->{field}"), 16) for field in ("arch.kern_reloc", "segment[0].mem")
    )
    _run_to(gdb, code)
    _record(gdb, files[Window.JUMP], Window.JUMP)
    _run_to(gdb, _end_of_copy(files[Window.JUMP], code))
    _record(gdb, files[Window.EXIT], Window.EXIT)
    _run_to(gdb, new_kernel + _offset(gdb, "__enable_mmu"))
    _record(gdb, files[Window.NEW_KERNEL], Window.NEW_KERNEL)


def _offset(gdb: GdbSession, name: str) -> int:
    """How far into the kernel's image ``name`` is."""
    return int(gdb.command(f"output/x (unsigned long)&{name} - (unsigned long)&_text"), 16)


def _run_to(gdb: GdbSession, address: int) -> None:
    gdb.command(f"thbreak *{address:#x}")
    gdb.command("continue", _SECONDS)
    assert int(gdb.command("output/x $pc"), 16) == address


def _end_of_copy(jump: Path, code: int) -> int:
    """The first instruction after the loop of the relocation code at ``code``, which is mapped one to one."""
    with Trace.open(jump) as trace:
        memory = trace.memory(0)
        loop = find_copy_loop(lambda pc: int.from_bytes(memory.read(pc, INSTRUCTION_SIZE), "little"), code, ["X0"])
    assert loop is not None
    return loop.after[0].address


def _record(gdb: GdbSession, path: Path, window: Window) -> None:
    gdb.run(f"kexec-record start {path} --engine stepping --steps {window.steps}", _SECONDS)
