"""``relocate``: a kexec that kexec-relocate drives against one that nobody watches; MMU on against MMU off."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from kexecdbg.lab.boot import boot
from kexecdbg.lab.linux.guest import LinuxGuest, boot_linux
from kexecdbg.lab.relocation import RelocationCase
from kexecdbg.session.gdb import GdbSession
from tests.bench.measure import Measurement, report

SUMMARY = "kexec of a real kernel driven by kexec-relocate against unattended; the lab's copy with MMU on and off"

_SECONDS = 600.0
_MOST = 1.3
_WITHOUT_MMU_AND_CACHES = ~0x1005
_ROUNDS = 2


def run() -> str:
    """Measure and report."""
    # In turns, and processor time, not wall time: the guest is most of it, and other work on the host is no part of it.
    pairs = [(_kexec(driven=False), _kexec(driven=True)) for _ in range(_ROUNDS)]
    unattended, driven = (min(times) for times in zip(*pairs, strict=True))
    on, off = (_lab_copy(sctlr) for sctlr in (RelocationCase.sctlr_el2, _without_mmu()))
    return "\n".join(
        [
            report(
                "kexec -e to the second kernel's init (cortex-a57), processor time of QEMU and GDB",
                [
                    Measurement("unattended", unattended),
                    Measurement("driven and verified by kexec-relocate", driven, limit=_MOST * unattended),
                ],
            ),
            report(
                "the lab's 65 pages, in the machine's own time",
                [Measurement("copied with the MMU on", on), Measurement("copied with the MMU and caches off", off)],
            ),
        ]
    )


def _kexec(driven: bool) -> float:
    """Processor seconds from ``kexec -e`` to the second kernel's init, with GDB connected both times."""
    with boot_linux(LinuxGuest(ram_mib=1024)) as machine, GdbSession() as gdb:
        machine.start()
        machine.wait_init(_SECONDS)
        machine.load_second(_SECONDS)
        gdb.connect(str(machine.qemu.gdb_socket))
        started = _processor_seconds(machine.qemu.pid) + _own_seconds(gdb)
        machine.execute()
        if driven:
            document = gdb.run("kexec-relocate", _SECONDS).document
            if not document["sound"]:
                raise RuntimeError(f"the relocation is not sound: {document['outcome']}")
        gdb.disconnect(resume=True)
        machine.wait_second(_SECONDS)
        return _processor_seconds(machine.qemu.pid) + _own_seconds(gdb) - started


def _processor_seconds(pid: int) -> float:
    """User and system time of a process (proc(5), /proc/PID/stat, fields 14 and 15)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _own_seconds(gdb: GdbSession) -> float:
    """The same of GDB."""
    return float(gdb.command("python import time; print(time.process_time())"))


def _without_mmu() -> int:
    return RelocationCase.sctlr_el2 & _WITHOUT_MMU_AND_CACHES


def _lab_copy(sctlr_el2: int) -> float:
    with boot(RelocationCase(sctlr_el2=sctlr_el2).build()) as machine, GdbSession() as gdb:
        gdb.connect(str(machine.qemu.gdb_socket))
        phases: list[Any] = gdb.run("kexec-relocate", _SECONDS).document["phases"]
        return float(next(phase["seconds"] for phase in phases if phase["name"] == "copy"))
