"""What the console does with a line, apart from how lines are read: the session, its commands, what is said."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from kexecdbg.arm64.instructions import INSTRUCTION_SIZE
from kexecdbg.arm64.register_names import canonical_name
from kexecdbg.arm64.registers import REGISTERS
from kexecdbg.errors import KexecdbgError, TargetError, UsageError
from kexecdbg.session import Session, Target, attach, lab, trace
from kexecdbg.session.interrupting import STEPPING_COMMANDS
from kexecdbg.session.marks import is_ours
from kexecdbg.session.target import AttachTarget, TraceTarget
from kexecdbg.ui.console import code
from kexecdbg.ui.console.changes import StopHistory, changes_text
from kexecdbg.ui.console.command_table import help_screen
from kexecdbg.ui.console.passing_on import CommandOutput, pass_on, printable
from kexecdbg.ui.console.snapshot import NO_MACHINE, RunState, Snapshot, take_snapshot
from kexecdbg.ui.console.status import status_line
from kexecdbg.ui.style import WIDTH, Style
from kexecdbg.ui.walk_text import walk_command

HOW_TO_GO_ON = "next: lab A, attach HOST:PORT, replay FILE; Ctrl-D leaves"
_SETTINGS = ("set max-completions 1000",)
_STEP_SECONDS = 5.0
"""A step takes milliseconds, or for ever (WFI), and the full-screen view cannot interrupt it."""
_QUIT = frozenset({"q", "quit", "exit"})
_NEED_THE_TERMINAL = frozenset({"shell", "make", "edit", "python-interactive", "pi", "tui", "layout", "guile-repl"})
_REGISTER = re.compile(r"(?P<name>\w+)|(?:(?:p|print)\s+)?(?P<of>\w+)\.(?P<field>\w+)")
"""``TCR_EL2``, ``TCR_EL2.PS``, ``p TCR_EL2.PS``; not ``p sp``, which is GDB's."""
_CONNECT = re.compile(r"tar(?:get)?\s+(?:extended-)?remote\s+(?P<address>\S.*)")


class Console:
    """The session behind the prompt, which may be replaced by another or end, and what its machine was like.

    Args:
        write: shows text, which ends its own lines.
        style: how text is emphasised.
        width: columns of the terminal.

    Attributes:
        session: the machine; ``None`` when there is none.
        snapshot: what it was like after the last command.
        has_ended: the user has asked to leave.
    """

    def __init__(self, write: Callable[[str], None], style: Style, width: Callable[[], int] = lambda: WIDTH) -> None:
        self._write = write
        self.style = style
        self.width = width
        self.session: Session | None = None
        self.snapshot = NO_MACHINE
        self.has_ended = False
        self._stops = StopHistory()
        self._last_step = ""
        self._shows_next = False
        self._console_seen = 0
        self._unasked = ""
        self._commands: dict[str, Callable[[str], None]] = {
            "changed": self._changed,
            "walk": lambda arguments: self._say(self.walk_text(arguments)),
            "code": lambda arguments: self._say(self.code_text(arguments)),
            "lab": lambda arguments: self.open(lab(_one(arguments, "lab ID, for instance lab A"))),
            "replay": lambda arguments: self.open(trace(_one(arguments, "replay FILE"))),
            "help": self._help,
        }

    # The session

    @property
    def target_name(self) -> str:
        """What the status bar calls the machine."""
        return "" if self.session is None else self.session.target.name

    def open(self, target: Target) -> None:
        """Run on ``target`` from now on; what ran before is left, or ends.

        Raises:
            KexecdbgError: it cannot be opened. What ran before goes on, unless both are gdbstubs: those may be one, and
                a gdbstub has one debugger at a time.
        """
        if isinstance(target, AttachTarget) and self.session and isinstance(self.session.target, AttachTarget):
            self.close()
        session = Session(target)
        session.open()
        self.close()
        self.session = session
        for setting in (*_SETTINGS, *(["set style enabled on"] if self.style.colour else [])):
            session.command(setting)
        self._refresh()

    def close(self) -> None:
        """End the session and say what becomes of its machine; harmless without one."""
        if self.session is None:
            return
        session, was = self.session, self.snapshot.run_state
        self._forget()
        gone = session.gdb_has_ended or was is RunState.ABSENT
        try:
            session.close()
        except TargetError:
            gone = True
        target = session.target
        if not isinstance(target, AttachTarget):
            self._say(f"{target.name}: {'closed' if isinstance(target, TraceTarget) else 'ended'}")
        elif not gone:
            self._say(f"{target.name}: left {'running' if target.resume else 'stopped'}")

    def _forget(self) -> None:
        self.session, self.snapshot, self._stops = None, NO_MACHINE, StopHistory()
        self._console_seen, self._last_step, self._unasked = 0, "", ""

    def status(self) -> str:
        """The status bar."""
        return status_line(self.snapshot, self.target_name, self.width())

    # Lines

    def execute(self, text: str) -> None:
        """Do what a line says, or several lines that end with ``end``; what goes wrong is said in a line."""
        problem = ""
        self._shows_next = False
        try:
            self._dispatch(text.strip() or self._last_step)
        except KexecdbgError as error:
            problem = str(error).rstrip()
        except KeyboardInterrupt:
            problem = "interrupted"
        self._refresh(problem)

    def _dispatch(self, text: str) -> None:
        self._last_step = ""
        name, _, arguments = text.partition(" ")
        register = _REGISTER.fullmatch(text)
        if not text or text.startswith("#"):
            return
        if name in _QUIT:
            self.has_ended = True
        elif name in self._commands:
            self._commands[name](arguments.strip())
        elif name == "attach" and not arguments.strip().isdigit():
            self.open(attach(_one(arguments, "attach HOST:PORT, or the path of a unix socket")))
        elif connect := _CONNECT.fullmatch(text):
            self.open(attach(connect["address"].strip()))
        elif name in _NEED_THE_TERMINAL or name.startswith("!"):
            raise UsageError(f"{name} needs the terminal that the console has; use another terminal")
        elif name == "interrupt":
            self._machine.interrupt()
            self._shows_next = True
        elif register and canonical_name(register["name"] or register["of"]) in REGISTERS:
            self._register(register["name"] or register["of"], register["field"])
        else:
            # What the console sends GDB never is empty, so it is for the console to repeat it.
            self._last_step = text if name in STEPPING_COMMANDS else ""
            self._shows_next = not is_ours(text)
            self._pass_on(text)

    def _pass_on(self, text: str) -> None:
        """Let GDB execute it, and show what it prints while it does; Ctrl-C interrupts it and the machine."""
        pass_on(self._machine, text, CommandOutput(text, self._write, self._running_line, self.width))

    def _show_next_instruction(self, session: Session) -> None:
        """GDB can do so itself, but takes it for an error of the step where the instruction cannot be read."""
        if self.snapshot.pc is not None:
            with suppress(TargetError):
                lines = code.code_around(session, self.snapshot.pc, 0, 0)
                self._say(code.code_text(lines, self.snapshot, self.style))

    def _running_line(self) -> str:
        running = Snapshot(RunState.RUNNING, self.snapshot.cpu, self.snapshot.cpus)
        return status_line(running, f"{self.target_name}  Ctrl-C interrupts", self.width() - 1)

    def interrupt(self) -> None:
        """Ctrl-C at an empty prompt: stop a machine that runs meanwhile (``continue &``)."""
        if self.session is not None and self.snapshot.run_state is RunState.RUNNING:
            self.execute("interrupt")

    @property
    def _machine(self) -> Session:
        if self.session is None:
            raise UsageError(f"there is no machine\n{HOW_TO_GO_ON}")
        return self.session

    def _say(self, text: str) -> None:
        self._write(f"{text}\n")

    # Between lines

    def take_unasked_output(self) -> bool:
        """Take what GDB says while nobody asks it; whether the machine that ran has stopped, or GDB has ended."""
        session = self.session
        if session is None:
            return False
        self._unasked += session.unasked_output()
        return session.gdb_has_ended or (self.snapshot.run_state is RunState.RUNNING and not session.reported_running)

    def show_stop(self) -> None:
        """Show what GDB has said by itself, and the machine as it is now."""
        self._shows_next = True
        self._refresh()

    # After a line

    def _refresh(self, problem: str = "") -> None:
        """Look at the machine again and say what went wrong, and what ended, in one line."""
        if self.session is not None:
            self._show_guest_console(self.session)
            before, name = self.snapshot.run_state, self.target_name
            because = f" ({problem})" if problem else ""
            try:
                self.snapshot = take_snapshot(self.session, self._note_unasked)
                self._show_unasked(self.session)
                has_moved = self._stops.note(self.snapshot, self.session.stops)
                if has_moved and self._shows_next:
                    self._show_next_instruction(self.session)
            except TargetError as error:
                if self.session.gdb_has_ended:
                    self._drop_session()
                    self._say(self.style.warn(f"GDB has ended, and the session on {name} with it\n{HOW_TO_GO_ON}"))
                    return
                self.snapshot, problem = Snapshot(RunState.STOPPED), problem or str(error)
            if self.snapshot.run_state is RunState.ABSENT and before is not RunState.ABSENT:
                self._say(self.style.warn(f"{name} is gone{because}\n{HOW_TO_GO_ON}"))
                return
        if problem:
            self._say(self.style.bad(problem))

    def _note_unasked(self, text: str) -> None:
        self._unasked += text

    def _show_unasked(self, session: Session) -> None:
        said, self._unasked = self._unasked + session.unasked_output(), ""
        self._write(printable(said))

    def _drop_session(self) -> None:
        session = self.session
        self._forget()
        if session is not None:
            with suppress(KexecdbgError):
                session.close()

    def _show_guest_console(self, session: Session) -> None:
        with suppress(KexecdbgError):  # not our QEMU: its console is elsewhere
            text = session.console
            fresh, self._console_seen = text[self._console_seen :], len(text)
            if fresh.strip():
                lines = printable(fresh).strip("\n").splitlines()
                self._say("\n".join(self.style.dim(f"guest: {line}") for line in lines))

    # The console's own commands

    def _changed(self, arguments: str) -> None:
        if arguments:
            raise UsageError("changed takes no argument")
        self._say(self.changed_text())

    def _help(self, arguments: str) -> None:
        if arguments:
            self._pass_on(f"help {arguments}")
        else:
            self._say(help_screen(self.style))

    def _register(self, name: str, field: str | None) -> None:
        result = self._machine.kexec_command(f"kexec-regs {name}")
        if field is None:
            self._say(result.text)
            return
        ((canonical, register),) = ((key, value) for key, value in result.document.items())
        found = [entry for entry in register["fields"] if entry["name"].lower() == field.lower()]
        if not found:
            names = " ".join(entry["name"] for entry in register["fields"])
            raise UsageError(f"{canonical} has no field {field}; it has {names}")
        self._say("\n".join(_field_line(canonical, entry) for entry in found))

    def changed_text(self) -> str:
        """The registers that changed since the stop before."""
        return changes_text(self._stops.earlier(self.snapshot), self.snapshot, self.style)

    def walk_text(self, expression: str = "") -> str:
        """How an address translates, by default that of the next fetch.

        Raises:
            TargetError, UsageError: GDB or the command refuses.
        """
        regime = self.snapshot.regime
        address = self._machine.evaluate(expression) if expression else self._next_fetch()
        line = f"walk-ttbr0 {address:#x}" if regime is None else walk_command(regime, address)
        return self._machine.kexec_command(line).text

    def _next_fetch(self) -> int:
        """The address that is translated next: behind a write that switches the MMU on, that after it."""
        pc = self.snapshot.pc
        if pc is None:
            raise UsageError("the PC is unknown; is the machine stopped?")
        with suppress(TargetError):
            (line,) = code.code_around(self._machine, pc, 0, 0)
            if code.switches_mmu_on(line, self.snapshot):
                return pc + INSTRUCTION_SIZE
        return pc

    def code_text(self, expression: str = "") -> str:
        """The code around an address, by default the PC.

        Raises:
            TargetError, UsageError: GDB refuses.
        """
        address = self._machine.evaluate(expression or "$pc")
        return code.code_text(code.code_around(self._machine, address), self.snapshot, self.style)

    def verdict_text(self) -> str:
        """What kexec-check says.

        Raises:
            TargetError, UsageError: it has nothing to judge.
        """
        return self._machine.kexec_command("kexec-check").text

    def step(self) -> None:
        """Execute an instruction, for the full-screen view."""
        self._machine.step(timeout=_STEP_SECONDS)
        self._refresh()


def _field_line(register: str, entry: dict[str, Any]) -> str:
    position = str(entry["msb"]) if entry["msb"] == entry["lsb"] else f"{entry['msb']}:{entry['lsb']}"
    return f"{register}.{entry['name']} [{position}] = {entry['value']:#x}  {entry['meaning']}"


def _one(arguments: str, usage: str) -> str:
    words: Sequence[str]
    try:
        words = shlex.split(arguments)
    except ValueError:
        words = ()
    if len(words) != 1:
        raise UsageError(f"write: {usage}")
    return words[0]
