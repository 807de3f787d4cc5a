"""``kexecdbg check``: the verdict on a machine at a gdbstub, or on what is known of one."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING

from kexecdbg.errors import UsageError
from kexecdbg.ui.attach import run_attached
from kexecdbg.ui.sources import add_source_arguments, attached_options, given_machine, is_attached
from kexecdbg.ui.style import style_for

if TYPE_CHECKING:
    from kexecdbg.ui.sources import GivenMachine

SUMMARY = (
    "Say what will happen when an MMU is switched on, and why: of the machine at a gdbstub, stopped before the write, "
    "or of registers and memory from a mail, a dump or a JTAG probe. Of those it also says what they exclude, and what "
    "is needed to tell more."
)

_STATUS = {"sound": 0, "faults": 1, "unknown": 1}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which machine, and what is about to happen to it."""
    parser.add_argument(
        "--regime", choices=("EL1&0", "EL2", "EL2&0", "EL3"), help="whose MMU, where the registers do not say it"
    )
    parser.add_argument(
        "--next",
        metavar="ADDRESS",
        help="the first address that is fetched after the switch, which counts as made with the given registers "
        "(default: as the code at the PC says; PC+4 without it)",
    )
    add_source_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Exit status 0 when it is sound, 1 when it faults or cannot be told."""
    if is_attached(arguments):
        if arguments.next is not None or arguments.regime is not None:
            raise UsageError("--next and --regime: a machine at a gdbstub says these itself; leave them out")
        return _STATUS[run_attached(arguments, ["kexec-check", *attached_options(arguments)])["verdict"]]
    with given_machine(arguments) as machine:
        return _judge(arguments, machine)


def _judge(arguments: argparse.Namespace, machine: GivenMachine) -> int:
    from kexecdbg.arm64.regimes import Regime
    from kexecdbg.checks.assessment import assess
    from kexecdbg.ui.assessment_json import assessment_json
    from kexecdbg.ui.assessment_text import assessment_text

    regime = Regime(arguments.regime) if arguments.regime else None
    next_pc = machine.address(arguments.next) if arguments.next is not None else None
    assessment = assess(machine.values, machine.memory, regime, next_pc)
    if arguments.json:
        print(json.dumps(assessment_json(assessment, machine.remarks), indent=1))
    else:
        print(assessment_text(assessment, machine.remarks, style_for(sys.stdout)))
    return _STATUS[assessment.judgement.value]
