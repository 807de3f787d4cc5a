"""``kexec-fix``: apply the repair to the live machine."""

from __future__ import annotations

import argparse
import sys
from typing import Any

import gdb

from kexecdbg.errors import UsageError
from kexecdbg.ui.style import Style, hanging

from .. import last_check
from ..command import Command, selected_debugger

_COLUMN = 11


class KexecFix(Command):
    """See SUMMARY."""

    NAME = "kexec-fix"
    SUMMARY = (
        "Write the repair that kexec-check proposed into the live machine, so that the run goes on. After the freeze "
        "it also sets the PC back to the instruction that faulted."
    )

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--yes", action="store_true", help="do not ask")
        parser.add_argument("--dry-run", action="store_true", help="say what would be written, write nothing")

    def cpu(self, arguments: argparse.Namespace) -> int | None:
        return last_check.cpu()

    def run(self, arguments: argparse.Namespace, style: Style) -> tuple[Any, str]:
        from kexecdbg.checks.fixing import apply_repairs, plan_repairs
        from kexecdbg.ui import json_form
        from kexecdbg.ui.verdict_text import repair_text

        target = selected_debugger()
        verdict = last_check.last()
        if verdict is None:
            raise UsageError("there is no verdict to repair; run kexec-check or kexec-step first")
        plan = plan_repairs(verdict, target.state())
        lines = [repair_text(repair) for repair in plan.repairs]
        if plan.resume_at is not None:
            lines.append(f"PC = {plan.resume_at:#x}, the instruction that faulted")
        if not arguments.dry_run:
            if not arguments.yes:
                _ask("\n".join(lines))
            apply_repairs(target, plan)
        document = {
            "applied": not arguments.dry_run,
            "repairs": [json_form.repair(repair) for repair in plan.repairs],
            "resume_at": json_form.number(plan.resume_at),
        }
        label = "planned" if arguments.dry_run else "done"
        note = "on hardware a TLBI and cache maintenance may have to follow; QEMU keeps no failed walk"
        if not arguments.dry_run:
            note = f"every write was read back; {note}"
        text = [hanging(label, line, _COLUMN) for line in lines]
        return document, "\n".join([*text, hanging("note", note, _COLUMN), hanging("next", "continue", _COLUMN)])


def _ask(question: str) -> None:
    if not gdb.parameter("confirm"):
        return
    if not sys.stdin.isatty():
        raise UsageError("it writes into the guest; add --yes, there is no terminal to ask on")
    if input(f"{question}\nWrite this into the guest? (y or n) ").strip().lower() not in ("y", "yes"):
        raise UsageError("nothing was written")


COMMAND = KexecFix
