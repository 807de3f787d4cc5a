"""K05: the relocation code lies beyond the identity map that was made for it."""

from __future__ import annotations

from collections.abc import Iterator

from kexecdbg.arm64.faults import Access
from kexecdbg.arm64.walk import walk
from kexecdbg.checks.finding import Finding, Severity
from kexecdbg.checks.rule import Rule
from kexecdbg.checks.situation import Situation
from kexecdbg.kexec.argument import Role

_T0SZ_MASK = 0x3F


def _check(situation: Situation) -> Iterator[Finding]:
    relocation = situation.relocation
    if relocation is None or relocation.code_page is None:
        return
    argument = relocation.argument
    ttbr0, t0sz = argument.get(Role.TTBR0), argument.get(Role.T0SZ)
    if ttbr0 is None or t0sz is None or t0sz > _T0SZ_MASK:
        return
    names = argument.layout.roles
    code, reach = relocation.code_page, 1 << 64 - t0sz
    evidence: dict[str, int | str | None] = {"address": code.start, "field": names[Role.T0SZ], "value": t0sz}
    if code.end > reach:
        yield Finding(
            "K05",
            Severity.FATAL,
            f"The relocation code at {code.start:#x} is beyond the identity map: {names[Role.T0SZ]} = {t0sz} ends "
            f"it at {reach:#x}. The next fetch after TTBR0 is switched to {ttbr0:#x} faults.",
            evidence,
        )
        return
    facts = relocation.regime.facts
    if not facts.two_ranges:
        return
    tcr = relocation.state.require(facts.tcr, "the identity map of the relocation code")
    state = relocation.state.with_values({facts.ttbr0: ttbr0, facts.tcr: tcr & ~_T0SZ_MASK | t0sz})
    result = walk(state, relocation.memory, code.start, regime=relocation.regime)
    fault = result.fault_for(Access.FETCH)
    if result.unknown or (fault is None and result.pa == code.start):
        return
    found = (
        f"a fetch takes {fault.phrase} ({fault.cause.text})"
        if fault is not None
        else f"it translates to {result.pa or 0:#x}"
    )
    yield Finding(
        "K05",
        Severity.FATAL,
        f"The identity map at {ttbr0:#x} ({names[Role.TTBR0]}) does not map the relocation code at {code.start:#x} for "
        f"{names[Role.T0SZ]} = {t0sz}: {found}.",
        {**evidence, "level": None if fault is None else fault.cause.level, "table": ttbr0},
    )


RULE = Rule(
    "K05",
    "The identity map does not reach the relocation code",
    "The page of the relocation code is mapped at its physical address, wherever it is. Where RAM lies beyond what the "
    "kernel's VA_BITS reach, the identity map needs another T0SZ, and more levels, than the kernel's own tables.",
    (
        "Linux kexec series v8 and v9 (20200326032420.27220-1-pasha.tatashin@soleen.com: trans_t0sz), arch.t0sz; "
        "arch/arm64/mm/trans_pgd.c, trans_pgd_idmap_page()",
        "James Morse, 2019-07-17 (4c8a3a11-adc2-efa4-f765-6be338546ae4@arm.com, on AMD Seattle)",
    ),
    _check,
    symptom="The machine hangs where RAM lies high, and works where it lies low.",
)
