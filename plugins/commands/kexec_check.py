"""``kexec-check``: the verdict before the MMU is switched on."""

from __future__ import annotations

import argparse
from typing import Any

from kexecdbg.errors import MemoryUnreadableError, TargetError
from kexecdbg.ui.style import Style

from .. import last_check
from ..command import Command, add_assume_option, selected_debugger, with_assumptions


class KexecCheck(Command):
    """See SUMMARY."""

    NAME = "kexec-check"
    SUMMARY = (
        "Say what will happen when the MMU is switched on, and why. The msr that does it is at the PC, or ahead where "
        "the code up to it can be evaluated; one that changes TTBR or TCR with the MMU on is judged at the PC."
    )
    ANY_CPU = True

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        add_assume_option(parser)

    def run(self, arguments: argparse.Namespace, style: Style) -> tuple[Any, str]:
        from kexecdbg.checks.judging import judge
        from kexecdbg.checks.situation import situation_at
        from kexecdbg.ui.verdict_json import verdict_json
        from kexecdbg.ui.verdict_text import verdict_text

        target = selected_debugger()
        state = with_assumptions(target.state(), arguments.assume)
        with target.many_reads():
            try:
                situation = situation_at(state, target.memory)
            except MemoryUnreadableError as error:
                if error.address != state.get("PC"):
                    raise
                raise TargetError(f"{error.address:#x}: {error.reason}; kexec-why says why the CPU is stuck") from error
            verdict = judge(situation)
        last_check.remember(verdict)
        return verdict_json(verdict), verdict_text(verdict, style)


COMMAND = KexecCheck
