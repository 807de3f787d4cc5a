"""``kexecdbg check``: kexec-check from the shell."""

from __future__ import annotations

import argparse

from kexecdbg.ui.attach import add_attach_arguments, run_attached

SUMMARY = "Say what will happen when the machine at a gdbstub, stopped before the write, switches its MMU on."

_STATUS = {"sound": 0, "faults": 1, "unknown": 1}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where to attach."""
    add_attach_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Exit status 0 when it is sound, 1 when it faults or cannot be told."""
    return _STATUS[run_attached(arguments, ["kexec-check"])["verdict"]]
