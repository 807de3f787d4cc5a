"""The gdbstub that GDB is connected to: packets and monitor commands of our own."""

from __future__ import annotations

import gdb

from kexecdbg.errors import TargetError

from . import monitor_hook


def packet(text: str) -> str:
    """What the gdbstub answers to a packet; empty when it does not know it.

    Raises:
        TargetError: GDB is not connected to a gdbstub.
    """
    connection = gdb.selected_inferior().connection
    if not isinstance(connection, gdb.RemoteTargetConnection):
        raise TargetError("not connected to a gdbstub; use target remote HOST:PORT or target remote PATH")
    reply = connection.send_packet(text)
    return reply.decode("latin-1") if reply is not None else ""


def monitor(command: str) -> str:
    """What QEMU's monitor answers to ``command``.

    Raises:
        TargetError: the target has no monitor.
    """
    try:
        with monitor_hook.off():
            return gdb.execute(f"monitor {command}", to_string=True)
    except gdb.error as error:
        raise TargetError(f"'monitor {command}' failed: {error}; is the target QEMU?") from error


class GdbStub:
    """The gdbstub that GDB is connected to, for packets and monitor commands of our own."""

    def packet(self, text: str, /) -> str:
        """Send a packet and return the answer; see :func:`packet`."""
        return packet(text)

    def monitor(self, command: str, /) -> str:
        """See :func:`monitor`."""
        return monitor(command)
