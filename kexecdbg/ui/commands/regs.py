"""``kexecdbg regs``: kexec-regs from the shell."""

from __future__ import annotations

import argparse

from kexecdbg.ui.attach import add_attach_arguments, run_attached

SUMMARY = "Show control registers of the machine at a gdbstub, field by field."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which registers."""
    parser.add_argument("names", nargs="*", metavar="NAME", help="registers to show, one line a field")
    parser.add_argument("--el", choices=("1", "2", "3"), help="the control registers of this exception level")
    parser.add_argument("--all", action="store_true", help="every register that the target provides")
    add_attach_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Exit status 0."""
    options = ["--el", arguments.el] if arguments.el else []
    run_attached(arguments, ["kexec-regs", *options, *(["--all"] if arguments.all else []), *arguments.names])
    return 0
