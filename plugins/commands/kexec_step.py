"""``kexec-step``: to the switch, over it, and the comparison with the prediction."""

from __future__ import annotations

import argparse
from typing import Any

from kexecdbg.ui.style import Style

from .. import last_check
from ..command import Command, selected_debugger


class KexecStep(Command):
    """See SUMMARY."""

    NAME = "kexec-step"
    SUMMARY = (
        "Run to the next instruction that switches the MMU on, step its set-up, check it, step over it and compare "
        "what happens with the prediction. Stops while the first syndrome is still in ESR, FAR and ELR."
    )

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--before", action="store_true", help="stop at the switch, do not step over it")
        parser.add_argument(
            "--follow", action="store_true", help="one step more: the second exception, which destroys the syndrome"
        )
        parser.add_argument("--timeout", type=float, metavar="SECONDS", help="give up when it is not reached by then")

    def run(self, arguments: argparse.Namespace, style: Style) -> tuple[Any, str]:
        from kexecdbg.checks.stepping import judge_here, run_to_switch, step_over_switch
        from kexecdbg.ui import json_form
        from kexecdbg.ui.step_text import comparison_text, step_text
        from kexecdbg.ui.verdict_text import verdict_text

        target = selected_debugger()
        records = run_to_switch(target, arguments.timeout)
        verdict = judge_here(target)
        last_check.remember(verdict)
        document: dict[str, Any] = {
            "site": json_form.number(verdict.situation.site),
            "steps": [json_form.step(record) for record in records],
            "check": json_form.verdict(verdict),
        }
        if arguments.before:
            return document, "\n".join(
                [*(step_text(record, style) for record in records), verdict_text(verdict, style)]
            )
        observed = step_over_switch(target, verdict, arguments.follow)
        document |= {"observed": json_form.observation(observed, verdict), "agrees": observed.agrees_with(verdict)}
        lines = [step_text(record, style) for record in (*records, *observed.steps)]
        return document, "\n".join([*lines, "", comparison_text(verdict, observed, style)])


COMMAND = KexecStep
