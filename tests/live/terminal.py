"""A program in a terminal of a test's own: keys go in, and what a user would see can be looked at."""

from __future__ import annotations

import copy
import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

import pyte

from tests.live.machines import SECONDS

_READ = 65536
_ALTERNATE = 1049


class _AnsweringScreen(pyte.Screen):
    """A screen that answers what a program asks the terminal (where the cursor is), with an alternate one (xterm)."""

    def __init__(self, columns: int, lines: int, keyboard: int) -> None:
        super().__init__(columns, lines)
        self._keyboard = keyboard

    def set_mode(self, *modes: int, **kwargs: bool) -> None:
        if kwargs.get("private") and _ALTERNATE in modes:
            self._main = copy.deepcopy((self.buffer, self.cursor))
            self.erase_in_display(2)
        super().set_mode(*modes, **kwargs)

    def reset_mode(self, *modes: int, **kwargs: bool) -> None:
        if kwargs.get("private") and _ALTERNATE in modes:
            self.buffer, self.cursor = self._main
        super().reset_mode(*modes, **kwargs)

    def write_process_input(self, data: str) -> None:
        os.write(self._keyboard, data.encode())


class Terminal:
    """Runs ``command`` in a terminal of ``columns`` x ``lines``; with its context the program is killed if it runs.

    ``environment`` adds to this process's; ``directory`` is where it works, here by default.

    Attributes:
        process: the program.
        received: all that it has written, escape sequences included.
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        columns: int = 80,
        lines: int = 24,
        directory: Path | None = None,
    ) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self._screen = _AnsweringScreen(columns, lines, self._master)
        self._stream = pyte.ByteStream(self._screen)
        self.received = b""
        try:
            self.process = subprocess.Popen(
                command,
                stdin=slave,
                stdout=slave,
                stderr=slave,
                cwd=directory,
                env={**os.environ, "TERM": "xterm-256color", **environment},
                start_new_session=True,
                preexec_fn=_take_terminal,
            )
        finally:
            os.close(slave)

    def press(self, keys: str) -> None:
        """Press keys; ``\\r`` is Enter."""
        os.write(self._master, keys.encode())

    @property
    def lines(self) -> list[str]:
        """What the screen shows now, without blanks at the ends of lines."""
        return [line.rstrip() for line in self._screen.display]

    @property
    def text(self) -> str:
        """The same as one text."""
        return "\n".join(self.lines).rstrip("\n")

    def wait_for(self, *texts: str) -> str:
        """Read until the screen shows all ``texts``; the screen then."""
        deadline = time.monotonic() + SECONDS
        while not all(text in self.text for text in texts):
            assert self._read(deadline - time.monotonic()), f"{texts} did not come; the screen:\n{self.text}"
        return self.text

    def wait_for_end(self) -> int:
        """Read to the program's end; its exit status."""
        deadline = time.monotonic() + SECONDS
        while self._read(deadline - time.monotonic()):
            continue
        return self.process.wait(SECONDS)

    def _read(self, seconds: float) -> bool:
        """Take what the program has written; whether there was anything."""
        if not select.select([self._master], [], [], max(0, seconds))[0]:
            return False
        try:
            data = os.read(self._master, _READ)
        except OSError:  # Linux: EIO, when nobody has the other end any more
            return False
        self.received += data
        self._stream.feed(data)
        return bool(data)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._master)
        self.process.kill()
        self.process.wait(SECONDS)


def _take_terminal() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
