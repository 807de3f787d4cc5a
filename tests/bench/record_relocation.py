"""``record_relocation``: a real kernel's relocation, some 30 MB, recorded from the log by kexec-record, 2 CPUs."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from kexecdbg.lab.linux.guest import LinuxGuest, boot_linux
from kexecdbg.session.gdb import GdbSession
from kexecdbg.trace.reader import Trace

SUMMARY = "a real kernel's whole relocation recorded with its copy loop folded: seconds, steps, bytes"

_SECONDS = 900.0
_GUEST = LinuxGuest(ram_mib=1024, cpus=2, no_checks=True)


def run() -> str:
    """Record it and report."""
    with (
        tempfile.TemporaryDirectory() as directory,
        boot_linux(_GUEST) as machine,
        GdbSession() as gdb,
    ):
        path = Path(directory) / "relocation.kxt"
        machine.start()
        machine.wait_init(_SECONDS)
        machine.load_second(_SECONDS)
        gdb.connect(str(machine.qemu.gdb_socket))
        machine.execute()
        pages = gdb.run("kexec-relocate --pages 1", _SECONDS).document["pages"]
        entry = gdb.run("kexec-image", _SECONDS).document["argument"]["fields"]["start"]
        gdb.command(f"thbreak *{entry}")
        started = time.perf_counter()
        gdb.run(f"kexec-record start {path}", _SECONDS)
        gdb.command("continue", _SECONDS)
        result = gdb.run("kexec-record stop", _SECONDS).document
        seconds = time.perf_counter() - started
        with Trace.open(path) as trace:
            copied = sum(int(block.events["size"].sum()) for block in trace.blocks())
            folded = sum(int(block.events["instructions"].sum()) for block in trace.blocks())
    return "\n".join(
        [
            f"relocation of a real kernel, {pages} pages, {_GUEST.cpu}, {_GUEST.cpus} CPUs, recorded from the log",
            f"  {seconds:.1f} s, {result['bytes'] / 1e6:.1f} MB, {result['steps']:,} steps that stand for {folded:,} "
            f"instructions more; {copied / 1e6:.1f} MB in folded copies",
            *(f"  missing: {remark}" for remark in result["remarks"]),
        ]
    )
