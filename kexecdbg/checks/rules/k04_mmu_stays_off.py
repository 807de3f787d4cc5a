"""K04: the pages are copied at a level whose MMU is off."""

from __future__ import annotations

from collections.abc import Iterator

from kexecdbg.checks.copy_loop import CopyLoop
from kexecdbg.checks.enable_site import writes_sctlr
from kexecdbg.checks.finding import Finding, Severity
from kexecdbg.checks.relocation import copies_with_mmu_off
from kexecdbg.checks.rule import Rule
from kexecdbg.checks.situation import Situation


def _check(situation: Situation) -> Iterator[Finding]:
    relocation = situation.relocation
    if relocation is None or not copies_with_mmu_off(relocation) or not len(relocation.pages.copies):
        return
    if relocation.loop is None or _may_be_switched_on(relocation.loop):
        return
    sctlr = relocation.regime.facts.sctlr
    yield Finding(
        "K04",
        Severity.HAZARD,
        f"The {len(relocation.pages.copies)} pages are copied at EL{situation.el} with {sctlr}.M = 0: the MMU of this "
        "level stays off, and with it the data cache. The relocation works and is as slow as before.",
        {"register": sctlr, "field": "M", "value": situation.after.get(sctlr), "el": situation.el},
    )


def _may_be_switched_on(found: CopyLoop) -> bool:
    """Whether the code before the loop writes an SCTLR_ELx, so that it cannot be told here."""
    behind = {each.address for each in (*found.loop, *found.after)}
    return any(writes_sctlr(each) for each in found.code.instructions.values() if each.address not in behind)


RULE = Rule(
    "K04",
    "The relocation runs at a level whose MMU is off",
    "A kernel that was booted at EL2 comes back there for the relocation, and EL2's MMU has nothing to do with the "
    "tables that EL1 ran on. Everything works, at the speed of uncached memory, and only CurrentEL and the SCTLR of "
    "that level tell.",
    (
        "Linux kexec RFC v1 (20190716165641.6990-1-pasha.tatashin@soleen.com); James Morse, 2019-07-26 "
        "(9f74788a-98e8-9839-2017-df64e8532026@arm.com)",
    ),
    _check,
    severity=Severity.HAZARD,
    symptom="The relocation is no faster than without the MMU: about 20 times slower than it could be.",
)
