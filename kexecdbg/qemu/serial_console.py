"""The guest's console: the other end of its first serial port."""

from __future__ import annotations

import contextlib
import re
import socket
import threading

from kexecdbg.errors import TargetError


class SerialConsole:
    """The guest's serial port: what it prints, collected as it comes, and what it is sent."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._received = bytearray()
        self._closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._collect, name="console", daemon=True)
        self._thread.start()

    def _collect(self) -> None:
        while True:
            try:
                data = self._connection.recv(65536)
            except OSError:
                data = b""
            with self._changed:
                self._received += data
                self._closed = not data
                self._changed.notify_all()
                if self._closed:
                    return

    @property
    def text(self) -> str:
        """Everything printed so far; bytes that are not UTF-8 are replaced."""
        with self._changed:
            return self._received.decode(errors="replace")

    def wait_for(self, pattern: str, seconds: float) -> re.Match[str]:
        """The first match of the regular expression ``pattern`` in the console's text.

        Raises:
            TargetError: it did not come within ``seconds``, or QEMU ended before; the message quotes the last line.
        """
        expression = re.compile(pattern)
        with self._changed:
            done = self._changed.wait_for(
                lambda: self._closed or expression.search(self._received.decode(errors="replace")), seconds
            )
            text = self._received.decode(errors="replace")
        match = expression.search(text)
        if match:
            return match
        last = text.strip().splitlines()[-1:] or ["nothing"]
        how = "QEMU ended" if done else f"waited {seconds:g} s"
        raise TargetError(f"the guest's console never showed {pattern!r}: {how}; its last line: {last[0]}")

    def more(self, known: int, seconds: float) -> str:
        """What follows the first ``known`` characters of the text, waiting at most ``seconds`` for any of it."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._closed or len(self._received.decode(errors="replace")) > known, seconds
            )
        return self.text[known:]

    def send(self, line: str) -> None:
        """Type ``line`` and a newline; a guest that is stopped finds it when it goes on.

        Raises:
            TargetError: QEMU has ended.
        """
        try:
            self._connection.sendall(f"{line}\n".encode())
        except OSError as error:
            raise TargetError(f"the guest's console takes no {line!r}: QEMU has ended") from error

    def close(self) -> None:
        """Stop collecting."""
        # It is disconnected already when QEMU ended first.
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._connection.close()
