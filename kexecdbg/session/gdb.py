"""A GDB of our own with the kexecdbg commands in it, driven through GDB/MI by pygdbmi.

A command ends with its result record: nothing is waited for that does not come.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import shlex
import shutil
import signal
import subprocess
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, TextIO

from pygdbmi.gdbcontroller import GdbController

from kexecdbg.errors import EnvironmentProblem, TargetError
from kexecdbg.resources import data_root
from kexecdbg.session.failures import GdbEnded, NotInterrupted, TimedOut
from kexecdbg.session.gdb_answer import GdbAnswer
from kexecdbg.session.interrupting import seconds_to_end, seconds_to_next_interrupt
from kexecdbg.session.marks import OUTPUT_MARK
from kexecdbg.session.mi_output import MiOutput

_START_SECONDS = 30.0
_END_SECONDS = 2.0
_STOP_SECONDS = 10.0
_SILENCE_SECONDS = 0.5
_AFTER_INTERRUPT_SECONDS = 0.05
_MOST_UNASKED = 100
"""Responses that are kept until somebody wants them."""
_LAST_LINES = 4
"""Of what is printed on standard error, and by programs; kept for the reason why GDB did not start."""
_OUTSIDE_THE_TERMINAL = ("sh", "-c", 'ulimit -c 0 && exec setsid "$0" "$@"')
"""Should GDB crash, it leaves no core file in the user's folder. A Ctrl-C at the terminal reaches only us, not GDB and
what it has started (a replay on a pipe would end): :meth:`GdbSession.interrupt` passes it on."""


def gdb_program() -> str:
    """The GDB to run: ``KEXECDBG_GDB`` when set, else ``gdb-multiarch`` on the path.

    Raises:
        EnvironmentProblem: there is none; the message says what to install.
    """
    wanted = os.environ.get("KEXECDBG_GDB", "gdb-multiarch")
    found = shutil.which(wanted)
    if found is None:
        raise EnvironmentProblem(f"{wanted}: not found; install it (Debian: apt-get install gdb-multiarch)")
    return found


@dataclass(frozen=True)
class CommandResult:
    """What one of our commands gave.

    Attributes:
        document: its JSON document.
        text: what it prints for a person.
    """

    document: Any
    text: str


@dataclass(frozen=True)
class _Interrupted:
    """When the command that runs was interrupted (never: infinity), how often the target had stopped by then, and how
    many seconds of a processor GDB had used."""

    time: float
    stops: int
    used: float


class CommandListener(Protocol):
    """Hears of a command while it is under way."""

    def printed(self, text: str) -> None:
        """GDB, or what it debugs, has printed ``text``; warnings too, which :meth:`GdbSession.command` leaves out."""

    def waiting(self) -> None:
        """Nothing was printed for half a second; the command goes on."""


class GdbSession:
    """GDB with kexecdbg loaded (unless ``load_commands`` is false); ends with its context.

    >>> with GdbSession() as gdb:                                       # doctest: +SKIP
    ...     gdb.connect("/run/user/1000/gdb.sock")
    ...     print(gdb.run("kexec-check").document["verdict"])

    ``transcript`` is where every command is written to, and what GDB answered.
    """

    def __init__(self, load_commands: bool = True, transcript: TextIO | None = None) -> None:
        self._transcript = transcript
        self._running = False
        self.stops = 0
        """How often the target has stopped, the stops inside commands included."""
        command = [*_OUTSIDE_THE_TERMINAL, gdb_program(), "-nx", "-q", "--interpreter=mi3", "-iex", "set auto-load off"]
        self._controller = GdbController(command)
        assert self._controller.gdb_process is not None
        self._output = MiOutput(self._controller.gdb_process)
        self._token = 0
        self._line = ""
        self._interrupted = _Interrupted(math.inf, 0, 0)
        self._unasked: deque[dict[str, Any]] = deque(maxlen=_MOST_UNASKED)
        self._outside_mi: deque[str] = deque(maxlen=_LAST_LINES)
        try:
            for line in (
                "set pagination off",
                "set confirm off",
                "set height 0",
                "set width 0",
                "set style enabled off",
                # No signal frames of user programs to look for: GDB would read memory around the PC thrice a step.
                "set osabi none",
                # GDB retries a refused connection for 15 s; a stub that is not there should be said at once.
                "set tcp auto-retry off",
            ):
                self.command(line, _START_SECONDS)
            if load_commands:
                self._load_commands()
        except GdbEnded as error:
            raise EnvironmentProblem(self._why_not_started()) from error
        except BaseException:
            self.close()
            raise

    def _load_commands(self) -> None:
        try:
            self.command(f"source {data_root() / 'gdbinit'}", _START_SECONDS)
        except GdbEnded:
            raise
        except TargetError as error:
            raise EnvironmentProblem(str(error).removeprefix("kexecdbg: ")) from error
        self.command("set kexecdbg-mark-output on")

    def _why_not_started(self) -> str:
        """What a GDB that has ended left: its status, and its last words on standard error."""
        process = self._controller.gdb_process
        assert process is not None
        self._responses(0)
        self.close()
        said = "; ".join(self._outside_mi) or "it said nothing"
        return f"{gdb_program()} ended as it started, with status {process.returncode}: {said}"

    def connect(self, target: str, seconds: float = 30.0) -> None:
        """Attach to the gdbstub at ``target``: a unix socket's path or HOST:PORT.

        Raises:
            TargetError: nothing answers there.
        """
        try:
            self.command(f"target remote {target}", seconds)
        except TargetError as error:
            reason = " ".join(str(error).split())  # GDB's own has several lines for an empty target
            raise TargetError(f"{target}: no gdbstub answers there ({reason}); start QEMU with -s or -gdb") from error

    def disconnect(self, resume: bool) -> None:
        """Leave the target, running with ``resume``, else stopped where it is."""
        self.command("detach" if resume else "disconnect")

    def forget_target(self) -> None:
        """Leave the target, if it has not gone yet, stopped where it is, and drop all breakpoints."""
        self.command("delete")
        if self.command("python print(gdb.selected_inferior().pid)").strip() != "0":
            self.disconnect(resume=False)

    def load_symbols(self, path: Path, slide: int = 0, seconds: float = 60.0) -> None:
        """Read symbols from the ELF file at ``path``, which runs ``slide`` bytes above where it says."""
        offset = f" -o {slide:#x}" if slide else ""
        self.command(f"symbol-file {shlex.quote(str(path))}{offset}", seconds)

    @property
    def has_ended(self) -> bool:
        """Whether GDB is there no more: closed, or it crashed or was killed."""
        process = self._controller.gdb_process
        return process is None or process.poll() is not None

    def command(self, line: str, seconds: float = 60.0, listener: CommandListener | None = None) -> str:
        """Run a command of GDB's own and return what it printed; ``listener`` hears it at once.

        Raises:
            TargetError: GDB reports an error (the message is GDB's), or has ended.
            TimedOut: it did not answer in ``seconds``; :exc:`NotInterrupted` when it goes on even so.
        """
        self._note(f"(gdb) {line}")
        try:
            printed = self._execute(line, seconds, listener)
        except TargetError as error:
            self._note(str(error))
            raise
        self._note(printed.rstrip("\n"))
        return printed

    def _note(self, text: str) -> None:
        if self._transcript is not None and text:
            self._transcript.write(f"{text}\n")

    def _execute(self, line: str, seconds: float, listener: CommandListener | None) -> str:
        self._token += 2
        self._line, self._interrupted = line, _Interrupted(math.inf, 0, 0)
        quoted = line.replace("\\", "\\\\").replace('"', '\\"')
        # A command that resumes the target ends with ^running in mid-course and no other result (GDB manual, "GDB/MI
        # Result Records"); GDB answers the second command only when the first is over.
        both = f'{self._token}-interpreter-exec console "{quoted}"\n{self._token + 1}-data-evaluate-expression 0'
        try:
            self._controller.write(both, read_response=False)
        except OSError as error:
            raise GdbEnded(f"{line}: GDB has ended") from error
        return self._collect(line, seconds, listener)

    def run(self, line: str, seconds: float = 60.0) -> CommandResult:
        """Run one of our commands: its JSON document and its text.

        Raises:
            TargetError: as :meth:`command`, or the command is not one of ours.
        """
        parts = self.command(line, seconds).split(OUTPUT_MARK)
        if len(parts) != 3:
            raise TargetError(f"{line}: not a kexecdbg command; it printed {''.join(parts)[:200]!r}")
        return CommandResult(json.loads(parts[1]), parts[2].rstrip("\n"))

    def _collect(self, line: str, seconds: float, listener: CommandListener | None) -> str:
        try:
            answer = self._until_answered(line, seconds, listener)
        except TimeoutError:
            not_finished = f"{line}: not finished within {seconds:g} s"
            if not self._interrupt_and_drain(line):
                raise NotInterrupted(f"{not_finished}; it takes no notice of being interrupted") from None
            raise TimedOut(f"{not_finished}; interrupted") from None
        except (KeyboardInterrupt, SystemExit):
            # So that the session can be left in good order; a GDB that is just starting ends with it.
            with contextlib.suppress(GdbEnded):
                self._interrupt_and_drain(line)
            raise
        if answer.problem is not None:
            raise TargetError(answer.problem)
        return answer.printed

    def _interrupt_and_drain(self, line: str) -> bool:
        """Interrupt it: whatever it still says belongs to it, not to the next one; whether it has come to its end."""
        self.interrupt()
        try:
            self._until_answered(line, seconds_to_end(line), None)
        except TimeoutError:
            return False
        return True

    def _until_answered(self, line: str, seconds: float, listener: CommandListener | None) -> GdbAnswer:
        """The answer to the command that has just been sent, complete."""
        answer = GdbAnswer(self._token, _unheard if listener is None else listener.printed)
        deadline = time.monotonic() + seconds
        while (remaining := deadline - time.monotonic()) > 0:
            responses = self._responses(remaining)
            if listener is not None and not responses:
                listener.waiting()
            for place, response in enumerate(responses, 1):
                answer.take(response)
                if answer.is_complete:
                    self._unasked.extend(responses[place:])
                    return answer
            if self.has_ended:
                raise GdbEnded(f"{line}: GDB has ended")
            if self._takes_no_notice():
                self.interrupt()
        raise TimeoutError

    def _responses(self, seconds: float) -> list[dict[str, Any]]:
        """What GDB says next, if it says anything in ``seconds``; whether the target runs is kept in mind."""
        patience = _SILENCE_SECONDS if math.isinf(self._interrupted.time) else _AFTER_INTERRUPT_SECONDS
        responses = self._output.records(min(seconds, patience))
        for response in responses:
            if response["type"] == "notify" and response["message"] in ("running", "stopped", "thread-group-exited"):
                self._running = response["message"] == "running"
                self.stops += response["message"] == "stopped"
            elif response["type"] == "output":
                self._outside_mi.append(response["payload"])
        return responses

    @property
    def running(self) -> bool:
        """Whether the target runs, as far as GDB has told."""
        return self._running

    @property
    def output_descriptor(self) -> int:
        """The descriptor that GDB's output comes from: for who waits for :meth:`unasked_output`."""
        return self._output.descriptor

    def unasked_output(self) -> str:
        """What GDB has printed by itself after the last command, for instance of a stop; nothing is waited for."""
        self._unasked.extend(self._responses(0))
        said = (response["payload"] for response in self._unasked if response["type"] in ("console", "target"))
        printed = "".join(filter(None, said)).replace("\r\n", "\n")
        self._unasked.clear()
        return printed

    def resume(self) -> None:
        """Let the target run and return at once; see :meth:`stop`."""
        self.command("continue &")

    def stop(self, seconds: float = _STOP_SECONDS) -> None:
        """Stop a target that :meth:`resume` has set running; harmless when it ends before that.

        Raises:
            TimedOut: it did not stop in ``seconds``.
            TargetError: GDB reports an error, and the target still runs.
        """
        try:
            self.command("interrupt")
        except TargetError:
            if self._running:
                raise
        deadline = time.monotonic() + seconds
        while self._running and (remaining := deadline - time.monotonic()) > 0:
            self._responses(remaining)
        if self._running:
            raise TimedOut(f"interrupt: the target did not stop within {seconds:g} s")

    def interrupt(self) -> None:
        """Stop the command that is running, and the target with it, as Ctrl-C would; again if it takes no notice."""
        self._interrupted = _Interrupted(time.monotonic(), self.stops, self._processor_seconds())
        process = self._controller.gdb_process
        if process is not None:
            process.send_signal(signal.SIGINT)

    def _takes_no_notice(self) -> bool:
        """Whether the command that runs has been interrupted, in vain."""
        if math.isinf(self._interrupted.time):
            return False
        has_stopped = self.stops != self._interrupted.stops
        used = self._processor_seconds() - self._interrupted.used
        return time.monotonic() - self._interrupted.time > seconds_to_next_interrupt(self._line, has_stopped, used)

    def _processor_seconds(self) -> float:
        """How long GDB has used a processor, to a hundredth; 0 when it has ended."""
        process = self._controller.gdb_process
        if process is None:
            return 0.0
        try:
            after_name = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return 0.0
        in_user_mode, in_the_kernel = map(int, after_name[11:13])  # proc(5): fields 14 and 15
        return (in_user_mode + in_the_kernel) / os.sysconf("SC_CLK_TCK")

    def close(self) -> None:
        """End GDB. A target that is still connected ends with it (GDB kills what it debugs; QEMU then exits)."""
        process = self._controller.gdb_process
        if process is None:
            return
        with contextlib.suppress(OSError):
            self._controller.write("-gdb-exit", read_response=False)
        try:
            process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                stream.close()
        self._controller.gdb_process = None

    def __enter__(self) -> GdbSession:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _unheard(text: str) -> None:
    """Nobody listens."""
