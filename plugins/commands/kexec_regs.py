"""``kexec-regs``: control registers, field by field."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from kexecdbg.arm64.regimes import current_el
from kexecdbg.arm64.registers import REGISTERS, decode, lookup
from kexecdbg.arm64.registers.comparison import compare
from kexecdbg.errors import TargetError, UsageError
from kexecdbg.machine.control_registers import control_registers
from kexecdbg.machine.state import CpuState
from kexecdbg.ui import json_form, register_text
from kexecdbg.ui.comparison_text import comparison_text
from kexecdbg.ui.style import Style

from .. import stop_history
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
        parser.add_argument(
            "--against", choices=("EL1", "EL2", "EL3"), help="compare with the same register of this exception level"
        )
        parser.add_argument("--diff", action="store_true", help="what changed since the last stop, field by field")
        add_assume_option(parser)

    def values(self) -> Sequence[str]:
        return tuple(REGISTERS)

    def run(self, arguments: argparse.Namespace, style: Style) -> tuple[Any, str]:
        state = with_assumptions(debugger().state(), arguments.assume)
        names = _names(arguments, state)
        values = {name: state.get(name) for name in names}
        if arguments.names and all(value is None for value in values.values()):
            raise TargetError(f"{', '.join(names)}: this target does not provide it")
        if arguments.against:
            return _compare(state, [(name, f"{name.rpartition('_')[0]}_{arguments.against}") for name in names], style)
        if arguments.diff:
            return _compare_with_last_stop(state, names if arguments.names else None, style)
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


def _compare(state: CpuState, pairs: Sequence[tuple[str, str]], style: Style) -> tuple[Any, str]:
    """Each register against its counterpart at another exception level."""
    document: dict[str, Any] = {}
    paragraphs = []
    for name, other in pairs:
        values = state.get(name), state.get(other)
        if name == other or other not in REGISTERS or values[0] is None or values[1] is None:
            continue
        compared = compare(decode(name, values[0], state), decode(other, values[1], state))
        document[name] = json_form.comparison(compared)
        paragraphs.append(comparison_text(compared, (name, other), style))
    if not document:
        raise TargetError("none of these registers has a counterpart there that this target provides")
    return document, "\n".join(paragraphs)


def _compare_with_last_stop(state: CpuState, names: Sequence[str] | None, style: Style) -> tuple[Any, str]:
    """Each control register, or each of ``names``, against its value at the last stop."""
    earlier = stop_history.values_at_last_stop()
    if not earlier:
        raise UsageError("there is no stop before this one; step or continue first")
    before = state.with_values(earlier)
    document: dict[str, Any] = {}
    paragraphs = []
    for name in names if names is not None else earlier:
        old, new = earlier.get(name), state.get(name)
        if name not in REGISTERS or old is None or new is None or (old == new and names is None):
            continue
        compared = compare(decode(name, old, before), decode(name, new, state))
        document[name] = json_form.comparison(compared)
        paragraphs.append(comparison_text(compared, ("was", "is"), style))
    return document, "\n".join(paragraphs) or "no control register has changed since the last stop"


def _names(arguments: argparse.Namespace, state: CpuState) -> tuple[str, ...]:
    if arguments.names:
        return tuple(lookup(name).name for name in arguments.names)
    if arguments.all:
        return tuple(name for name in REGISTERS if state.get(name) is not None)
    return control_registers(arguments.el if arguments.el is not None else current_el(state))


COMMAND = KexecRegs
