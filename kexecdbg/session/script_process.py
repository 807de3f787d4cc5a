"""Runs one script in a process of its own and reports each check, one line each, on a descriptor.

The starter holds the other end of standard input: when it closes it, or dies, the check that runs is ended as Ctrl-C
would, and what it started with it.

Usage: ``python -m kexecdbg.session.script_process``, the :class:`Assignment` on the first line of standard input.
"""

from __future__ import annotations

import contextlib
import faulthandler
import io
import json
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from types import FrameType
from typing import TypeVar

from kexecdbg.errors import EnvironmentProblem, KexecdbgError, TraceError, UsageError
from kexecdbg.session.check_results import CheckOutcome, CheckResult, Message, Plan, pack
from kexecdbg.session.failures import Skip, TimedOut
from kexecdbg.session.script import Check, Script, load_script
from kexecdbg.session.session import Session
from kexecdbg.session.target import Target, attach, trace

_ResultT = TypeVar("_ResultT")
_SIGNAL_AGAIN_SECONDS = 0.05
_ending = threading.Event()
"""Set when the signal to end has been heard."""


@dataclass(frozen=True)
class Assignment:
    """What to run, and how.

    Attributes:
        script: the script's file.
        trace: the trace to run it on, in place of its own target.
        attach: the gdbstub to run it on, in place of its own target.
        symbols: ELF file for either.
        timeout: seconds that a check may take, and what the script does when it is imported.
        end_seconds: seconds that it has then to come to its end, before the process is killed.
        logs: where to keep the logs of checks that fail; ``None`` for the temporary directory.
        report: descriptor to report on.
    """

    script: str
    trace: str | None
    attach: str | None
    symbols: str | None
    timeout: float
    end_seconds: float
    logs: str | None
    report: int

    @property
    def target(self) -> Target | None:
        """What replaces the script's own target."""
        if self.trace is not None:
            return trace(self.trace, symbols=self.symbols)
        return None if self.attach is None else attach(self.attach, symbols=self.symbols)

    def pack(self) -> bytes:
        """As it is sent."""
        return json.dumps(asdict(self)).encode() + b"\n"


class _TooLong(BaseException):
    """The check's time is up; no script catches it by mistake."""


class _StarterGone(SystemExit):
    """The starter wants the end, or is dead; not the script's own sys.exit."""


def main() -> None:
    """Run the script that standard input says."""
    assignment = Assignment(**json.loads(_first_line()))
    os.set_inheritable(assignment.report, False)
    signal.signal(signal.SIGTERM, _end)
    signal.signal(signal.SIGALRM, _too_long)
    threading.Thread(target=_end_with_starter, daemon=True).start()
    with open(assignment.report, "wb") as report:
        for message in _messages(assignment):
            report.write(pack(message))
            report.flush()


def _messages(assignment: Assignment) -> Iterator[Message]:
    path = Path(assignment.script)
    try:
        with _limited(assignment):
            script = _without_children(load_script, path)
    except _StarterGone:
        raise
    except _TooLong as error:
        yield CheckResult("", CheckOutcome.TIMED_OUT, f"{assignment.timeout:g} s", _details(error, path))
        return
    except BaseException as error:  # whatever the script raises is the result
        yield CheckResult("", CheckOutcome.ERROR, _reason(error), _details(error, path))
        return
    yield Plan(tuple(check.name for check in script.checks))
    for check in script.checks:
        yield _run(check, script, assignment)


def _run(check: Check, script: Script, assignment: Assignment) -> CheckResult:
    printed = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="backslashreplace", write_through=True)
    started = time.monotonic()
    outcome, reason = CheckOutcome.PASSED, ""
    details: tuple[str, ...] = ()
    opening = _Opening()
    try:
        with _limited(assignment), contextlib.redirect_stdout(printed):
            _call(check, script, assignment, opening)
    except _StarterGone:
        raise
    except _TooLong as error:
        outcome, reason = CheckOutcome.TIMED_OUT, f"{assignment.timeout:g} s"
        details = _details(error, script.path)
    except BaseException as error:  # whatever the script raises is the result
        outcome, reason = _outcome(error, opening.done), _reason(error)
        details = () if isinstance(error, Skip) else _details(error, script.path)
    output = tuple(printed.buffer.getvalue().decode(errors="replace").splitlines())
    return CheckResult(check.name, outcome, reason, details, output, time.monotonic() - started)


@contextlib.contextmanager
def _limited(assignment: Assignment) -> Iterator[None]:
    """Raise _TooLong when the time is up; end this process when even that does not end what runs."""
    faulthandler.dump_traceback_later(assignment.timeout + assignment.end_seconds, exit=True)
    signal.setitimer(signal.ITIMER_REAL, assignment.timeout)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        faulthandler.cancel_dump_traceback_later()


@dataclass
class _Opening:
    """Whether the session has been opened: what fails before is no fault of what is being tested."""

    done: bool = False


def _call(check: Check, script: Script, assignment: Assignment, opening: _Opening) -> None:
    if not check.takes_session:
        opening.done = True
        _without_children(check.function)
        return
    target = assignment.target or script.target
    if target is None:
        raise UsageError('it says no TARGET; add for instance TARGET = lab("M01"), or give --trace or --attach')
    with Session(target, logs=None if assignment.logs is None else Path(assignment.logs)) as session:
        opening.done = True
        _without_children(check.function, session)


def _without_children(function: Callable[..., _ResultT], *arguments: object) -> _ResultT:
    """Call it, and return once: a child that the script forks ends here, the session and the report are not its own."""
    own = os.getpid()
    try:
        return function(*arguments)
    finally:
        if os.getpid() != own:
            os._exit(0)


def _outcome(error: BaseException, opened: bool) -> CheckOutcome:
    if isinstance(error, Skip):
        return CheckOutcome.SKIPPED
    if isinstance(error, (EnvironmentProblem, UsageError, TraceError)):
        return CheckOutcome.ERROR
    if isinstance(error, TimedOut):
        return CheckOutcome.TIMED_OUT
    return CheckOutcome.FAILED if opened else CheckOutcome.ERROR


def _reason(error: BaseException) -> str:
    """The first line of what the error says, and its type unless it is one of ours."""
    if isinstance(error, SyntaxError):
        return f"{type(error).__name__}: {error.msg}"
    said = next(iter(str(error).splitlines()), "")
    if isinstance(error, KexecdbgError):
        return said
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


def _details(error: BaseException, script: Path) -> tuple[str, ...]:
    """The rest of what it says, the lines of the script that led there, and the notes on it."""
    if isinstance(error, SyntaxError):
        return (f"{error.filename}:{error.lineno}: {(error.text or '').strip()}",)
    file = str(script.resolve())
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if os.path.realpath(frame.filename) == file]
    places = [f"{script}:{frame.lineno} in {frame.name}: {frame.line}" for frame in frames]
    return (*str(error).splitlines()[1:], *_counted(places), *getattr(error, "__notes__", ()))


def _counted(lines: list[str]) -> Iterator[str]:
    """The same line again and again, as endless recursion has it, is one with a count."""
    for line, same in groupby(lines):
        count = len(list(same))
        yield line if count == 1 else f"{line}  ({count} times)"


def _first_line() -> bytes:
    # Not through sys.stdin: its buffer would be locked by the thread that waits for the end.
    line = bytearray()
    while not line.endswith(b"\n") and (byte := os.read(0, 1)):
        line += byte
    return bytes(line)


def _end_with_starter() -> None:
    os.read(0, 1)
    # Once may not do: a signal that comes after Python's look for signals and before a call that waits is missed.
    while not _ending.wait(_SIGNAL_AGAIN_SECONDS):
        os.kill(os.getpid(), signal.SIGTERM)


def _end(number: int, frame: FrameType | None) -> None:
    if not _ending.is_set():
        _ending.set()
        raise _StarterGone(128 + number)


def _too_long(number: int, frame: FrameType | None) -> None:
    raise _TooLong("the check took too long")


if __name__ == "__main__":
    main()
