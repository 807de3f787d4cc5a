"""What ``walk-ttbr0`` and ``walk-ttbr1`` share."""

from __future__ import annotations

import argparse
from typing import Any, ClassVar

from kexecdbg.errors import UsageError
from kexecdbg.ui.style import Style, hanging

from .command import evaluate_address, selected_debugger, with_assumptions
from .walk_command import WalkCommand


class Stage1Command(WalkCommand):
    """A walk through one TTBR; subclasses say which."""

    RANGE: ClassVar[int]

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--regime",
            type=str.upper,
            choices=("EL1&0", "EL2", "EL2&0", "EL3"),
            help="translation regime (default: that of the current exception level)",
        )

    def run(self, arguments: argparse.Namespace, style: Style) -> tuple[Any, str]:
        from kexecdbg.arm64.regimes import Regime, current_el, regime_of
        from kexecdbg.arm64.scan import scan
        from kexecdbg.checks.address_map import destinations_of, points_of
        from kexecdbg.checks.table_view import tables_as_if_on, walk_in_range
        from kexecdbg.ui.walk_json import walk_json
        from kexecdbg.ui.walk_text import walk_text

        target = selected_debugger()
        state = with_assumptions(target.state(), arguments.assume)
        regime = Regime(arguments.regime) if arguments.regime else regime_of(current_el(state), state)
        if self.RANGE == 1 and not regime.facts.two_ranges:
            raise UsageError(f"the {regime.value} regime has no TTBR1; use walk-ttbr0")
        view = tables_as_if_on(state, target.memory, regime)
        if not arguments.addresses:
            with target.many_reads():
                table = scan(view.state, target.memory, regime, ttbr=self.RANGE)
            points = (*points_of(state, table), *destinations_of(state, target.memory)) if arguments.map else ()
            return self.show_table(arguments, table, view.remark, style, points)
        walks = [
            walk_in_range(view, target.memory, evaluate_address(expression), self.RANGE)
            for expression in arguments.addresses
        ]
        documents = [{**walk_json(walk), "as_if_on": view.as_if_on} for walk in walks]
        text = "\n\n".join(walk_text(walk, style) for walk in walks)
        if view.as_if_on:
            text += "\n" + hanging("  note", view.remark, 11)
        return (documents[0] if len(documents) == 1 else documents), text
