"""``kexec-step``: to the switch, over it, and the comparison with the prediction."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from kexecdbg.errors import UsageError
from kexecdbg.ui.argument_types import positive_seconds
from kexecdbg.ui.style import Style

from .. import last_check, placed_pad
from ..command import Command, add_given_option, selected_debugger, take_as_read

if TYPE_CHECKING:
    from kexecdbg.checks.landing_pad import LandingPad
    from kexecdbg.checks.stepping import StepRecord
    from kexecdbg.checks.verdict import Verdict

    from ..adapter import GdbDebugger


class KexecStep(Command):
    """See SUMMARY."""

    NAME = "kexec-step"
    SUMMARY = (
        "Run to the next instruction that switches the MMU on, step its set-up, check it, step over it and compare "
        "what happens with the prediction. Stops while the first syndrome is still in ESR, FAR and ELR. With "
        "--landing-pad it stays there when the machine runs on: the first exception ends in a branch to itself. That "
        "changes memory, and says what; kexec-fix and --remove-landing-pad put it back."
    )

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--before", action="store_true", help="stop at the switch, do not step over it")
        parser.add_argument(
            "--follow", action="store_true", help="one step more: the second exception, which destroys the syndrome"
        )
        parser.add_argument(
            "--timeout", type=positive_seconds, metavar="SECONDS", help="give up when it is not reached by then"
        )
        parser.add_argument(
            "--landing-pad", action="store_true", help="make vectors for the first exception to stay in, at the switch"
        )
        add_given_option(parser)
        parser.add_argument("--remove-landing-pad", action="store_true", help="put back what that changed; do no more")

    def cpu(self, arguments: argparse.Namespace) -> int | None:
        return placed_pad.cpu() if arguments.remove_landing_pad else None

    def run(self, arguments: argparse.Namespace, style: Style) -> tuple[Any, str]:
        from kexecdbg.checks.stepping import judge_here, run_to_switch

        target = selected_debugger()
        if arguments.remove_landing_pad:
            if arguments.before or arguments.follow or arguments.landing_pad:
                raise UsageError("--remove-landing-pad does no more than that; leave the other options out")
            return _remove_pad(target, style)
        take_as_read(target, arguments.assume)
        if arguments.landing_pad:
            placed_pad.refuse_second(target)
        records = run_to_switch(target, arguments.timeout)
        verdict = judge_here(target)
        last_check.remember(verdict)
        if not arguments.landing_pad:
            return _go_on(target, arguments, records, verdict, None, style)
        from kexecdbg.checks.landing_pad import plan_landing_pad

        pad = plan_landing_pad(verdict)
        placed_pad.place(target, pad)
        try:
            return _go_on(target, arguments, records, verdict, pad, style)
        except BaseException:
            placed_pad.give_up(target)
            raise


def _go_on(
    target: GdbDebugger,
    arguments: argparse.Namespace,
    records: tuple[StepRecord, ...],
    verdict: Verdict,
    pad: LandingPad | None,
    style: Style,
) -> tuple[Any, str]:
    """From the switch on; with a landing pad, what is predicted is what happens with it."""
    from kexecdbg.checks.stepping import Stepped, judge_here, step_over_switch
    from kexecdbg.ui.json_form import number
    from kexecdbg.ui.landing_pad_view import landing_pad_json, placed_text
    from kexecdbg.ui.step_json import observation_json, step_json
    from kexecdbg.ui.step_text import comparison_text, step_text
    from kexecdbg.ui.verdict_json import prediction_json, verdict_json
    from kexecdbg.ui.verdict_text import verdict_text

    document: dict[str, Any] = {
        "site": number(verdict.situation.site),
        "steps": [step_json(record) for record in records],
        "check": verdict_json(verdict),
    }
    stepped = [step_text(record, style) for record in records]
    if pad is not None:
        verdict_with_pad = judge_here(target)
        last_check.remember(verdict_with_pad)
    if arguments.before:
        last_check.remember_steps(Stepped(verdict.situation.site, records, None))
        lines = [*stepped, verdict_text(verdict, style)]
    else:
        expected = verdict if pad is None else verdict_with_pad
        observed = step_over_switch(target, expected, arguments.follow)
        last_check.remember_steps(Stepped(verdict.situation.site, records, observed))
        document |= {"observed": observation_json(observed, expected), "agrees": observed.agrees_with(expected)}
        stepped += [step_text(record, style) for record in observed.steps]
        lines = [*stepped, "", comparison_text(expected, observed, style)]
    if pad is not None:
        parked = pad.holds(target.state().get("PC"))
        document["landing_pad"] = landing_pad_json(pad, parked) | {
            "predicted": prediction_json(verdict_with_pad.prediction)
        }
        lines.append(placed_text(pad, style))
    return document, "\n".join(lines)


def _remove_pad(target: GdbDebugger, style: Style) -> tuple[Any, str]:
    from kexecdbg.ui.landing_pad_view import removal_json, removed_text

    pad, removal = placed_pad.remove(target)
    return {"removed_landing_pad": removal_json(pad, removal)}, removed_text(pad, removal, style)


COMMAND = KexecStep
