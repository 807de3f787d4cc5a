"""``kexec-why``: after the fact, where a CPU is stuck and why."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from kexecdbg.errors import KexecdbgError, UsageError
from kexecdbg.ui.style import Style, hanging

from .. import cpus, last_check
from ..command import Command, add_assume_option, evaluate_range, selected_debugger, with_assumptions

if TYPE_CHECKING:
    from kexecdbg.checks.stuck.diagnosis import Diagnosis

_COLUMN = 18


class KexecWhy(Command):
    """See SUMMARY."""

    NAME = "kexec-why"
    SUMMARY = (
        "Say why a CPU is stuck: where it is, what its syndrome registers still say, what a second exception has "
        "overwritten, and which switch of the MMU it comes from. For a machine that has frozen; nothing has to have "
        "been recorded before. kexec-fix then repairs what was found."
    )
    ANY_CPU = True

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--all-cpus", action="store_true", help="one line for each CPU, those that are stuck first")
        parser.add_argument(
            "--watch", type=int, default=0, metavar="N", help="execute N instructions and see whether it gets anywhere"
        )
        parser.add_argument(
            "--search",
            action="append",
            default=[],
            metavar="START-END",
            help="physical addresses where the code that switched the MMU on may be (may be repeated)",
        )
        add_assume_option(parser)

    def run(self, arguments: argparse.Namespace, style: Style) -> tuple[Any, str]:
        from kexecdbg.checks.stuck.watch import watch
        from kexecdbg.ui.why_json import diagnosis_json
        from kexecdbg.ui.why_text import why_text

        if arguments.watch < 0:
            raise UsageError(f"--watch {arguments.watch}: give the number of instructions to execute")
        if arguments.all_cpus:
            if arguments.cpu is not None or arguments.watch:
                raise UsageError("--all-cpus looks at every CPU and steps none; leave --cpu and --watch out")
            return self._all_cpus(arguments, style)
        target = selected_debugger()
        diagnosis = self._diagnose(arguments)
        watched = None
        if arguments.watch:
            diagnosis, watched = watch(target, diagnosis, arguments.watch)
        if diagnosis.origin is not None and diagnosis.origin.explains:
            last_check.remember(diagnosis.origin.verdict)
        several = cpus.selected_of_several() is not None
        return diagnosis_json(diagnosis, watched), why_text(diagnosis, watched, style, arguments.cpu, several)

    def _diagnose(self, arguments: argparse.Namespace) -> Diagnosis:
        from kexecdbg.checks.stuck.diagnosis import diagnose

        target = selected_debugger()
        state = with_assumptions(target.state(), arguments.assume)
        cpu = cpus.selected_cpu()
        halted = None if cpu is None else cpus.is_halted(cpu.number)
        search = [evaluate_range("--search", text) for text in arguments.search]
        with target.many_reads():
            return diagnose(state, target.memory, halted, search)

    def _all_cpus(self, arguments: argparse.Namespace, style: Style) -> tuple[Any, str]:
        from kexecdbg.ui.why_json import diagnosis_json
        from kexecdbg.ui.why_text import summary

        found: list[tuple[cpus.Cpu, Diagnosis | KexecdbgError]] = []
        for cpu in cpus.cpus():
            try:
                with cpus.on_cpu(cpu.number):
                    found.append((cpu, self._diagnose(arguments)))
            except KexecdbgError as error:
                found.append((cpu, error))
        if not found:
            selected_debugger()  # says that there is no target
        found.sort(key=lambda pair: (_ORDER.index(_stuck(pair[1])), pair[0].number))
        documents, lines = [], []
        for cpu, result in found:
            if isinstance(result, KexecdbgError):
                document, line = {"stuck": None, "error": str(result)}, str(result)
            else:
                document, line = diagnosis_json(result), summary(result, style)
            documents.append({"cpu": cpu.number, "thread": cpu.thread, **document})
            lines.append(hanging(cpu.text, line, _COLUMN))
        if _stuck(found[0][1]) is not False:
            lines.append(hanging("next", f"kexec-why --cpu {found[0][0].number}", _COLUMN))
        return {"cpus": documents}, "\n".join(lines)


_ORDER: Sequence[bool | None] = (True, None, False)


def _stuck(result: Diagnosis | KexecdbgError) -> bool | None:
    return None if isinstance(result, KexecdbgError) else result.stuck


COMMAND = KexecWhy
