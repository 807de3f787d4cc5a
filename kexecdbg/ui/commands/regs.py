"""``kexecdbg regs``: kexec-regs from the shell, also of registers that files and values give."""

from __future__ import annotations

import argparse
import json
import sys

from kexecdbg.ui.attach import run_attached
from kexecdbg.ui.sources import add_source_arguments, attached_options, given_machine, is_attached
from kexecdbg.ui.style import style_for

SUMMARY = "Show control registers of the machine at a gdbstub, or of those that files give, field by field."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which registers."""
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="registers, or REGISTER.FIELD, to show, one line a field"
    )
    parser.add_argument("--el", choices=("1", "2", "3"), help="the control registers of this exception level")
    parser.add_argument("--all", action="store_true", help="every register that the target provides")
    add_source_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Exit status 0."""
    if not is_attached(arguments):
        return _given(arguments)
    options = ["--el", arguments.el] if arguments.el else []
    options += ["--all"] if arguments.all else []
    run_attached(arguments, ["kexec-regs", *attached_options(arguments), *options, *arguments.names])
    return 0


def _given(arguments: argparse.Namespace) -> int:
    """Registers that were given: those that are named, those of a level, or all."""
    from kexecdbg.arm64.registers import REGISTERS
    from kexecdbg.machine.control_registers import control_registers
    from kexecdbg.ui.register_view import asked_registers, list_registers

    with given_machine(arguments) as machine:
        fields = asked_registers(arguments.names)
        if fields:
            names = tuple(fields)
        elif arguments.el:
            names = control_registers(int(arguments.el))
        else:
            names = tuple(name for name in REGISTERS if name in machine.values)
        asked_for = bool(arguments.names or arguments.el)
        document, text = list_registers(machine.state, names, asked_for, False, style_for(sys.stdout), fields)
        for remark in machine.remarks:
            print(f"kexecdbg: {remark}", file=sys.stderr)
    print(json.dumps(document, indent=1) if arguments.json else text)
    return 0
