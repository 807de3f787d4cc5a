"""``kernel``: whole-table dump, one walk and registers, inside GDB, at a live Debian kernel."""

from __future__ import annotations

import json
from pathlib import Path

from tests.bench.measure import Measurement, report

SUMMARY = "inside GDB at a live kernel: dump of TTBR1, one walk, all registers"

_INSIDE = Path(__file__).with_name("inside_gdb.py")


def run() -> str:
    """Boot the kernel, attach, measure and report."""
    from kexecdbg.lab.linux.guest import LinuxGuest, boot_linux
    from kexecdbg.session.gdb import GdbSession

    with boot_linux(LinuxGuest(ram_mib=1024)) as machine, GdbSession() as gdb:
        machine.start()
        machine.wait_init()
        gdb.connect(str(machine.qemu.gdb_socket))
        while gdb.command("output ($cpsr >> 2) & 3") == "0":  # in user space; it rests in the kernel soon
            gdb.resume()
            gdb.stop()
        root = _INSIDE.parents[2]
        gdb.command(f"python import sys; sys.path.insert(0, {str(root)!r})")
        gdb.command(f"source {_INSIDE}")
        figures = json.loads(gdb.command("python kexecdbg_benchmark()", seconds=300))
    table = f"{figures['entries']} descriptors in {figures['tables']} tables, {figures['ranges']} ranges"
    return "\n".join(
        [
            report(
                f"TTBR1 of a live kernel: {table}",
                [
                    Measurement("reading the tables alone, shared RAM", figures["read shared"]),
                    Measurement("scan, permissions and merging, shared RAM", figures["scan shared"], limit=0.050),
                    Measurement("reading the tables alone, gdbstub", figures["read stub"]),
                    Measurement("scan, permissions and merging, gdbstub", figures["scan stub"], limit=0.250),
                ],
            ),
            report(
                "one address",
                [
                    Measurement("GDB's own x/gx $pc", figures["gdb x"]),
                    Measurement("walk, registers read anew", figures["walk"], limit=0.001),
                    Measurement("the command walk-ttbr1 $pc", figures["command walk"]),
                ],
            ),
            report(
                "registers",
                [
                    Measurement("one register", figures["one register"]),
                    Measurement("kexec-regs --all --raw", figures["regs all"]),
                    Measurement("kexec-regs --all", figures["regs all decoded"], limit=0.020),
                ],
            ),
        ]
    )
