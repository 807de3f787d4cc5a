"""What the live tests share: a lab guest with GDB attached, and QEMU's own account of the exceptions it took."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kexecdbg.errors import TargetError
from kexecdbg.lab.boot import LabMachine, boot_relocation
from kexecdbg.lab.cases import CASES
from kexecdbg.lab.relocation import RelocationCase
from kexecdbg.session.gdb import GdbSession

ARRIVED = "new kernel: arrived whole: 64 pages"
SECONDS = 60.0
"""A bound for what takes a fraction of a second, so that a test that would hang fails instead."""


@dataclass(frozen=True)
class Bench:
    """A lab guest and a GDB that is connected to it, stopped before the guest's first instruction."""

    machine: LabMachine
    gdb: GdbSession

    def run(self, line: str) -> Any:
        """The JSON document of one of our commands."""
        return self.gdb.run(line, SECONDS).document

    def text(self, line: str) -> str:
        """What one of our commands prints for a person."""
        return self.gdb.run(line, SECONDS).text

    def refused(self, line: str) -> str:
        """The message of a command that must fail, checked to be one clear line after which GDB still works."""
        return refusal(self.gdb, line)

    def symbol(self, name: str) -> int:
        """The address of a symbol of the guest, as the linker put it."""
        return self.machine.guest.program.symbols[name]

    def stop_at(self, address: int) -> None:
        """Run to ``address`` with GDB's own breakpoint."""
        self.gdb.command(f"thbreak *{address:#x}")
        self.gdb.command("continue", SECONDS)

    def go_on(self) -> str:
        """Let the machine run to its end; what the guest printed."""
        self.gdb.command("continue", SECONDS)
        self.machine.qemu.console.wait_for(r"new kernel: .*\n", SECONDS)
        return self.machine.qemu.console.text


@contextmanager
def bench(case: str | RelocationCase = "A") -> Iterator[Bench]:
    """Boot ``case`` and connect GDB."""
    found = CASES[case] if isinstance(case, str) else case
    with boot_relocation(found) as machine, GdbSession() as gdb:
        gdb.connect(str(machine.qemu.gdb_socket))
        gdb.load_symbols(machine.symbol_file)
        yield Bench(machine, gdb)


def refusal(gdb: GdbSession, line: str) -> str:
    """The message that ``line`` fails with: one line, no traceback, and GDB usable after it."""
    try:
        printed = gdb.command(line, SECONDS)
    except TargetError as error:
        message = str(error)
    else:
        raise AssertionError(f"{line} did not fail; it printed {printed!r}")
    assert "\n" not in message.strip()
    assert "Traceback" not in message and "Error occurred in Python" not in message
    assert gdb.command("output 6 * 7") == "42"
    return message


@dataclass(frozen=True)
class LoggedException:
    """One exception of QEMU's log (``-d int``); ``far`` is ``None`` where QEMU prints none."""

    esr: int
    far: int | None
    elr: int


_EXCEPTION = re.compile(
    r"Taking exception \d+ \[[^]]*\] on CPU 0\n"
    r"\.\.\.from EL\d to EL\d\n"
    r"\.\.\.with ESR 0x[0-9a-f]+/0x(?P<esr>[0-9a-f]+)\n"
    r"(?:\.\.\.with FAR 0x(?P<far>[0-9a-f]+)\n)?"
    r"(?:\.\.\.with SPSR 0x[0-9a-f]+\n)?"
    r"\.\.\.with ELR 0x(?P<elr>[0-9a-f]+)\n"
)
"""QEMU target/arm/helper.c, arm_log_exception() and arm_cpu_do_interrupt_aarch64(); 10.0 adds the SPSR line."""


class ExceptionLog:
    """QEMU's log of exceptions, switched on from here on."""

    def __init__(self, machine: LabMachine) -> None:
        self._path: Path = machine.qemu.directory / "exceptions.log"
        machine.qemu.monitor(f"logfile {self._path}")
        machine.qemu.monitor("log int")

    def exceptions(self) -> list[LoggedException]:
        """All exceptions taken so far."""
        return [
            LoggedException(
                esr=int(match["esr"], 16),
                far=int(match["far"], 16) if match["far"] else None,
                elr=int(match["elr"], 16),
            )
            for match in _EXCEPTION.finditer(self._path.read_text())
        ]
