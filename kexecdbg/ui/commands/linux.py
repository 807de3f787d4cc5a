"""``kexecdbg linux``: a real kernel, booted and followed by a second one through kexec."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import threading
from pathlib import Path

from kexecdbg.checks.relocating.run_to_code import SYMBOLS
from kexecdbg.errors import UsageError
from kexecdbg.lab.linux.guest import DEBIAN, LinuxGuest, LinuxMachine, boot_linux
from kexecdbg.lab.linux.packages import Tools, cache_directory, fetch_kernel, fetch_symbols
from kexecdbg.qemu.serial_console import SerialConsole
from kexecdbg.session.gdb import CommandResult, GdbSession
from kexecdbg.ui.style import style_for

SUMMARY = (
    "Boot a real arm64 Linux kernel in QEMU, have it load a second one, and let kexec start that. Debian's kernel and "
    "tools are fetched once; your own files can be given instead."
)

_FOREVER = 7 * 86400.0
_DRIVE_SECONDS = 600.0
_CONSOLE_SECONDS = 0.5
_MAX_ICOUNT_SHIFT = 10
"""MAX_ICOUNT_SHIFT of QEMU's accel/tcg."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Machine, kernel, files, and what to do with them."""
    machine = parser.add_argument_group("machine")
    machine.add_argument(
        "--cpu",
        default="cortex-a57",
        help="cortex-a57 (no VHE, the default), max (VHE, but no FEAT_LPA2; max,lpa2=on has it), ...",
    )
    machine.add_argument("--memory", type=int, default=1536, metavar="MIB", help="RAM in MiB (default: %(default)s)")
    machine.add_argument("--cpus", type=int, default=1, help="number of CPUs (default: %(default)s)")
    machine.add_argument(
        "--its", action="store_true", help="with the GIC ITS, which the second kernel does not survive"
    )
    machine.add_argument(
        "--icount",
        type=int,
        metavar="SHIFT",
        help="count instructions: each takes 2**SHIFT ns of the guest's time (0 to 10); phases have them as well",
    )
    kernel = parser.add_argument_group("kernels")
    kernel.add_argument("--kaslr", action=argparse.BooleanOptionalAction, default=False, help="default: --no-kaslr")
    kernel.add_argument("--append", default="", metavar="PARAMETERS", help="further kernel parameters")
    kernel.add_argument("--kernel", type=Path, metavar="IMAGE", help="your own kernel (Image, gzipped or EFI zboot)")
    kernel.add_argument(
        "--no-checks", action="store_true", help="load the second kernel without digests for purgatory to verify"
    )
    kernel.add_argument("--second-kernel", type=Path, metavar="IMAGE", help="the kernel to kexec (default: the same)")
    kernel.add_argument("--vmlinux", type=Path, help="its symbols; `debian` fetches those of Debian's kernel (260 MB)")
    kernel.add_argument("--initrd", type=Path, help="your own initramfs, for both; ours is put on top of it")
    kernel.add_argument("--busybox", type=Path, help="your own, statically linked for arm64; with --kexec")
    kernel.add_argument("--kexec", type=Path, help="your own, statically linked for arm64; with --busybox")
    parser.add_argument("--refresh", action="store_true", help="fetch Debian's kernel again: a newer one may be there")
    parser.add_argument("--fetch", action="store_true", help="only fetch (with --vmlinux debian also the symbols)")
    parser.add_argument(
        "--gdb",
        nargs="?",
        const="loaded",
        choices=("start", "init", "loaded"),
        help="stop for GDB before the first instruction, in init, or before the jump (the default), say how to attach, "
        "and keep the machine until Ctrl-C",
    )
    parser.add_argument(
        "--drive", action="store_true", help="drive the relocation with kexec-relocate: every page is verified"
    )
    parser.add_argument("--console", action="store_true", help="show what the guest prints (always with --gdb)")
    parser.add_argument("--json", action="store_true", help="print one JSON document and nothing else")


def run(arguments: argparse.Namespace) -> int:
    """Exit status 0 when the second kernel's init was reached."""
    if arguments.gdb and arguments.json:
        raise UsageError("--gdb keeps the machine for you and --json is for programs; give one of them")
    if arguments.gdb and arguments.drive:
        raise UsageError("--gdb leaves the machine to you and --drive uses GDB itself; give one of them")
    if arguments.memory < 512 or arguments.cpus < 1:
        raise UsageError("at least --memory 512 and --cpus 1")
    if arguments.icount is not None and not 0 <= arguments.icount <= _MAX_ICOUNT_SHIFT:
        raise UsageError(f"--icount {arguments.icount}: QEMU takes 0 to {_MAX_ICOUNT_SHIFT}")
    guest = _guest(arguments)
    if arguments.fetch:
        return _fetch(arguments)
    driven: CommandResult | None = None
    with boot_linux(guest) as machine:
        ended = threading.Event()
        follower = threading.Thread(target=_follow, args=(machine.console, ended), daemon=True)
        if (arguments.console or arguments.gdb) and not arguments.json:
            follower.start()
        try:
            if arguments.drive:
                driven, release = drive(machine)
            else:
                release = _for_gdb(machine, arguments.gdb) if arguments.gdb else _straight(machine)
        finally:
            ended.set()
            if follower.is_alive():
                follower.join()
    if driven is not None:
        return _report_driven(machine, driven, release, arguments)
    assert release is not None
    _report(machine, release, arguments)
    return 0


def _guest(arguments: argparse.Namespace) -> LinuxGuest:
    if (arguments.busybox is None) != (arguments.kexec is None):
        raise UsageError("--busybox and --kexec go together: both programs run in the guest")
    tools = Tools(arguments.busybox, arguments.kexec) if arguments.busybox else None
    return LinuxGuest(
        cpu=arguments.cpu,
        ram_mib=arguments.memory,
        cpus=arguments.cpus,
        kaslr=arguments.kaslr,
        its=arguments.its,
        icount=arguments.icount,
        no_checks=arguments.no_checks,
        append=arguments.append,
        kernel=arguments.kernel,
        vmlinux=arguments.vmlinux,
        initrd=arguments.initrd,
        second_kernel=arguments.second_kernel,
        tools=tools,
        refresh=arguments.refresh,
        say=_say,
    )


def _fetch(arguments: argparse.Namespace) -> int:
    kernel = fetch_kernel(arguments.refresh, _say)
    symbols = fetch_symbols(kernel, _say) if arguments.vmlinux == DEBIAN else None
    if arguments.json:
        document = {
            "release": kernel.release,
            "kernel": str(kernel.image),
            "vmlinux": str(symbols) if symbols else None,
        }
        print(json.dumps(document | {"packages": dict(kernel.packages)}, indent=1))
    else:
        print(f"{kernel.release} is in {cache_directory()}" + (f"; symbols: {symbols}" if symbols else ""))
    return 0


def _straight(machine: LinuxMachine) -> str:
    machine.start()
    machine.wait_init()
    machine.load_second()
    machine.execute()
    return machine.wait_second()


def drive(machine: LinuxMachine) -> tuple[CommandResult, str | None]:
    """Boot, load, and have kexec-relocate drive the relocation; the second kernel's release, if it was started.

    The second kernel is not started when kexec-relocate stops before a write that the CPU would not survive.
    """
    machine.start()
    machine.wait_init()
    machine.load_second()
    slide = machine.slide() if machine.symbol_file else 0
    options = [f"--symbol {name}={address:#x}" for name, address in machine.addresses(SYMBOLS).items()]
    if machine.guest.icount is not None:
        options.append(f"--icount {machine.guest.icount}")
    with GdbSession() as gdb:
        gdb.connect(str(machine.qemu.gdb_socket))
        if machine.symbol_file:
            gdb.load_symbols(machine.symbol_file, slide, _DRIVE_SECONDS)
        machine.execute()
        line = f"kexec-relocate --continue --timeout {_DRIVE_SECONDS:g} {' '.join(options)}"
        driven = gdb.run(line, 2 * _DRIVE_SECONDS)
        if driven.document["outcome"] != "arrived":
            return driven, None
        gdb.disconnect(resume=True)
    return driven, machine.wait_second()


def _report_driven(
    machine: LinuxMachine, driven: CommandResult, release: str | None, arguments: argparse.Namespace
) -> int:
    """Print what kexec-relocate said; exit status 0 when all was sound and the second kernel is up."""
    sound = bool(driven.document["sound"]) and release is not None
    if arguments.json:
        document = {"cpu": arguments.cpu, "kaslr": arguments.kaslr, "its": arguments.its, "release": release}
        print(json.dumps(document | {"relocation": driven.document}, indent=1))
    else:
        print(driven.text)
        if release is not None:
            print(style_for(sys.stdout).good(f"the second kernel, {release}, is up on {arguments.cpu}"))
    return 0 if sound else 1


def _for_gdb(machine: LinuxMachine, stop: str) -> str:
    if stop != "start":
        machine.start()
        machine.wait_init()
    if stop == "loaded":
        machine.load_second()
    slide = machine.slide() if stop != "start" and machine.symbol_file else None
    if stop != "start":
        machine.qemu.command("stop")
    _explain(machine, stop, slide)
    if stop == "start":
        machine.wait_init(_FOREVER)
    if stop != "loaded":
        machine.load_second(_FOREVER)
    machine.execute()
    release = machine.wait_second(_FOREVER)
    _say("the second kernel is up; Ctrl-C ends the machine")
    machine.qemu.wait_exit(_FOREVER)
    return release


def _explain(machine: LinuxMachine, stop: str, slide: int | None) -> None:
    where = {
        "start": "before its first instruction; once continued it boots, loads the second kernel and jumps",
        "init": "in init; once continued it loads the second kernel and jumps",
        "loaded": "with the second kernel loaded; once continued it jumps",
    }[stop]
    lines = [f"the machine is stopped {where}. Attach with:", '  gdb-multiarch -x "$(kexecdbg gdbinit)"']
    lines += [f"  (gdb) target remote {machine.qemu.gdb_socket}"]
    if machine.symbol_file:
        lines.append(
            f"  (gdb) symbol-file {shlex.quote(str(machine.symbol_file))}" + (f" -o {slide:#x}" if slide else "")
        )
        lines.append("  (gdb) hbreak machine_kexec")
    lines.append("  (gdb) continue")
    _say("\n".join(lines) + "\nCtrl-C here ends the machine.")


def _report(machine: LinuxMachine, release: str, arguments: argparse.Namespace) -> None:
    total = sum(machine.phases.values())
    if arguments.json:
        phases = {name: round(seconds, 3) for name, seconds in machine.phases.items()}
        document = {"cpu": arguments.cpu, "kaslr": arguments.kaslr, "its": arguments.its, "release": release}
        print(json.dumps(document | {"phases": phases, "seconds": round(total, 3)}, indent=1))
        return
    style = style_for(sys.stdout)
    rows = [f"{name:<12}{seconds:8.2f} s" for name, seconds in machine.phases.items()]
    print(style.good(f"the second kernel, {release}, is up on {arguments.cpu}"))
    print("\n".join([*rows, style.bold(f"{'all':<12}{total:8.2f} s")]))


def _follow(console: SerialConsole, ended: threading.Event) -> None:
    known = 0
    while not ended.is_set():
        text = console.more(known, _CONSOLE_SECONDS)
        known += len(text)
        sys.stderr.write(text.replace("\r", ""))
        sys.stderr.flush()


def _say(text: str) -> None:
    print(f"kexecdbg: {text}", file=sys.stderr, flush=True)
