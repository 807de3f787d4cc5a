"""``kexecdbg gdbinit``."""

from __future__ import annotations

import argparse

from kexecdbg.resources import data_root

SUMMARY = "Print the path of the file that loads the commands into GDB: source it, or give it to gdb -x."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """It has none."""


def run(arguments: argparse.Namespace) -> int:
    """Print the path."""
    print(data_root() / "gdbinit")
    return 0
