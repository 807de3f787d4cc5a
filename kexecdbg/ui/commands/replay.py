"""``kexecdbg replay``: a trace as a machine that GDB connects to."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from pathlib import Path

from kexecdbg.qemu.private_directory import PrivateDirectory
from kexecdbg.trace.reader import Trace
from kexecdbg.trace.replay.cursor import state_named
from kexecdbg.trace.replay.server import ReplayServer, serve
from kexecdbg.trace.replay.stub_features import Feature, StubFeatures, StubKind

SUMMARY = "Serve a trace to GDB: step and continue forwards and backwards, with every kexecdbg command, without QEMU."
_ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The trace, where to listen, and where GDB starts."""
    parser.add_argument("trace", type=Path, metavar="FILE", help="the trace (.kxt)")
    parser.add_argument(
        "--listen",
        metavar="ADDRESS",
        help="unix:PATH or HOST:PORT, port 0 for a free one (default: a private unix socket)",
    )
    parser.add_argument(
        "--listen-anywhere", action="store_true", help="allow a HOST that other machines can reach; anybody can connect"
    )
    stub = parser.add_argument_group("the gdbstub", "What it can do; less than QEMU's, to try what a board's has.")
    stub.add_argument(
        "--without",
        action="append",
        metavar="FEATURE",
        choices=[feature.value for feature in Feature],
        default=[],
        help=f"leave this out: {', '.join(feature.value for feature in Feature)} (may be repeated)",
    )
    stub.add_argument(
        "--stub",
        choices=[kind.value for kind in StubKind],
        default=StubKind.QEMU.value,
        help="whose registers and packets (default: %(default)s)",
    )
    start = parser.add_mutually_exclusive_group()
    start.add_argument("--goto", metavar="STATE", default="begin", help="start at this state: a number, begin or end")
    start.add_argument(
        "--first-fault",
        dest="goto",
        action="store_const",
        const="first-fault",
        help="start right after the first fault, its syndrome still in ESR, FAR and ELR",
    )


def run(arguments: argparse.Namespace) -> int:
    """Serve until Ctrl-C; exit status 0."""
    with Trace.open(arguments.trace) as trace:
        for warning in trace.warnings:
            print(f"kexecdbg: {warning}", file=sys.stderr)
        features = StubFeatures(StubKind(arguments.stub), frozenset(map(Feature, arguments.without)))
        server = ReplayServer(trace, state_named(trace, arguments.goto), features)
        if arguments.listen is not None:
            _serve(server, arguments.listen, arguments.listen_anywhere)
        else:
            with PrivateDirectory(tempfile.gettempdir()) as directory:
                _serve(server, f"unix:{directory / 'gdb.sock'}", False)
    return 0


def _serve(server: ReplayServer, listen: str, anywhere: bool) -> None:
    # Blocked before there are other threads, so that it is this one that gets them.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDS)
    try:
        with serve(server, listen, anywhere) as target:
            print(f"{server.trace.path.name}: {server.trace.steps:,} steps, at state {server.state:,}; end with Ctrl-C")
            print(f"  target remote {target}", flush=True)
            signal.sigwait(_ENDS)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
