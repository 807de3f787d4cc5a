"""``kexecdbg walk``: walk-ttbr0 and walk-ttbr1 from the shell."""

from __future__ import annotations

import argparse

from kexecdbg.ui.attach import add_attach_arguments, run_attached

SUMMARY = "Translate addresses of the machine at a gdbstub, level by level, with the bit that decides each right."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Addresses, table and regime."""
    parser.add_argument("addresses", nargs="+", metavar="ADDRESS", help="a number or a GDB expression ('$pc+4')")
    parser.add_argument("--ttbr", choices=("0", "1"), default="0", help="which table: TTBR0 (default) or TTBR1")
    parser.add_argument("--regime", choices=("EL1&0", "EL2", "EL2&0", "EL3"), help="default: that of the current EL")
    add_attach_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Exit status 0 when every address translates, else 1."""
    regime = ["--regime", arguments.regime] if arguments.regime else []
    document = run_attached(arguments, [f"walk-ttbr{arguments.ttbr}", *regime, *arguments.addresses])
    walks = document if isinstance(document, list) else [document]
    return 0 if all(walk["result"]["pa"] is not None for walk in walks) else 1
