"""M35: EPD disables walks for the half of the address space that the code is in."""

from __future__ import annotations

from collections.abc import Iterator

from kexecdbg.arm64.faults import CauseKind
from kexecdbg.checks.finding import Finding, Severity
from kexecdbg.checks.repairs import change_register
from kexecdbg.checks.rule import Rule
from kexecdbg.checks.situation import Situation


def _check(situation: Situation) -> Iterator[Finding]:
    fault = situation.fetch_fault
    if fault is None or fault.cause.kind is not CauseKind.EPD:
        return
    facts = situation.regime.facts
    position = facts.tcr_layout.ranges[facts.is_upper(situation.next_pc)].epd
    tcr = situation.after.require(facts.tcr, "whether walks are enabled")
    assert position is not None
    yield Finding(
        "M35",
        Severity.FATAL,
        f"The next fetch, {situation.next_pc:#x}, takes {fault.phrase}: {fault.cause.text}.",
        {"register": facts.tcr, "field": fault.cause.field, "value": 1, "bit": position},
        change_register(situation, facts.tcr, tcr & ~(1 << position), f"clears {fault.cause.field}"),
    )


RULE = Rule(
    "M35",
    "Walks are disabled for this half",
    "TCR_ELx.EPD0 and EPD1 switch table walks off for the lower and the upper half. Every access there takes a "
    "Translation fault at level 0.",
    ("Arm ARM D23.2.167, TCR_ELx.EPD0", "TF-A 3388b38dc"),
    _check,
    symptom="Freeze right after the write with ESR 0x86000004 (Translation fault, level 0), whatever the tables hold.",
)
