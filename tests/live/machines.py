"""What the live tests share: a lab guest with GDB attached."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from kexecdbg.errors import TargetError
from kexecdbg.lab.boot import LabMachine, boot
from kexecdbg.lab.recipe import GuestRecipe, LabGuest
from kexecdbg.lab.scenarios import find_scenarios
from kexecdbg.session.gdb import GdbSession
from kexecdbg.session.scenario import GdbPool

ARRIVED = "new kernel: arrived whole: 64 pages"
SECONDS = 60.0
"""A bound for what takes a fraction of a second, so that a test that would hang fails instead."""
AT_THE_END = ExitStack()
"""What conftest.py ends when the tests of this process are over."""
GDBS = AT_THE_END.enter_context(GdbPool())
"""GDBs that the tests of one process use one after the other: starting one costs more than most tests."""


@dataclass(frozen=True)
class Bench:
    """A lab guest and a GDB that is connected to it, stopped before the guest's first instruction."""

    machine: LabMachine[LabGuest]
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
def bench(guest: str | GuestRecipe = "A", *arguments: str) -> Iterator[Bench]:
    """Boot a scenario's guest, or ``guest`` itself, with further ``arguments`` of QEMU, and connect GDB."""
    recipe = find_scenarios([guest])[0].guest if isinstance(guest, str) else guest
    with boot(recipe.build(), *arguments) as machine, GDBS.session(str(machine.qemu.gdb_socket)) as gdb:
        gdb.load_symbols(machine.symbol_file)
        yield Bench(machine, gdb)
        gdb.command("symbol-file")


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
