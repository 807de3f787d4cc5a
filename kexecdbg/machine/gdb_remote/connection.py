"""A connection to a gdbstub: packets out, packets in, acknowledged until both sides agree not to."""

from __future__ import annotations

import contextlib
import socket
import struct
import time

from kexecdbg.errors import TargetError, UsageError
from kexecdbg.machine.gdb_remote.errors import MachineEndedError, RemoteError
from kexecdbg.machine.gdb_remote.framing import ACK, INTERRUPT, NAK, Incoming, frame

_RECEIVE = 65536
_RETRIES = 3
_CREDENTIALS = struct.Struct("3i")
_LONGEST_WAIT = 3600.0
"""Seconds that one read blocks at most; a longer wait is several."""


def address_of(target: str) -> tuple[str, int] | str:
    """What ``target`` names: HOST and PORT (``localhost:1234``, ``:1234``), or the path of a unix socket.

    Raises:
        UsageError: it is neither.
    """
    if target.startswith("unix:") and target != "unix:":
        return target.removeprefix("unix:")
    if "/" in target:
        return target
    host, colon, port = target.rpartition(":")
    if colon and port.isdigit() and int(port) < 65536:
        return host.strip("[]") or "localhost", int(port)
    raise UsageError(f"{target}: not a gdbstub's address; give HOST:PORT, :PORT or the path of a unix socket")


class Connection:
    """A stream of packets.

    Args:
        target: HOST:PORT, or the path of a unix socket.
        seconds: how long to wait for an answer, unless a call says otherwise.

    Raises:
        TargetError: nobody listens there.
    """

    def __init__(self, target: str, seconds: float = 10.0) -> None:
        self.target = target
        self.seconds = seconds
        self._socket = _connect(target, seconds)
        self._incoming = Incoming()
        self._acknowledge = True
        self._unsent = b""
        self._timeout = -1.0
        self._sent = b""

    def send(self, data: bytes, *more: bytes) -> None:
        """Send packets, in one piece; the answers come in their order."""
        self._sent = data
        self._write(b"".join(map(frame, (data, *more))))

    def receive(self, seconds: float | None = None) -> bytes:
        """The next packet's data, waiting at most ``seconds``.

        Raises:
            RemoteError: none came, or it came damaged again and again.
            MachineEndedError: the connection ended.
        """
        packet = self.poll(self.seconds if seconds is None else seconds)
        if packet is None:
            raise self._error(None, "no answer in time")
        return packet

    def poll(self, seconds: float) -> bytes | None:
        """The next packet's data if it comes within ``seconds``, else ``None``; raises as :meth:`receive`."""
        deadline = time.monotonic() + seconds
        damaged = 0
        while True:
            try:
                item = self._incoming.next()
            except ValueError as error:
                raise self._error(None, str(error)) from error
            if item is None:
                if not self._read(deadline):
                    return None
            elif item.startswith(b"$"):
                if self._acknowledge:
                    # It goes out with the next packet, which saves a system call for each, or before the next wait.
                    self._unsent = ACK
                return item[1:]
            elif item in (b"#", NAK):
                damaged += 1
                if damaged > _RETRIES:
                    raise self._error(item.decode(), "packets arrive damaged")
                self._write(NAK if item == b"#" else frame(self._sent))

    def drop_acknowledgement(self) -> None:
        """Do not acknowledge the last packet: one sent with its question does it (QEMU gdbstub.c, gdb_read_byte()).

        A byte that QEMU gets while its machine runs stops that.
        """
        self._unsent = b""

    def request(self, data: bytes, seconds: float | None = None) -> bytes:
        """Send a packet and return the answer to it."""
        self.send(data)
        return self.receive(seconds)

    def stop_acknowledging(self) -> None:
        """From now on packets are not acknowledged: the stub has agreed (``QStartNoAckMode``)."""
        self._acknowledge = False

    def interrupt(self) -> None:
        """Stop the running target."""
        self._write(INTERRUPT)

    def _read(self, deadline: float) -> bool:
        """Take in what arrives; whether it is not too late for it."""
        if self._unsent:
            self._write(b"")
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            return False
        self._set_timeout(min(remaining, _LONGEST_WAIT))
        try:
            data = self._socket.recv(_RECEIVE)
        except BlockingIOError:
            return True
        except OSError as error:
            raise self._ended() from error
        if not data:
            raise self._ended()
        self._incoming.feed(data)
        return True

    def _set_timeout(self, seconds: float) -> None:
        # The socket stays blocking with the kernel's own timeout: Python's would add a poll() to every read, and there
        # are ten thousand a second. It is set anew only when much of it is gone.
        if not self._timeout * 0.5 <= seconds <= self._timeout:
            whole = max(seconds, 0.001)
            value = struct.pack("@ll", int(whole), int(whole % 1 * 1e6))
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, value)
            self._timeout = whole

    def _write(self, data: bytes) -> None:
        try:
            self._socket.sendall(self._unsent + data)
        except OSError as error:
            raise self._ended() from error
        self._unsent = b""

    def _ended(self) -> MachineEndedError:
        return MachineEndedError(self._sent.decode("latin-1"), None, f"{self.target}: the connection ended")

    def _error(self, received: str | None, problem: str) -> RemoteError:
        return RemoteError(self._sent.decode("latin-1"), received, f"{self.target}: {problem}")

    def peer_process(self) -> int | None:
        """Process id of who listens, over a unix socket on this host (unix(7), SO_PEERCRED)."""
        if self._socket.family != socket.AF_UNIX:
            return None
        credentials = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        process, _, _ = _CREDENTIALS.unpack(credentials)
        return int(process)

    def close(self) -> None:
        """End the connection."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


def _connect(target: str, seconds: float) -> socket.socket:
    address = address_of(target)
    try:
        if isinstance(address, tuple):
            connection = socket.create_connection(address, seconds)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        else:
            connection = socket.socket(socket.AF_UNIX)
            connection.connect(address)
        connection.settimeout(None)
    except OSError as error:
        raise TargetError(
            f"{target}: no gdbstub answers there ({error.strerror or error}); start QEMU with -s or -gdb"
        ) from error
    return connection
