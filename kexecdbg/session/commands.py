"""What a session does with its machine: run, step, look, judge, repair."""

from __future__ import annotations

import itertools
import re
import shlex
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Literal

from kexecdbg.errors import TargetError, UsageError
from kexecdbg.qemu.serial_console import SerialConsole
from kexecdbg.session import documents
from kexecdbg.session.failures import GdbEnded, NotInterrupted, NotOnThisTarget, TimedOut
from kexecdbg.session.gdb import CommandListener, CommandResult, GdbSession
from kexecdbg.session.registers import Registers
from kexecdbg.session.results import (
    Diagnosis,
    Fix,
    LoadedImage,
    Relocation,
    Stop,
    Switch,
    TableSummary,
    Verdict,
    Walk,
)
from kexecdbg.session.target import OpenTarget

Address = int | str
"""An address, or a GDB expression for one: ``$pc+4``, ``&symbol``, ``machine_kexec``."""
Table = Literal["ttbr0", "ttbr1", "vttbr"]

_DISASSEMBLED = re.compile(r"(?P<pc>0x[0-9a-f]+)[^:]*:\t(?P<text>[^\n]*)")
_AFTER_TIME_OUT_SECONDS = 5.0
"""What GDB may take to say where the machine is, once something was not finished in time."""
_NO_ASSUMPTIONS: Mapping[str, int] = {}


class Commands(ABC):
    """Every method waits at most ``timeout`` seconds, the session's unless another is given, and then raises
    :exc:`TimedOut`; the machine is stopped by then, unless it takes no notice of being interrupted (the message
    says so). What GDB or the target refuses is a :exc:`TargetError`.

    Attributes:
        timeout: seconds.
    """

    timeout: float

    @property
    @abstractmethod
    def _gdb(self) -> GdbSession:
        """The session's GDB."""

    @property
    @abstractmethod
    def _target(self) -> OpenTarget:
        """What GDB is connected to."""

    def _seconds(self, timeout: float | None) -> float:
        seconds = self.timeout if timeout is None else timeout
        if not seconds > 0:  # nor is NaN
            raise UsageError(f"timeout={seconds:g}: give seconds, more than 0")
        return seconds

    # GDB

    def command(self, line: str, *, timeout: float | None = None, listener: CommandListener | None = None) -> str:
        """Run any GDB command and return what it printed; a ``listener`` hears it at once."""
        with self._saying_where():
            return self._gdb.command(line, self._seconds(timeout), listener)

    @contextmanager
    def _saying_where(self) -> Iterator[None]:
        """What is not finished in time has interrupted the machine; where is what a script's author wants to know."""
        try:
            yield
        except TimedOut as error:
            if (place := self._interrupted_at(error)) is None:
                raise
            raise TimedOut(f"{error} at {place}") from None

    def _interrupted_at(self, error: TimedOut) -> Stop | None:
        """Where the machine is; ``None`` when it does not stop, or GDB cannot say."""
        if isinstance(error, NotInterrupted):
            return None
        try:
            return self._where(_AFTER_TIME_OUT_SECONDS)
        except TargetError:
            return None

    def interrupt_command(self) -> None:
        """Stop the command that is under way, and the machine with it, as Ctrl-C would: for signal handlers."""
        self._gdb.interrupt()

    @property
    def gdb_has_ended(self) -> bool:
        """Whether GDB is there no more: it crashed, or was killed."""
        return self._gdb.has_ended

    @property
    def reported_running(self) -> bool:
        """Whether the machine runs, as far as GDB has told by itself; see :meth:`is_running`, which asks."""
        return self._gdb.running

    @property
    def output_descriptor(self) -> int:
        """The descriptor that GDB's output comes from: for who waits for :meth:`unasked_output`."""
        return self._gdb.output_descriptor

    def unasked_output(self) -> str:
        """What GDB has printed by itself after the last command, for instance of a stop; nothing is waited for."""
        return self._gdb.unasked_output()

    @property
    def stops(self) -> int:
        """How often the machine has stopped, the stops inside commands included."""
        return self._gdb.stops

    def kexec_command(self, line: str, *, timeout: float | None = None) -> CommandResult:
        """Run any kexecdbg command: its JSON document and its text."""
        with self._saying_where():
            return self._gdb.run(line, self._seconds(timeout))

    def evaluate(self, expression: Address) -> int:
        """The value of a GDB expression, unsigned 64 bits; an integer is its own value."""
        if isinstance(expression, int):
            return expression
        return int(self.command(f"output/x (unsigned long)({expression})"), 16)

    @property
    def is_recording(self) -> bool:
        """Whether the target is a trace: it runs backwards too, and nothing can be written to it."""
        return self._target.recorded

    @property
    def registers(self) -> Registers:
        """Registers by name, as they are now."""
        return Registers(self._gdb, self.timeout)

    # Running

    def where(self) -> Stop:
        """Where the machine is stopped."""
        return self._where(self.timeout)

    def _where(self, seconds: float) -> Stop:
        try:
            found = _DISASSEMBLED.search(self._gdb.command("x/i $pc", seconds))
        except (TimedOut, GdbEnded):
            raise
        except TargetError:  # the instruction cannot be fetched, or there is no machine any more
            ended = self._gdb.command("python print(gdb.selected_thread() is None)", seconds).strip() == "True"
            return Stop(None if ended else int(self._gdb.command("output/x $pc", seconds), 16))
        if found is None:
            return Stop(int(self._gdb.command("output/x $pc", seconds), 16))
        return Stop(int(found["pc"], 16), " ".join(found["text"].partition("\t//")[0].split()))

    def step(self, count: int = 1, *, timeout: float | None = None) -> Stop:
        """Execute ``count`` instructions."""
        if count < 0:
            raise UsageError(f"step({count}): a session goes back with command('reverse-stepi'), on a recording")
        self.command(f"stepi {count}", timeout=timeout)
        return self.where()

    def run_to(self, place: Address, *, timeout: float | None = None) -> Stop:
        """Run until the PC is at ``place``; at once when it is there.

        Raises:
            TargetError: the machine stopped elsewhere, or ended, before.
        """
        address = self.evaluate(place)
        stop = self.where()
        if stop.pc == address:
            return stop
        self.command(f"thbreak *{address:#x}")
        breakpoint_number = self.evaluate("$bpnum")
        not_reached = f"{place if isinstance(place, str) else hex(place)} was not reached"
        try:
            stop = self.continue_(timeout=timeout)
        except NotInterrupted as error:
            raise NotInterrupted(f"{not_reached}; {error}") from None
        except TimedOut as error:
            self.command(f"delete {breakpoint_number}")
            raise TimedOut(f"{not_reached}; {error}") from None
        if stop.pc != address:
            if not stop.ended:
                self.command(f"delete {breakpoint_number}")
            raise TargetError(f"{not_reached}; {stop}")
        return stop

    def run_to_instruction(self, pattern: str, *, most: int = 10_000, timeout: float | None = None) -> Stop | None:
        """Step until the next instruction matches a regular expression, ``msr ttbr[01]_el``.

        At least one instruction is stepped. ``None`` when ``most`` were, or the machine ended, before one matched.
        """
        expression = regular_expression(pattern)
        seconds = self._seconds(timeout)
        deadline = time.monotonic() + seconds
        not_found = f"no instruction matches {pattern!r} within {seconds:g} s"
        stop = self.where()
        for _ in range(most):
            if (remaining := deadline - time.monotonic()) <= 0:
                raise TimedOut(f"{not_found}; {stop}")
            try:
                self._gdb.command("stepi", remaining)
            except TimedOut as error:
                raise type(error)(f"{not_found}; {self._interrupted_at(error) or error}") from None
            stop = self.where()
            if stop.ended:
                return None
            if expression.match(stop.instruction):
                return stop
        return None

    def continue_(self, *, timeout: float | None = None) -> Stop:
        """Let the machine run until it stops by itself: at a breakpoint, at its end, at the end of a recording."""
        self.command("continue", timeout=timeout)
        return self.where()

    def resume(self) -> None:
        """Let the machine run and return at once; :meth:`interrupt` stops it."""
        self._gdb.resume()

    def interrupt(self) -> Stop:
        """Stop the machine after :meth:`resume`; harmless when it has stopped by itself."""
        if self.is_running():
            self._gdb.stop()
        return self.where()

    def is_running(self) -> bool:
        """Whether the machine runs."""
        thread = "gdb.selected_thread()"
        return self.command(f"python print({thread} is not None and {thread}.is_running())").strip() == "True"

    # The switch

    def run_to_switch(self, *, timeout: float | None = None) -> Switch:
        """Run to the next write that switches the MMU on, found by decoding, and judge it (``kexec-step --before``)."""
        return documents.switch(self.kexec_command("kexec-step --before", timeout=timeout))

    def step_over_switch(self, *, follow: bool = False, timeout: float | None = None) -> Switch:
        """Run to the next such write if the PC is not at one, execute it, and compare with the prediction.

        Stops while the first syndrome is still in ESR, FAR and ELR.

        Args:
            follow: one step more: the second exception, which overwrites them.
        """
        return documents.switch(self.kexec_command(f"kexec-step{' --follow' if follow else ''}", timeout=timeout))

    def check(self, *, assume: Mapping[str, int] = _NO_ASSUMPTIONS, timeout: float | None = None) -> Verdict:
        """The verdict on the write at the PC, or ahead (``kexec-check``)."""
        return documents.verdict(self.kexec_command(_line("kexec-check", assume), timeout=timeout))

    # Tables

    def walk(
        self,
        address: Address,
        *,
        table: Table = "ttbr0",
        assume: Mapping[str, int] = _NO_ASSUMPTIONS,
        timeout: float | None = None,
    ) -> Walk:
        """How ``address`` translates (``walk-ttbr0``); with the MMU off, as if it were on."""
        line = _line(f"walk-{table}", assume, hex(address) if isinstance(address, int) else address)
        return documents.walk(self.kexec_command(line, timeout=timeout))

    def table(
        self, *, table: Table = "ttbr0", assume: Mapping[str, int] = _NO_ASSUMPTIONS, timeout: float | None = None
    ) -> TableSummary:
        """All that a table maps."""
        return documents.table(self.kexec_command(_line(f"walk-{table}", assume), timeout=timeout))

    # Kexec

    def image(self, address: Address | None = None, *, timeout: float | None = None) -> LoadedImage:
        """The image that kexec has loaded, audited (``kexec-image``)."""
        arguments = [] if address is None else [f"{self.evaluate(address):#x}"]
        return documents.image(self.kexec_command(_line("kexec-image", {}, *arguments), timeout=timeout))

    def relocate(self, *, pages: int | None = None, timeout: float | None = None) -> Relocation:
        """Drive the relocation to its end and compare every page (``kexec-relocate``).

        Args:
            pages: stop when so many more are copied.
        """
        line = "kexec-relocate" + ("" if pages is None else f" --pages {pages}")
        return documents.relocation(self.kexec_command(line, timeout=timeout))

    # After the freeze

    def why(self, *, timeout: float | None = None) -> Diagnosis:
        """Why the CPU is stuck (``kexec-why``)."""
        return documents.diagnosis(self.kexec_command("kexec-why", timeout=timeout))

    def fix(self, *, timeout: float | None = None) -> Fix:
        """Write the repair of the last verdict into the machine (``kexec-fix``).

        Raises:
            NotOnThisTarget: it is a recording.
        """
        if self.is_recording:
            raise NotOnThisTarget("a recording cannot be repaired")
        return documents.fix(self.kexec_command("kexec-fix --yes", timeout=timeout))

    # The guest's console

    @property
    def console(self) -> str:
        """What the guest has printed so far.

        Raises:
            NotOnThisTarget: the session did not start the machine.
        """
        return self._console.text

    @property
    def _console(self) -> SerialConsole:
        if self._target.qemu is None:
            raise NotOnThisTarget("there is no console: the session did not start the machine")
        return self._target.qemu.console


def regular_expression(pattern: str) -> re.Pattern[str]:
    """The pattern, compiled.

    Raises:
        UsageError: it is none.
    """
    try:
        return re.compile(pattern)
    except re.error as error:
        raise UsageError(f"{pattern!r} is no regular expression: {error}") from error


def _line(command: str, assume: Mapping[str, int], *arguments: str) -> str:
    options = itertools.chain.from_iterable(("--assume", f"{name}={value:#x}") for name, value in assume.items())
    for argument in arguments:
        if argument.startswith("-"):
            raise UsageError(f"{argument!r} is not an address")
    return shlex.join([command, *options, *arguments])
