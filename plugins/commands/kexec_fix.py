"""``kexec-fix``: apply the repair to the live machine."""

from __future__ import annotations

import argparse
import re
import select
import sys
from collections.abc import Sequence
from typing import Any

import gdb

from kexecdbg.errors import UsageError
from kexecdbg.ui.style import Style, hanging

from .. import last_check, placed_pad
from ..command import Command, add_given_option, selected_debugger, take_as_read

_FINDING_ID = re.compile(r"[MK]\d\d", re.IGNORECASE)


class KexecFix(Command):
    """See SUMMARY."""

    NAME = "kexec-fix"
    SUMMARY = (
        "Write the repair that kexec-check proposed into the live machine, so that the run goes on, and check again. "
        "After the freeze it also sets the PC back to the instruction that faulted. For a system register, which the "
        "gdbstub cannot write, it says which instruction to change or to execute."
    )

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "ids",
            nargs="*",
            type=_finding_id,
            metavar="ID",
            help="repair these findings of the last verdict, M01 or M22, and no others; default: the fatal ones",
        )
        parser.add_argument("--yes", action="store_true", help="do not ask")
        parser.add_argument("--dry-run", action="store_true", help="say what would be written, write nothing")
        add_given_option(parser)

    def cpu(self, arguments: argparse.Namespace) -> int | None:
        return last_check.cpu()

    def values(self) -> Sequence[str]:
        from kexecdbg.checks.fixing import repairable_ids

        verdict = last_check.last()
        return () if verdict is None else repairable_ids(verdict)

    def run(self, arguments: argparse.Namespace, style: Style) -> tuple[Any, str]:
        from kexecdbg.checks.fixing import apply_repairs, judge_again, plan_repairs
        from kexecdbg.checks.repair_changes import repair_change
        from kexecdbg.ui.fix_json import fix_json
        from kexecdbg.ui.fix_text import COLUMN, changes_text, correction_text, held_back_text, recheck_text
        from kexecdbg.ui.landing_pad_view import removal_json, removed_text

        target = selected_debugger()
        verdict = last_check.last()
        if verdict is None:
            raise UsageError("there is no verdict to repair; run kexec-check or kexec-step first")
        take_as_read(target, arguments.assume)
        plan = plan_repairs(verdict, target.state(), arguments.ids)
        changes = [repair_change(verdict, repair) for repair in plan.repairs]
        to_correct = [repair_change(verdict, correction.repair) for correction in plan.corrections]
        apply = bool(changes) and not arguments.dry_run
        recheck, removed = None, None
        if apply:
            if not arguments.yes:
                _ask(changes_text(plan, changes, "write", Style()))
            apply_repairs(target, plan)
            if plan.resume_at is not None and placed_pad.is_for_selected_cpu(target):
                removed = placed_pad.remove(target)
            recheck = judge_again(target, plan)
            last_check.remember(recheck)
        text = [changes_text(plan, changes, "done" if apply else "planned", style)] if changes else []
        text += [correction_text(*pair, style) for pair in zip(to_correct, plan.corrections, strict=True)]
        held_back = [name for repair in plan.held_back for name in repair_change(verdict, repair).findings]
        if held_back:
            text.append(held_back_text(held_back, style))
        document = fix_json(plan, changes, to_correct, held_back, apply, recheck)
        if removed is not None:
            document["removed_landing_pad"] = removal_json(*removed)
            text.append(removed_text(*removed, style))
        if recheck is not None:
            text.append(recheck_text(recheck, style))
            note = "every write was read back; on hardware a TLBI and cache maintenance may have to follow"
            text += [hanging("note", note, COLUMN), hanging("next", "continue", COLUMN)]
        return document, "\n".join(text)


def _finding_id(text: str) -> str:
    if not _FINDING_ID.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no finding's id; write it as M01")
    return text.upper()


def _ask(question: str) -> None:
    if not gdb.parameter("confirm"):
        return
    if not sys.stdin.isatty():
        raise UsageError("it writes into the guest; add --yes, there is no terminal to ask on")
    print(f"{question}\nWrite this into the guest? (y or n) ", end="", flush=True)
    # GDB has reads go on after Ctrl-C (SA_RESTART); only this is interrupted by it (signal(7)).
    select.select([sys.stdin], [], [])
    answer = sys.stdin.readline()
    if not answer:  # Ctrl-D
        print()
    if answer.strip().lower() not in ("y", "yes"):
        raise UsageError("nothing was written")


COMMAND = KexecFix
