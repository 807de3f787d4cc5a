"""M30: the MMU is on already before the code that should switch it on."""

from __future__ import annotations

from collections.abc import Iterator

from kexecdbg.arm64.features import effective_e2h
from kexecdbg.arm64.instructions import INSTRUCTION_SIZE, Flow, Instruction, accessed_register
from kexecdbg.arm64.regimes import mmu_enabled
from kexecdbg.checks.enable_site import writes_sctlr
from kexecdbg.checks.fetching import instruction_at
from kexecdbg.checks.finding import Finding, Severity
from kexecdbg.checks.rule import Rule
from kexecdbg.checks.situation import Situation
from kexecdbg.errors import MemoryUnreadableError, RegisterUnknownError

_WINDOW = 32
"""How many instructions before the write are looked at."""


def _check(situation: Situation) -> Iterator[Finding]:
    facts = situation.regime.facts
    if facts.sctlr in situation.before.assumed_names():
        return  # The state before the switch is not known: the write was assumed to be made.
    try:
        if not mmu_enabled(situation.regime, situation.before) or not mmu_enabled(situation.regime, situation.after):
            return
        if not writes_sctlr(instruction_at(situation.before, situation.memory, situation.site)):
            return  # A write of TTBR with the MMU on says itself what it is: a change of the tables.
    except (RegisterUnknownError, MemoryUnreadableError):
        return
    live = _set_up_before(situation)
    ttbr = situation.before.get(facts.ttbr0)
    evidence: dict[str, int | str | None] = {"register": facts.sctlr, "field": "M", "value": 1, facts.ttbr0: ttbr}
    if live:
        severity = Severity.HAZARD
        names = dict.fromkeys(name for _, name in live)
        what = (
            f"the writes of {' and '.join(names)} before it, from {live[0][0].address:#x} on, took effect one by one "
            "under the code that makes them"
        )
        evidence["instruction"] = live[0][0].address
    else:
        severity = Severity.NOTE
        what = "this write only changes other bits. Code that expects it off may have skipped its own tables"
    yield Finding(
        "M30",
        severity,
        f"The {situation.regime.value} MMU is on already ({facts.sctlr}.M = 1, {facts.ttbr0} = "
        f"{'unknown' if ttbr is None else f'{ttbr:#x}'}): {what}.",
        evidence,
    )


def _set_up_before(situation: Situation) -> list[tuple[Instruction, str]]:
    """The writes of the regime's translation registers in the straight code that leads to the site."""
    facts = situation.regime.facts
    names = {facts.ttbr0, facts.ttbr1, facts.tcr, facts.mair}
    e2h = bool(effective_e2h(situation.before))
    found: list[tuple[Instruction, str]] = []
    for address in (situation.site - number * INSTRUCTION_SIZE for number in range(1, _WINDOW + 1)):
        try:
            instruction = instruction_at(situation.before, situation.memory, address)
        except MemoryUnreadableError:
            break
        if instruction.flow is not Flow.NEXT or writes_sctlr(instruction):
            break
        move = instruction.system_move
        if move is not None and move.is_write:
            name = accessed_register(move.register, situation.el, e2h)
            if name in names:
                found.append((instruction, name))
    return found[::-1]


RULE = Rule(
    "M30",
    "The MMU is on already",
    "Boot protocols hand over with the MMU off; firmware, a boot loader or a debugger may not. Then new tables and "
    "attributes take effect one register at a time, under the code that writes them, or code that finds the MMU on "
    "skips its set-up and goes on with the tables of the stage before.",
    (
        "Linux Documentation/arch/arm64/booting.rst (MMU off at entry)",
        "U-Boot ae17910117f; EDK2 pull request 13170 (virtualization=on)",
    ),
    _check,
    severity=Severity.HAZARD,
    symptom="Crash at entry, or long after the switch, when the memory of the old tables is used for something else.",
)
