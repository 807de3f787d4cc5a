"""A GDB remote server on a trace: any number of clients, each with a place of its own."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kexecdbg.errors import EnvironmentProblem, UsageError
from kexecdbg.machine.gdb_remote.connection import address_of
from kexecdbg.machine.gdb_remote.framing import ACK, INTERRUPT, NAK, Incoming, frame
from kexecdbg.trace.reader import Trace
from kexecdbg.trace.replay.cursor import Cursor
from kexecdbg.trace.replay.packets import PacketAnswers
from kexecdbg.trace.replay.stub_features import StubFeatures
from kexecdbg.trace.replay.target_description import description_of

RECEIVE = 65536
"""Bytes that are taken from a connection at once."""
_SECONDS_TO_NEXT_CLIENT = 0.5
"""How long the system is given to get over that it could not accept one."""
_PRIVATE = 0o077
"""The process's umask while the socket is made: nobody else may connect."""


class ReplayServer:
    """Serves a trace to GDB: each client in a thread of its own; see :func:`serve`.

    Attributes:
        trace: the trace.
        state: where each client starts.
        features: what the gdbstub offers.
    """

    def __init__(self, trace: Trace, state: int = 0, features: StubFeatures | None = None) -> None:
        self.trace = trace
        self.state = state
        self.features = features or StubFeatures()
        self._description = description_of(trace.header, self.features)
        # One file and its caches are behind all clients.
        self._one_at_a_time = threading.Lock()

    def client(self, connection: socket.socket) -> None:
        """Answer one client until it leaves, sends what cannot be understood at all, or is shut out."""
        with contextlib.suppress(OSError):  # it went away, or we end
            self._answer_all(connection)

    def _answer_all(self, connection: socket.socket) -> None:
        incoming = Incoming()

        def is_interrupted() -> bool:
            return incoming.is_interrupt_next or INTERRUPT in _has_arrived(connection)

        with self._one_at_a_time:
            cursor = Cursor(self.trace, self.state, is_interrupted)
            answers = PacketAnswers(cursor, self._description, self.features)
        last: tuple[bytes, ...] = ()
        while not answers.ended and (data := connection.recv(RECEIVE)):
            incoming.feed(data)
            replies = bytearray()
            for item in _items(incoming):
                if item.startswith(b"$"):
                    replies += ACK if answers.acknowledges else b""
                    with self._one_at_a_time:
                        last = answers.answer(item[1:])
                    replies += b"".join(map(frame, last))
                elif item == b"#":
                    replies += NAK
                elif item == NAK:
                    replies += b"".join(map(frame, last[-1:]))
                # A break is dropped here: the move that it was to end has ended.
            connection.sendall(replies)


def _has_arrived(connection: socket.socket) -> bytes:
    """What can be read from ``connection``; it remains to be read."""
    try:
        return connection.recv(RECEIVE, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return b""


def _items(incoming: Incoming) -> Iterator[bytes]:
    """What has arrived in full.

    Raises:
        ConnectionError: the client sends no packets.
    """
    while True:
        try:
            item = incoming.next()
        except ValueError as error:
            raise ConnectionError(str(error)) from error
        if item is None:
            return
        yield item


@contextmanager
def serve(server: ReplayServer, listen: str, anywhere: bool = False) -> Iterator[str]:
    """Listen at ``listen`` (``unix:PATH`` or HOST:PORT, port 0 for a free one); gives what to type after target remote.

    All clients are gone when the context ends, and so is the socket. Nobody but the user can connect to a unix socket.

    Args:
        anywhere: allow addresses that other machines can reach.

    Raises:
        UsageError: the address cannot be understood, or others can reach it.
        EnvironmentProblem: it is in use, or does not exist here.
    """
    address = address_of(listen)
    made = _listen_unix(Path(address)) if isinstance(address, str) else _listen_tcp(*address, anywhere=anywhere)
    with made as listener:
        if isinstance(address, str):
            target = address
        else:
            host, port = listener.getsockname()[:2]
            target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        with _accepting(listener, server):
            yield target


@contextmanager
def _accepting(listener: socket.socket, server: ReplayServer) -> Iterator[None]:
    """Clients that connect are served, in threads, until the context ends; the listener accepts no more then."""
    clients: dict[threading.Thread, socket.socket] = {}
    ended = threading.Event()

    def serve_one(connection: socket.socket) -> None:
        with connection:
            server.client(connection)
            del clients[threading.current_thread()]

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:  # the listener is shut down; or there are too many clients, which leave again
                if ended.wait(_SECONDS_TO_NEXT_CLIENT):
                    return
                continue
            client = threading.Thread(target=serve_one, args=(connection,))
            clients[client] = connection
            client.start()

    accepting = threading.Thread(target=accept)
    accepting.start()
    try:
        yield
    finally:
        ended.set()
        # A thread that waits for a socket wakes up when that is shut down, not when it is closed.
        listener.shutdown(socket.SHUT_RDWR)
        accepting.join()
        for client, connection in list(clients.items()):
            with contextlib.suppress(OSError):  # the client has just gone
                connection.shutdown(socket.SHUT_RDWR)
            client.join()


@contextmanager
def _listen_unix(path: Path) -> Iterator[socket.socket]:
    if path.exists():
        raise UsageError(f"{path}: exists already; give another path, or remove it when nobody uses it")
    with socket.socket(socket.AF_UNIX) as listener:
        mask = os.umask(_PRIVATE)
        try:
            listener.bind(str(path))
        except OSError as error:
            raise EnvironmentProblem(f"{path}: cannot listen there: {error.strerror or error}") from error
        finally:
            os.umask(mask)
        try:
            listener.listen()
            yield listener
        finally:
            path.unlink(missing_ok=True)


@contextmanager
def _listen_tcp(host: str, port: int, anywhere: bool) -> Iterator[socket.socket]:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise EnvironmentProblem(f"{host}: no such address: {error.strerror}") from error
    if not anywhere and not ipaddress.ip_address(str(address[0]).partition("%")[0]).is_loopback:
        raise UsageError(
            f"{host}:{port}: other machines could reach it, and nobody is asked who they are; listen at "
            f"localhost:{port}, or add --listen-anywhere"
        )
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # of the connections, which inherit it
        try:
            listener.bind(address)
        except OSError as error:
            raise EnvironmentProblem(f"{host}:{port}: cannot listen there: {error.strerror or error}") from error
        listener.listen()
        yield listener
