"""Traces of lab guests, recorded here and now, and a GDB on their replay."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kexecdbg.lab.boot import boot
from kexecdbg.lab.scenarios import find_scenarios
from kexecdbg.machine.gdb_remote import GdbRemote
from kexecdbg.machine.state import CpuState
from kexecdbg.qemu.guest_memory import guest_memory
from kexecdbg.qemu.memory_tree import parse_flat_memory_tree
from kexecdbg.session.gdb import GdbSession
from kexecdbg.trace.recording.describe import describe
from kexecdbg.trace.recording.result import Limits
from kexecdbg.trace.recording.stepping import SteppingRecorder
from kexecdbg.trace.writer import TraceWriter
from tests.live.machines import GDBS, SECONDS


def record(scenario: str, path: Path) -> None:
    """Record ``scenario`` from its guest's first instruction until it freezes or ends."""
    with (
        boot(find_scenarios([scenario])[0].guest.build()) as machine,
        GdbRemote(str(machine.qemu.gdb_socket)) as remote,
    ):
        values = remote.read_registers(remote.register_names)
        memory = guest_memory(remote, CpuState(values))
        tree = parse_flat_memory_tree(remote.monitor("info mtree -f"))
        header = describe(remote, remote.description, tree, engine="stepping", whole_memory=False)
        start = {name: values[name] for name in header.registers if name in values}
        with TraceWriter(path, header, start) as writer:
            SteppingRecorder(remote, memory, writer).record(Limits(seconds=SECONDS))


@contextmanager
def replay(path: Path, *options: str) -> Iterator[GdbSession]:
    """GDB, connected to ``kexecdbg replay``."""
    command = [sys.executable, "-m", "kexecdbg", "replay", str(path), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            server.stdout.readline()
            with GDBS.session(server.stdout.readline().split()[-1]) as gdb:
                yield gdb
        finally:
            server.send_signal(signal.SIGINT)
    assert server.returncode == 0


@contextmanager
def live(scenario: str) -> Iterator[GdbSession]:
    """GDB, connected to the machine itself, before its first instruction and without symbols."""
    with (
        boot(find_scenarios([scenario])[0].guest.build()) as machine,
        GDBS.session(str(machine.qemu.gdb_socket)) as gdb,
    ):
        yield gdb
