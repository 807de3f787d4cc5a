"""``kexec-regs``: control registers, field by field."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from kexecdbg.errors import UsageError
from kexecdbg.ui.style import Style

from .. import stop_history
from ..command import Command, add_assume_option, selected_debugger, with_assumptions


class KexecRegs(Command):
    """See SUMMARY."""

    NAME = "kexec-regs"
    SUMMARY = "Show control registers field by field, with the meaning of each value."
    ANY_CPU = True

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "names", nargs="*", metavar="NAME", help="registers, or REGISTER.FIELD, to show, one line a field"
        )
        parser.add_argument("--el", type=int, choices=(1, 2, 3), help="the control registers of this exception level")
        parser.add_argument("--all", action="store_true", help="every register that the target provides")
        parser.add_argument("--raw", action="store_true", help="values only")
        parser.add_argument(
            "--against", choices=("EL1", "EL2", "EL3"), help="compare with the same register of this exception level"
        )
        parser.add_argument("--diff", action="store_true", help="what changed since the last stop, field by field")
        add_assume_option(parser)

    def values(self) -> Sequence[str]:
        from kexecdbg.arm64.registers import REGISTERS

        return tuple(REGISTERS)

    def name_cpu(self, document: Any, number: int) -> Any:
        # The document's keys are registers.
        return {name: {"cpu": number, **register} for name, register in document.items()}

    def run(self, arguments: argparse.Namespace, style: Style) -> tuple[Any, str]:
        from kexecdbg.arm64.regimes import current_el
        from kexecdbg.arm64.registers import REGISTERS
        from kexecdbg.machine.control_registers import control_registers
        from kexecdbg.ui.register_view import asked_registers, compare_levels, compare_times, list_registers

        state = with_assumptions(selected_debugger().state(), arguments.assume)
        fields = asked_registers(arguments.names)
        if any(fields.values()) and (arguments.against or arguments.diff):
            raise UsageError("--against and --diff compare whole registers; leave the field out")
        if fields:
            names = tuple(fields)
        elif arguments.all:
            names = tuple(name for name in REGISTERS if state.get(name) is not None)
        else:
            names = control_registers(arguments.el if arguments.el is not None else current_el(state))
        if arguments.against:
            return compare_levels(state, names, arguments.against, style)
        if arguments.diff:
            earlier = stop_history.values_at_last_stop()
            if not earlier:
                raise UsageError("there is no stop before this one; step or continue first")
            return compare_times(state, earlier, names if arguments.names else None, style)
        return list_registers(state, names, bool(arguments.names), arguments.raw, style, fields)


COMMAND = KexecRegs
