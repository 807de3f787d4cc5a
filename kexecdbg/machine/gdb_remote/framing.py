"""Packets of the remote protocol: ``$data#checksum``, escapes, run-length encoding (GDB manual, "Overview")."""

from __future__ import annotations

import re

MAX_PACKET = 1 << 20
"""Bytes of one packet at most; a peer that sends more is not one that we understand."""
INTERRUPT = b"\x03"
ACK, NAK = b"+", b"-"

_ESCAPE = 0x7D
_ESCAPED = re.compile(rb"[#$*}]")
_REPEAT_BIAS = 29


def frame(data: bytes) -> bytes:
    """``data`` as a packet; the four special characters in it are escaped."""
    body = _ESCAPED.sub(lambda match: bytes((_ESCAPE, match[0][0] ^ 0x20)), data)
    return b"$%b#%02x" % (body, sum(body) & 0xFF)


class Incoming:
    """Cuts what arrives into packets and single-byte signals.

    >>> incoming = Incoming()
    >>> incoming.feed(b"+$OK#9a")
    >>> incoming.next(), incoming.next(), incoming.next()
    (b'+', b'$OK', None)
    """

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> None:
        """Bytes that have arrived."""
        self._buffer += data

    def next(self) -> bytes | None:
        """The next thing: ``+``, ``-``, 0x03, ``$`` and a packet's decoded data, or ``#`` for a packet that is damaged.

        ``None`` when it has not arrived in full. Bytes that belong to nothing are dropped.

        Raises:
            ValueError: a packet is longer than :data:`MAX_PACKET`.
        """
        buffer = self._buffer
        while buffer:
            first = buffer[:1]
            if first in (ACK, NAK, INTERRUPT):
                del buffer[:1]
                return bytes(first)
            if first == b"$":
                return self._packet()
            start = min((p for p in map(buffer.find, (b"$", ACK, NAK, INTERRUPT)) if p > 0), default=len(buffer))
            del buffer[:start]
        return None

    @property
    def is_interrupt_next(self) -> bool:
        """Whether :meth:`next` gives 0x03."""
        return self._buffer[:1] == INTERRUPT

    def _packet(self) -> bytes | None:
        buffer = self._buffer
        end = buffer.find(b"#")
        if end < 0 or len(buffer) < end + 3:
            if len(buffer) > MAX_PACKET:
                raise ValueError(f"a packet of more than {MAX_PACKET} bytes")
            return None
        body, checksum = bytes(buffer[1:end]), bytes(buffer[end + 1 : end + 3])
        del buffer[: end + 3]
        if checksum.lower() != b"%02x" % (sum(body) & 0xFF):
            return b"#"
        data = decode(body)
        return b"#" if data is None else b"$" + data


def decode(body: bytes) -> bytes | None:
    """The data of a packet's ``body``: escapes and run lengths resolved; ``None`` when it is malformed or too long."""
    if b"}" not in body and b"*" not in body:
        return body
    data = bytearray()
    position = 0
    while position < len(body):
        byte = body[position]
        if byte == _ESCAPE:
            if position + 1 == len(body):
                return None
            data.append(body[position + 1] ^ 0x20)
            position += 2
        elif byte == ord("*"):
            repeats = body[position + 1] - _REPEAT_BIAS if position + 1 < len(body) else 0
            if not data or repeats <= 0 or len(data) + repeats > MAX_PACKET:
                return None
            data += data[-1:] * repeats
            position += 2
        else:
            data.append(byte)
            position += 1
    return bytes(data)
