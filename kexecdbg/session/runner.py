"""Runs scripts, each in a process of its own, several at a time; results come in the order of the scripts."""

from __future__ import annotations

import os
import select
import selectors
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field

from kexecdbg.session import script_process
from kexecdbg.session.check_results import CheckOutcome, CheckResult, Message, Plan, unpack
from kexecdbg.session.script_process import Assignment

CHECK_SECONDS = 300.0
"""How long a check may take unless told otherwise."""
END_SECONDS = 30.0
"""How long a check has to end its machine when its time is up, or the end is asked for."""
_PATIENCE_SECONDS = 1.0
"""How long nobody is told that something is waited for."""
TellOfWait = Callable[[str, float], None]
_READ = 65536
_STANDARD_ERROR = 2


@dataclass(frozen=True)
class RunOptions:
    """How to run scripts; see :class:`Assignment`.

    Attributes:
        jobs: how many scripts at a time.
    """

    jobs: int = 1
    trace: str | None = None
    attach: str | None = None
    symbols: str | None = None
    timeout: float = CHECK_SECONDS
    end_seconds: float = END_SECONDS
    logs: str | None = None


def run_scripts(
    scripts: Sequence[str], options: RunOptions, tell_of_wait: TellOfWait | None = None
) -> Generator[tuple[str, Message | None], None, None]:
    """Run ``scripts``: each one's plan and results as they come, then ``None``, then the next script's.

    A script whose process dies, or that cannot be read, has one result without a name. Every process ends with the
    iteration; who may leave it early closes it (:func:`contextlib.closing`). A KeyboardInterrupt while they are ended
    kills those that are still there; ``tell_of_wait`` hears of one that takes its time, and how long it has.
    """
    with ExitStack() as stack:
        selector = stack.enter_context(selectors.DefaultSelector())
        waiting = deque(_ScriptProcess(script) for script in scripts)
        processes = list(waiting)
        stack.callback(_end_all, processes, tell_of_wait)
        running = 0
        for current in processes:
            while True:
                while waiting and running < options.jobs:
                    waiting[0].start(options, selector)
                    waiting.popleft()
                    running += 1
                yield from ((current.script, message) for message in current.take_messages())
                if current.ended:
                    break
                for process in {key.data for key, _ in selector.select()}:
                    process.read()
                    if process.ended:
                        process.leave(selector)
                        process.finish()
                        running -= 1
            yield current.script, None


@dataclass(eq=False)
class _ScriptProcess:
    """One script's process, from before its start to after its end."""

    script: str
    ended: bool = False
    _process: subprocess.Popen[bytes] | None = None
    _report: int = -1
    _end: int = -1
    """Descriptor of the process, readable when it has ended: children that it leaves behind may hold ``_report`` on."""
    _received: bytearray = field(default_factory=bytearray)
    _planned: list[str] | None = None
    """The checks that have no result yet; ``None`` before they are known."""
    _messages: deque[Message] = field(default_factory=deque)

    def start(self, options: RunOptions, selector: selectors.BaseSelector) -> None:
        with ExitStack() as undo:
            self._report, theirs = os.pipe()
            undo.callback(os.close, self._report)
            try:
                # What a script or its children print past Python's own output must not mix with ours. In a session of
                # its own: Ctrl-C reaches this process, which ends the script by closing its standard input.
                process = subprocess.Popen(
                    [sys.executable, "-P", "-m", script_process.__name__],
                    stdin=subprocess.PIPE,
                    stdout=_STANDARD_ERROR,
                    pass_fds=[theirs],
                    start_new_session=True,
                )
            finally:
                os.close(theirs)
            undo.enter_context(process)
            undo.callback(process.kill)
            self._end = os.pidfd_open(process.pid)
            undo.pop_all()
        self._process = process
        assignment = Assignment(
            self.script,
            options.trace,
            options.attach,
            options.symbols,
            options.timeout,
            options.end_seconds,
            options.logs,
            theirs,
        )
        assert process.stdin is not None
        process.stdin.write(assignment.pack())
        process.stdin.flush()
        os.set_blocking(self._report, False)
        for descriptor in (self._report, self._end):
            selector.register(descriptor, selectors.EVENT_READ, self)

    def leave(self, selector: selectors.BaseSelector) -> None:
        """Have ``selector`` wait for it no more."""
        for descriptor in (self._report, self._end):
            selector.unregister(descriptor)

    def read(self) -> None:
        """Take what has arrived, and see whether that is all."""
        self.ended = self.ends_within(0)  # asked first: what it said before its end is there then
        with suppress(BlockingIOError):
            while data := os.read(self._report, _READ):
                self._received += data
            self.ended = True
        *lines, rest = bytes(self._received).split(b"\n")
        self._received = bytearray(rest)
        for message in map(unpack, lines):
            if isinstance(message, Plan):
                self._planned = list(message.checks)
            elif self._planned is None:  # the script could not be read
                self._planned = []
            else:
                self._planned.remove(message.name)
            self._messages.append(message)

    def take_messages(self) -> Iterator[Message]:
        """What has not been taken yet."""
        while self._messages:
            yield self._messages.popleft()

    def ask_to_end(self) -> None:
        """Have it end what it runs, without waiting."""
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()

    def kill(self) -> None:
        """End it at once; what it has started ends with it, for nobody holds its other end any more."""
        if self._process is not None:
            self._process.kill()

    def ends_within(self, seconds: float) -> bool:
        """Wait so long for its end; whether it has come."""
        if self._process is None:
            return True
        end = select.poll()  # select() refuses descriptors from 1024 on
        end.register(self._end, select.POLLIN)
        return bool(end.poll(seconds * 1000))

    def finish(self) -> None:
        """Wait for its end, end its children, and say of what it was to do and did not that it died."""
        if self._process is None:
            return
        if not self.ends_within(END_SECONDS):
            self._process.kill()
            self.ends_within(END_SECONDS)
        # It is the leader of their group, whose number is its own until it has been waited for.
        os.killpg(self._process.pid, signal.SIGKILL)
        status = self._process.wait()
        self.ask_to_end()
        for descriptor in (self._report, self._end):
            os.close(descriptor)
        self._process = None
        if status or self._planned is None or self._planned:
            how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
            for name in self._planned or [""]:
                self._messages.append(CheckResult(name, CheckOutcome.ERROR, f"the script's process {how}"))


def _end_all(processes: Sequence[_ScriptProcess], tell_of_wait: TellOfWait | None) -> None:
    for process in processes:
        process.ask_to_end()
    try:
        for process in processes:
            if not process.ends_within(_PATIENCE_SECONDS) and tell_of_wait is not None:
                tell_of_wait(process.script, END_SECONDS)
            process.finish()
    except KeyboardInterrupt:
        for process in processes:
            process.kill()
        for process in processes:
            process.finish()
        raise
