"""Runs one GDB command of ours at a gdbstub, from the shell."""

from __future__ import annotations

import argparse
import contextlib
import json
import shlex
import sys
from collections.abc import Sequence
from typing import Any

from kexecdbg.errors import TargetError
from kexecdbg.session.gdb import GdbSession
from kexecdbg.ui.style import style_for


def add_attach_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that every command at a gdbstub has."""
    add_target_arguments(parser, required=True)
    parser.add_argument(
        "--assume", action="append", default=[], metavar="REG=VALUE", help="take this value instead of the target's"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document and nothing else")


def add_target_arguments(parser: argparse._ActionsContainer, *, required: bool) -> None:
    """Which gdbstub, and what becomes of the machine afterwards."""
    parser.add_argument(
        "--attach",
        required=required,
        metavar="TARGET",
        help="the gdbstub: HOST:PORT, or the path of a unix socket (QEMU: -s is localhost:1234)",
    )
    parser.add_argument(
        "--resume", action="store_true", help="let the machine run on afterwards; it is left stopped otherwise"
    )


def run_attached(arguments: argparse.Namespace, command: Sequence[str]) -> Any:
    """Attach, run ``command`` with the ``--assume`` options, print its output, and return its JSON document.

    Raises:
        TargetError: nothing answers at the target, or the command fails there; the message says why.
    """
    options = [f"--assume={assumption}" for assumption in arguments.assume]
    line = shlex.join([command[0], *options, *command[1:]])
    with GdbSession() as gdb:
        gdb.connect(arguments.attach)
        if style_for(sys.stdout).colour:
            gdb.command("set style enabled on")
        try:
            result = gdb.run(line)
        except BaseException:
            # The machine may be gone, which is what the error says.
            with contextlib.suppress(TargetError):
                gdb.disconnect(resume=arguments.resume)
            raise
        gdb.disconnect(resume=arguments.resume)
    print(json.dumps(result.document, indent=1) if arguments.json else result.text)
    return result.document
