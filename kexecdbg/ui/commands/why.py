"""``kexecdbg why``: kexec-why from the shell."""

from __future__ import annotations

import argparse

from kexecdbg.ui.attach import add_attach_arguments, run_attached

SUMMARY = "Say why a CPU of the machine at a gdbstub is stuck, after the fact."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which CPU, and how far to go."""
    parser.add_argument("--cpu", type=int, metavar="N", help="CPU N (default: the first)")
    parser.add_argument("--all-cpus", action="store_true", help="one line for each CPU, those that are stuck first")
    parser.add_argument("--watch", type=int, metavar="N", help="execute N instructions and see what they do")
    parser.add_argument(
        "--search",
        action="append",
        default=[],
        metavar="START-END",
        help="physical addresses where the code that switched the MMU on may be (may be repeated)",
    )
    add_attach_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Exit status 0 when no CPU that was looked at is stuck, else 1."""
    options = [f"--search={text}" for text in arguments.search]
    options += [f"--cpu={arguments.cpu}"] if arguments.cpu is not None else []
    options += [f"--watch={arguments.watch}"] if arguments.watch is not None else []
    document = run_attached(arguments, ["kexec-why", *options, *(["--all-cpus"] if arguments.all_cpus else [])])
    return 0 if all(cpu["stuck"] is False for cpu in document.get("cpus", [document])) else 1
