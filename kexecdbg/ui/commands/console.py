"""``kexecdbg console``: a prompt over a session."""

from __future__ import annotations

import argparse
import sys

from kexecdbg.errors import UsageError
from kexecdbg.session import Target, attach, lab, trace
from kexecdbg.ui.style import style_for

SUMMARY = (
    "A prompt over a machine: every GDB command, the kexecdbg commands, a status bar with EL, regime, MMU and PC, "
    "completion, and full-screen panes. `help` there lists the rest. Without a target it starts without a machine."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to run on."""
    targets = parser.add_mutually_exclusive_group()
    targets.add_argument("--lab", metavar="ID", help="a scenario of the lab, which ends with the console")
    targets.add_argument("--attach", metavar="TARGET", help="a gdbstub: HOST:PORT, or the path of a unix socket")
    targets.add_argument("--trace", metavar="FILE", help="a recorded run")
    parser.add_argument("--symbols", metavar="ELF", help="with --attach or --trace: symbols of what runs there")
    parser.add_argument("--resume", action="store_true", help="with --attach: let the machine run on afterwards")


def run(arguments: argparse.Namespace) -> int:
    """Exit status 0 when the user leaves, 2 when it could not start."""
    target = _target(arguments)
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError("the console needs a terminal; `kexecdbg run SCRIPT.py` runs scripts without one")
    from kexecdbg.ui.console.application import Application, keys_kept, terminal_width, write
    from kexecdbg.ui.console.console import HOW_TO_GO_ON, Console

    console = Console(write, style_for(sys.stdout), terminal_width)
    with keys_kept():
        try:
            if target is not None:
                console.open(target)
            write(f"help lists commands and keys\n{'' if target else f'{HOW_TO_GO_ON}{chr(10)}'}")
            Application(console).run()
        finally:
            console.close()
    return 0


def _target(arguments: argparse.Namespace) -> Target | None:
    if arguments.resume and arguments.attach is None:
        raise UsageError("--resume goes with --attach")
    if arguments.symbols is not None and arguments.attach is None and arguments.trace is None:
        raise UsageError("--symbols goes with --attach or --trace; a lab guest has its own")
    if arguments.lab is not None:
        return lab(arguments.lab)
    if arguments.attach is not None:
        return attach(arguments.attach, symbols=arguments.symbols, resume=arguments.resume)
    return None if arguments.trace is None else trace(arguments.trace, symbols=arguments.symbols)
