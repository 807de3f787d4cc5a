"""Judges a write to a translation register on the relocation's way, right before it executes."""

from __future__ import annotations

from dataclasses import dataclass

from kexecdbg.arm64.instructions import Instruction
from kexecdbg.arm64.interfaces import PhysicalMemory
from kexecdbg.arm64.regimes import current_el, mmu_enabled, regime_of
from kexecdbg.checks.enable_site import pending_write
from kexecdbg.checks.finding import Finding, Severity
from kexecdbg.checks.judging import judge
from kexecdbg.checks.situation import Situation
from kexecdbg.checks.verdict import Judgement, Verdict
from kexecdbg.machine.state import CpuState

_IMAGE_LOST = frozenset({"K09"})
"""Hazards that the copy survives and the new kernel does not: a device writes into the image after it was copied."""


@dataclass(frozen=True)
class SwitchCheck:
    """What was found right before a write to a translation register.

    Attributes:
        register: what is written.
        value: what it gets.
        mmu: whether the MMU is on after it.
        sound: whether the CPU goes on to the next instruction; ``None`` when that cannot be told.
        verdict: the whole verdict, where the MMU is on after the write.
    """

    register: str
    value: int
    mmu: bool
    sound: bool | None
    verdict: Verdict | None

    @property
    def reasons_to_stop(self) -> tuple[Finding, ...]:
        """The findings that the relocation does not get over; there may be none where ``sound`` is false."""
        findings = () if self.verdict is None else self.verdict.findings
        return tuple(item for item in findings if item.severity is Severity.FATAL or item.id in _IMAGE_LOST)


def check_switch(instruction: Instruction, before: CpuState, memory: PhysicalMemory) -> SwitchCheck | None:
    """The tables as they will be used after ``instruction``, at the PC; ``None`` when it does not change their use."""
    write = pending_write(instruction, before)
    regime = regime_of(current_el(before), before)
    if write is None or write.register not in (regime.facts.sctlr, regime.facts.ttbr0, regime.facts.ttbr1):
        return None
    after = before.with_values({write.register: write.value})
    site = instruction.address
    situation = Situation(before, after, memory, site, site + 4)
    if not mmu_enabled(regime, after):
        if not mmu_enabled(regime, before):
            return None
        sound = situation.fetch_fault is None and situation.finds_intended_code(situation.fetch)
        return SwitchCheck(write.register, write.value, False, sound, None)
    verdict = judge(situation)
    sound_or_unknown = None if verdict.judgement is Judgement.UNKNOWN else verdict.judgement is Judgement.SOUND
    return SwitchCheck(write.register, write.value, True, sound_or_unknown, verdict)
