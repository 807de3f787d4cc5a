"""Commands that go to GDB as they were typed: what they print, and Ctrl-C while they run."""

from __future__ import annotations

import json
import math
import os
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from kexecdbg.session import Session
from kexecdbg.session.marks import OUTPUT_MARK, is_ours

_UNPRINTABLE = re.compile(r"[^\n\t -~\u00a0-\U0010ffff]")


def pass_on(session: Session, text: str, output: CommandOutput) -> None:
    """Let GDB execute ``text``, a line or a command that goes on to its ``end``; Ctrl-C interrupts it and the machine.

    Raises:
        TargetError: GDB refuses, or has ended.
    """
    with _interrupting(session.interrupt_command), output:
        if "\n" not in text:
            session.command(text, timeout=math.inf, listener=output)
            return
        with _as_file(text) as path:
            session.command(f"source {path}", timeout=math.inf, listener=output)


class CommandOutput:
    """Shows what a command prints as it comes, and that it goes on while nothing comes.

    A command of ours prints its JSON and its text after marks, and GDB tells of the stops inside it in between; of all
    that only what was asked for is shown, at the end.

    Args:
        text: the command.
        write: shows text.
        waiting: the line that says that it goes on.
        width: columns of the terminal.
    """

    def __init__(
        self, text: str, write: Callable[[str], None], waiting: Callable[[], str], width: Callable[[], int]
    ) -> None:
        self._write = write
        self._waiting = waiting
        self._width = width
        self._is_ours = is_ours(text)
        self._as_json = "--json" in text.split()
        self._held: list[str] = []
        self._is_waiting = False

    def printed(self, text: str) -> None:
        """See :class:`kexecdbg.session.gdb.CommandListener`."""
        if self._is_ours:
            self._held.append(text)
            return
        self._stop_waiting()
        self._write(text)

    def waiting(self) -> None:
        """See :class:`kexecdbg.session.gdb.CommandListener`."""
        if not self._is_waiting:
            self._is_waiting = True
            self._write(self._waiting())

    def _stop_waiting(self) -> None:
        if self._is_waiting:
            self._is_waiting = False
            self._write("\r" + " " * (self._width() - 1) + "\r")

    def __enter__(self) -> CommandOutput:
        return self

    def __exit__(self, *reason: object) -> None:
        self._stop_waiting()
        parts = "".join(self._held).split(OUTPUT_MARK)
        if len(parts) == 3:
            self._write(f"{json.dumps(json.loads(parts[1]), indent=1)}\n" if self._as_json else parts[2])


def printable(text: str) -> str:
    """Text from the target without what a terminal would act on."""
    return _UNPRINTABLE.sub(lambda match: f"\\x{ord(match[0]):02x}", text.replace("\r\n", "\n").replace("\n\r", "\n"))


@contextmanager
def _interrupting(interrupt: Callable[[], None]) -> Iterator[None]:
    """Ctrl-C calls ``interrupt`` and ends nothing of ours."""

    def handle(number: int, frame: FrameType | None) -> None:
        interrupt()

    before = signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _as_file(text: str) -> Iterator[str]:
    """The path of a file with ``text`` for GDB to read, which lies in no folder."""
    descriptor = os.memfd_create("kexecdbg-console")
    try:
        os.write(descriptor, f"{text}\n".encode())
        yield f"/proc/{os.getpid()}/fd/{descriptor}"
    finally:
        os.close(descriptor)
