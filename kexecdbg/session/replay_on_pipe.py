"""Serves a trace to the GDB that has started this process, on standard input and output: no socket, no port.

GDB: ``target remote | python -m kexecdbg.session.replay_on_pipe FILE STATE``. It ends when GDB goes away,
killed or not.
"""

from __future__ import annotations

import os
import shlex
import socket
import sys
from pathlib import Path

from kexecdbg.trace.reader import Trace
from kexecdbg.trace.replay.cursor import state_named
from kexecdbg.trace.replay.server import ReplayServer


def gdb_target(path: Path, state: str) -> str:
    """What follows ``target remote`` in GDB.

    Args:
        state: where to start: a state's number, ``begin``, ``end`` or ``first-fault``.

    Raises:
        TraceError: the file is no trace, or has no such state.
    """
    with Trace.open(path) as trace:
        state_named(trace, state)
    # -P: the user's current folder is not searched for modules.
    # exec: the shell that GDB starts keeps no standard error of its own.
    return "| exec " + shlex.join([sys.executable, "-P", "-m", __name__, str(path.resolve()), state])


def main(path: str, state: str) -> None:
    """Serve the trace at ``path`` from ``state`` on."""
    with Trace.open(Path(path)) as trace:
        # GDB looks for error output after every character that it reads, until there can be none (gdb/ser-base.c,
        # generic_readchar): several times what the rest takes.
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), sys.stderr.fileno())
        # GDB gives one socket as both (gdb/ser-pipe.c, pipe_open).
        with socket.socket(fileno=os.dup(sys.stdin.fileno())) as connection:
            ReplayServer(trace, state_named(trace, state)).client(connection)


if __name__ == "__main__":
    main(*sys.argv[1:])
