"""M15: the Access flag of the code's page is clear."""

from __future__ import annotations

from collections.abc import Iterator

from kexecdbg.arm64.faults import CauseKind
from kexecdbg.checks.finding import Finding, Severity
from kexecdbg.checks.repairs import change_descriptor
from kexecdbg.checks.rule import Rule
from kexecdbg.checks.rules.m14_descriptor_type import points_to_table
from kexecdbg.checks.situation import Situation

_AF = 10


def _check(situation: Situation) -> Iterator[Finding]:
    fault = situation.fetch_fault
    if fault is None or fault.cause.kind is not CauseKind.ACCESS_FLAG or points_to_table(situation, fault.cause):
        return
    repair = change_descriptor(situation, fault.cause, set_bits=1 << _AF, what="sets bit 10, AF")
    yield Finding(
        "M15",
        Severity.FATAL,
        f"The next fetch, {situation.next_pc:#x}, takes {fault.phrase}: AF (bit 10) of its "
        f"descriptor is clear and {situation.regime.facts.tcr}.HA is 0, so the CPU does not set it by itself.",
        {
            "address": fault.cause.address,
            "level": fault.cause.level,
            "descriptor": situation.fetch.levels[-1].descriptor,
            "bit": _AF,
            "name": "AF",
        },
        repair,
    )


RULE = Rule(
    "M15",
    "The Access flag is clear",
    "A leaf with AF clear faults on every access unless TCR_ELx.HA lets the hardware set it. A debugger's memory read "
    "does not look at it.",
    ("Arm ARM D8.4.5 (the Access flag)",),
    _check,
    symptom="Freeze right after the write with ESR 0x86000008 to 0x8600000b (Access flag fault).",
)
