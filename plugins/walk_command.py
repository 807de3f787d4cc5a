"""What ``walk-ttbr0`` and ``walk-ttbr1`` share."""

from __future__ import annotations

import argparse
from typing import Any, ClassVar

from kexecdbg.arm64.regimes import Regime, current_el, regime_of
from kexecdbg.checks.table_view import tables_as_if_on, walk_in_range
from kexecdbg.errors import UsageError
from kexecdbg.ui import json_form
from kexecdbg.ui.style import Style, hanging
from kexecdbg.ui.walk_text import walk_text

from .adapter import debugger
from .command import Command, add_assume_option, evaluate_address, with_assumptions


class WalkCommand(Command):
    """A walk through one TTBR; subclasses say which."""

    RANGE: ClassVar[int]

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("addresses", nargs="*", metavar="ADDR-EXPR", help="addresses, as GDB expressions ($pc+4)")
        parser.add_argument(
            "--regime",
            choices=[regime.value for regime in Regime],
            help="translation regime (default: that of the current exception level)",
        )
        add_assume_option(parser)

    def run(self, arguments: argparse.Namespace, style: Style) -> tuple[Any, str]:
        if not arguments.addresses:
            raise UsageError(f"give an address, for instance: {self.NAME} $pc")
        target = debugger()
        state = with_assumptions(target.state(), arguments.assume)
        regime = Regime(arguments.regime) if arguments.regime else regime_of(current_el(state), state)
        view = tables_as_if_on(state, target.memory, regime)
        walks = [
            walk_in_range(view, target.memory, evaluate_address(expression), self.RANGE)
            for expression in arguments.addresses
        ]
        documents = [{**json_form.walk(walk), "as_if_on": view.as_if_on} for walk in walks]
        text = "\n\n".join(walk_text(walk, style) for walk in walks)
        if view.as_if_on:
            text += "\n" + hanging("  note", view.remark, 11)
        return (documents[0] if len(documents) == 1 else documents), text
