"""``kexec-report``: the picture to send to somebody else."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gdb

from kexecdbg.errors import TargetError
from kexecdbg.ui.style import Style

from .. import cpus, last_check
from ..command import Command, add_assume_option, selected_debugger, with_assumptions

if TYPE_CHECKING:
    from kexecdbg.ui.report.subject import Origin


class KexecReport(Command):
    """See SUMMARY."""

    NAME = "kexec-report"
    SUMMARY = (
        "Write a report to send to somebody else: one HTML file with the verdict on the switch ahead, or on the one "
        "that the CPU is stuck after, the repair, drawings of the walk, the address space and the relocation, the "
        "registers, and the steps that kexec-step made."
    )
    ANY_CPU = True

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("-o", "--output", required=True, type=Path, metavar="FILE", help="the HTML file to write")
        add_assume_option(parser)

    def run(self, arguments: argparse.Namespace, style: Style) -> tuple[Any, str]:
        from kexecdbg.ui.report.of_machine import subject_of_machine
        from kexecdbg.ui.report.write import write_report

        target = selected_debugger()
        state = with_assumptions(target.state(), arguments.assume)
        cpu = cpus.selected_cpu()
        halted = None if cpu is None else cpus.is_halted(cpu.number)
        with target.many_reads():
            origin = _origin(arguments.assume)
            stepped, passed = last_check.stepped(), last_check.passed()
            subject = subject_of_machine(state, target.memory, origin, _symbol_of, halted, stepped, passed)
            return write_report(replace(subject, memory_remarks=target.memory_remarks), arguments.output, style)


def _origin(assumptions: list[str]) -> Origin:
    from kexecdbg.ui.report.subject import Origin

    from ..gdb_stub import monitor

    connection = gdb.selected_inferior().connection
    name = "the machine in GDB" if connection is None or not connection.details else connection.details
    try:
        version = monitor("info version").strip()
    except TargetError:
        version = ""
    cpu = cpus.selected_of_several()
    space = gdb.current_progspace()
    facts = (
        ("target", name),
        ("QEMU", version),
        ("CPU", cpu.text if cpu is not None else ""),
        ("symbols", (space.filename if space is not None else None) or ""),
        ("debugger", f"GDB {gdb.VERSION}"),
    )
    remarks = tuple(f"{assumption} was assumed, not read." for assumption in assumptions)
    commands = (
        ("kexec-check" if cpu is None else f"kexec-check --cpu {cpu.number}", "the verdict in the terminal"),
        ("kexec-fix", "write the repair into the guest's tables"),
        ("kexec-record start FILE", "record what follows, for kexecdbg report FILE"),
    )
    return Origin(name, tuple((label, text) for label, text in facts if text), remarks, commands)


def _symbol_of(address: int) -> str | None:
    found = gdb.execute(f"info symbol {address:#x}", to_string=True)
    name, in_section, _ = found.partition(" in section ")
    if not in_section:
        return None
    symbol, plus, offset = name.rpartition(" + ")
    return f"{symbol}+{int(offset):#x}" if plus else name


COMMAND = KexecReport
