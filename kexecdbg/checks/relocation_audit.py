"""The rules on kexec, applied to the relocation code that a CPU is at or comes to."""

from __future__ import annotations

from dataclasses import dataclass

from kexecdbg.arm64.interfaces import PhysicalMemory
from kexecdbg.checks.finding import Finding
from kexecdbg.checks.relocation import Relocation
from kexecdbg.checks.rules import all_rules
from kexecdbg.checks.situation import Situation, situation_at
from kexecdbg.checks.verdict import by_severity
from kexecdbg.errors import UsageError
from kexecdbg.machine.state import CpuState


@dataclass(frozen=True)
class RelocationAudit:
    """A relocation before it runs.

    Attributes:
        relocation: what is going to happen; ``None`` when no register points to its argument.
        findings: what the rules K01 to K09 say, the worst first.
    """

    relocation: Relocation | None
    findings: tuple[Finding, ...]


def audit_relocation(state: CpuState, memory: PhysicalMemory) -> RelocationAudit:
    """Audit the relocation whose code ``state`` is at, whether it switches an MMU on (2019, 2020) or not (mainline).

    Raises:
        RegisterUnknownError, MemoryUnreadableError: the PC or its instruction is not known.
    """
    try:
        situation = situation_at(state, memory)
    except UsageError:  # no switch ahead: the MMU is as it will be
        pc = state.require("PC", "which instruction comes next")
        situation = Situation(state, state, memory, site=pc, next_pc=pc)
    found = [finding for rule in all_rules() if rule.id.startswith("K") for finding in rule.check(situation)]
    return RelocationAudit(situation.relocation, by_severity(found))
