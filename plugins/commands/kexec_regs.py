"""``kexec-regs``: control registers, field by field."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from kexecdbg.arm64.regimes import current_el
from kexecdbg.arm64.registers import REGISTERS, decode, lookup
from kexecdbg.errors import TargetError
from kexecdbg.machine.control_registers import control_registers
from kexecdbg.machine.state import CpuState
from kexecdbg.ui import json_form, register_text
from kexecdbg.ui.style import Style

from ..adapter import debugger
from ..command import Command, add_assume_option, with_assumptions


class KexecRegs(Command):
    """See SUMMARY."""

    NAME = "kexec-regs"
    SUMMARY = "Show control registers field by field, with the meaning of each value."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("names", nargs="*", metavar="NAME", help="registers to show, one line a field")
        parser.add_argument("--el", type=int, choices=(1, 2, 3), help="the control registers of this exception level")
        parser.add_argument("--all", action="store_true", help="every register that the target provides")
        parser.add_argument("--raw", action="store_true", help="values only")
        add_assume_option(parser)

    def values(self) -> Sequence[str]:
        return tuple(REGISTERS)

    def run(self, arguments: argparse.Namespace, style: Style) -> tuple[Any, str]:
        state = with_assumptions(debugger().state(), arguments.assume)
        names = _names(arguments, state)
        values = {name: state.get(name) for name in names}
        if arguments.names and all(value is None for value in values.values()):
            raise TargetError(f"{', '.join(names)}: this target does not provide it")
        document: dict[str, Any] = {}
        paragraphs = []
        for name, value in values.items():
            if value is None:
                document[name] = {"value": None}
                if arguments.names:
                    paragraphs.append(f"{name}: this target does not provide it")
                continue
            decoded = decode(name, value, state)
            document[name] = json_form.decoded_register(decoded)
            if arguments.raw:
                paragraphs.append(f"{name:<20} {register_text.value_text(value)}")
            else:
                paragraphs.append((register_text.full if arguments.names else register_text.brief)(decoded, style))
        return document, "\n".join(paragraphs)


def _names(arguments: argparse.Namespace, state: CpuState) -> tuple[str, ...]:
    if arguments.names:
        return tuple(lookup(name).name for name in arguments.names)
    if arguments.all:
        return tuple(name for name in REGISTERS if state.get(name) is not None)
    return control_registers(arguments.el if arguments.el is not None else current_el(state))


COMMAND = KexecRegs
