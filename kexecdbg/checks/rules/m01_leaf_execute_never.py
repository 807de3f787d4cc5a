"""M01: the page of the next instruction is execute-never in this regime."""

from __future__ import annotations

from collections.abc import Iterator

from kexecdbg.arm64.faults import CauseKind
from kexecdbg.checks.finding import Finding, Severity
from kexecdbg.checks.repairs import execute_never_name, fetch_denials, permit_fetch
from kexecdbg.checks.rule import Rule
from kexecdbg.checks.situation import Situation

_WHY = {
    CauseKind.LEAF_XN: "Kernel attributes made for EL1 set it as UXN, where it only concerns EL0",
    CauseKind.LEAF_PXN: "Attributes made for a regime without EL0 may set it without effect there",
    CauseKind.LEAF_UXN: "The code runs at EL0",
}


def _check(situation: Situation) -> Iterator[Finding]:
    for cause in fetch_denials(situation):
        if cause.kind not in _WHY or cause.bit is None:
            continue
        name = execute_never_name(cause)
        yield Finding(
            "M01",
            Severity.FATAL,
            f"The next fetch, {situation.next_pc:#x}, faults: bit {cause.bit} of its level {cause.level} descriptor is "
            f"{name} in the {situation.regime.value} regime. {_WHY[cause.kind]}.",
            {
                "address": cause.address,
                "level": cause.level,
                "descriptor": situation.fetch.levels[-1].descriptor,
                "bit": cause.bit,
                "name": name,
            },
            permit_fetch(situation).get(cause.address or 0),
        )


RULE = Rule(
    "M01",
    "The code's page is execute-never in this regime",
    "Bit 54 of a leaf is UXN in a regime with EL0 (EL1&0, EL2&0), but XN in one without (EL2 with E2H=0, EL3). "
    "A page mapped for EL1 as kernel-executable (bit 53 clear, bit 54 set) cannot be executed at EL2. The mirror image "
    "is bit 53, PXN, which regimes without EL0 ignore. Every control register is right when this happens.",
    (
        "Arm ARM D8.4.1, D8.3.1.2 (attribute fields in stage 1 VMSAv8-64 Block and Page descriptors)",
        "Linux [RFC v2 7/8] 20190731153857.4045-8-pasha.tatashin@soleen.com (PAGE_KERNEL_EXEC used at EL2)",
        "EDK2 2afeabd1a9; TF-A a56402521 (the mirror image)",
    ),
    _check,
    symptom="Freeze right after the write. ESR 0x8600000f for one instruction, then 0x86000007 at VBAR for ever.",
)
