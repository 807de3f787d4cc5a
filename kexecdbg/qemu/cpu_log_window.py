"""Switches QEMU's log of CPU registers and exceptions on for a while, and reads it as it is written.

The log goes through a named pipe, so that it takes no room: when the reader falls behind, QEMU waits for it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import tempfile
import termios
import threading
from collections.abc import Callable

from kexecdbg.errors import TargetError
from kexecdbg.qemu.private_directory import PrivateDirectory

_PIPE_SIZE = 1 << 20
_ENOUGH = 1 << 18
"""Bytes that are worth a read: QEMU writes line by line, and waking up for each would slow both down."""
_PAUSE = 0.001
_READ = 1 << 20
_ONE_INSTRUCTION = ("one-insn-per-tb", "singlestep")
"""The monitor's command for blocks of one instruction: from QEMU 8.1 on, and before."""
Monitor = Callable[[str], str]


class CpuLogWindow:
    """QEMU's log of one machine, from :meth:`open` to :meth:`close`; both are given its monitor.

    A monitor is a function that sends a line and gives the answer. It need not be over the same connection both times.
    """

    def __init__(self) -> None:
        self._private: PrivateDirectory | None = None
        self._pipe = -1
        self._closing = threading.Event()
        self._was_single = False

    def open(self, monitor: Monitor) -> None:
        """Start logging; the machine is stopped.

        Raises:
            TargetError: QEMU does not log, or not there.
        """
        self._private = PrivateDirectory(tempfile.gettempdir())
        path = self._private.path / "log"
        os.mkfifo(path, 0o600)
        self._pipe = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        with contextlib.suppress(OSError):  # the size is a matter of speed
            fcntl.fcntl(self._pipe, fcntl.F_SETPIPE_SZ, _PIPE_SIZE)
        self._was_single = "single step" in monitor("info status")
        self._say(monitor, f"logfile {path}")
        self._one_instruction_blocks(monitor, "on")
        # Without nochain, blocks that jump to each other straight are not logged.
        self._say(monitor, "log cpu,int,nochain")

    def _say(self, monitor: Monitor, line: str) -> None:
        answer = monitor(line).strip()
        if answer:
            self._release()
            raise TargetError(f"'monitor {line}' answered {answer!r}; is QEMU on this host, and may it write there?")

    def _one_instruction_blocks(self, monitor: Monitor, setting: str) -> None:
        answers = []
        for command in _ONE_INSTRUCTION:
            answer = monitor(f"{command} {setting}").strip()
            if not answer:
                return
            answers.append(answer)
        self._release()
        raise TargetError(f"this QEMU has no single-instruction blocks: its monitor answered {answers[-1]!r}")

    def read(self) -> bytes:
        """What has been logged since the last read, waiting for more; empty when the window is closed and read out."""
        while True:
            waiting = self._waiting()
            closing = self._closing.is_set()
            if waiting >= _ENOUGH or (closing and waiting):
                return os.read(self._pipe, _READ)
            if closing:
                return b""
            if self._closing.wait(_PAUSE) is False and waiting and waiting == self._waiting():
                # Nothing more came for a while: what there is may be all.
                return os.read(self._pipe, _READ)

    def _waiting(self) -> int:
        (waiting,) = struct.unpack("i", fcntl.ioctl(self._pipe, termios.FIONREAD, struct.pack("i", 0)))
        return int(waiting)

    def close(self, monitor: Monitor) -> None:
        """Stop logging; the machine is stopped, so all that it logged is in the pipe. Reading goes on to its end."""
        monitor("log none")
        monitor("logfile /dev/stderr")
        if not self._was_single:
            with contextlib.suppress(TargetError):
                self._one_instruction_blocks(monitor, "off")
        self._closing.set()

    def abandon(self) -> None:
        """Let readers end although the machine does not answer any more."""
        self._closing.set()

    def release(self) -> None:
        """Remove the pipe, after the last read."""
        self._release()

    def _release(self) -> None:
        if self._pipe >= 0:
            os.close(self._pipe)
            self._pipe = -1
        if self._private is not None:
            self._private.remove()
            self._private = None
