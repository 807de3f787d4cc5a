"""A GDB remote server on a trace: any number of clients, each with a place of its own."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from kexecdbg.errors import EnvironmentProblem, UsageError
from kexecdbg.machine.gdb_remote.connection import address_of
from kexecdbg.machine.gdb_remote.framing import ACK, NAK, Incoming, frame
from kexecdbg.trace.reader import Trace
from kexecdbg.trace.replay.cursor import Cursor
from kexecdbg.trace.replay.packets import PacketAnswers
from kexecdbg.trace.replay.stub_features import StubFeatures
from kexecdbg.trace.replay.target_description import description_of

_RECEIVE = 65536
_PRIVATE = 0o077
"""The process's umask while the socket is made: nobody else may connect."""


@dataclass
class ReplayServer:
    """Serves ``trace`` to GDB; see :func:`serve`.

    Attributes:
        trace: the trace.
        state: where each client starts.
        features: what the gdbstub offers.
    """

    trace: Trace
    state: int = 0
    features: StubFeatures = field(default_factory=StubFeatures)
    _clients: set[asyncio.Task[None]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._description = description_of(self.trace.header, self.features)

    async def client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one client until it leaves, or sends what cannot be understood at all."""
        task = asyncio.current_task()
        assert task is not None
        self._clients.add(task)
        try:
            await self._answer_all(reader, writer)
        except (OSError, asyncio.CancelledError):
            pass  # it went away, or we end
        finally:
            self._clients.discard(task)
            writer.close()

    async def _answer_all(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        incoming = Incoming()
        answers = PacketAnswers(Cursor(self.trace, self.state), self._description, self.features)
        last: tuple[bytes, ...] = ()
        while not answers.ended and (data := await reader.read(_RECEIVE)):
            incoming.feed(data)
            for item in _items(incoming):
                if item.startswith(b"$"):
                    writer.write(ACK if answers.acknowledges else b"")
                    last = answers.answer(item[1:])
                    writer.writelines(map(frame, last))
                elif item == b"#":
                    writer.write(NAK)
                elif item == NAK:
                    writer.writelines(map(frame, last[-1:]))
                # A break is dropped: a move has ended before the next byte is read.
            await writer.drain()

    async def close(self) -> None:
        """End all clients."""
        clients = list(self._clients)
        for client in clients:
            client.cancel()
        await asyncio.gather(*clients, return_exceptions=True)


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


@asynccontextmanager
async def serve(server: ReplayServer, listen: str, anywhere: bool = False) -> AsyncIterator[str]:
    """Listen at ``listen`` (``unix:PATH`` or HOST:PORT, port 0 for a free one); gives what to type after target remote.

    The socket is gone when the context ends. Nobody but the user can connect to a unix socket.

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
            running = await asyncio.start_unix_server(server.client, sock=listener)
            target = address
        else:
            running = await asyncio.start_server(server.client, sock=listener)
            host, port = listener.getsockname()[:2]
            target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            yield target
        finally:
            running.close()
            await server.close()


@contextlib.contextmanager
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


@contextlib.contextmanager
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
        try:
            listener.bind(address)
        except OSError as error:
            raise EnvironmentProblem(f"{host}:{port}: cannot listen there: {error.strerror or error}") from error
        listener.listen()
        yield listener
