"""Runs one lab scenario under GDB: what was predicted, and what the CPU did."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kexecdbg.lab.boot import boot_relocation
from kexecdbg.lab.relocation import RelocationCase
from kexecdbg.session.gdb import GdbSession


@dataclass(frozen=True)
class ScenarioResult:
    """One scenario, as JSON documents of the GDB commands.

    Attributes:
        case: the scenario.
        check: what kexec-check said before the switch.
        observed: what kexec-step saw.
        agrees: whether the two are the same.
    """

    case: RelocationCase
    check: dict[str, Any]
    observed: dict[str, Any]
    agrees: bool


def run_scenario(case: RelocationCase) -> ScenarioResult:
    """Boot ``case`` in QEMU, predict, step over the switch, compare.

    Raises:
        EnvironmentProblem, TargetError: a part is missing, or QEMU or GDB ended.
    """
    with boot_relocation(case) as machine, GdbSession() as gdb:
        gdb.connect(str(machine.qemu.gdb_socket))
        document = gdb.run("kexec-step --follow --timeout 30").document
    return ScenarioResult(case, document["check"], document["observed"], document["agrees"])
