"""M03: the code's page is writable from EL0, which makes it execute-never for the kernel."""

from __future__ import annotations

from collections.abc import Iterator

from kexecdbg.arm64.faults import CauseKind
from kexecdbg.checks.finding import Finding, Severity
from kexecdbg.checks.repairs import fetch_denials, permit_fetch
from kexecdbg.checks.rule import Rule
from kexecdbg.checks.situation import Situation


def _check(situation: Situation) -> Iterator[Finding]:
    for cause in fetch_denials(situation):
        if cause.kind is CauseKind.EL0_WRITABLE:
            yield Finding(
                "M03",
                Severity.FATAL,
                f"The next fetch, {situation.next_pc:#x}, faults: its page is writable from EL0 (AP[2:1] = 0b01), and "
                f"the {situation.regime.value} regime never executes such a page at a privileged level.",
                {
                    "address": cause.address,
                    "level": cause.level,
                    "descriptor": situation.fetch.levels[-1].descriptor,
                    "bit": 6,
                    "name": "AP[1]",
                },
                permit_fetch(situation).get(cause.address or 0),
            )


RULE = Rule(
    "M03",
    "The code's page is writable from EL0",
    "In a regime with EL0 a page that EL0 may write is execute-never for EL1 and EL2, whatever PXN says. A descriptor "
    "made for EL2 with E2H=0 has AP[1] set (RES1 there) and trips over this as soon as E2H is 1.",
    (
        "Arm ARM D8.4.1.2, rule on EL0-writable memory and privileged execution",
        "EDK2 017564d637; TF-A 01c0a38ef",
    ),
    _check,
    symptom="Freeze right after the write with ESR 0x8600000f at EL1, or at EL2 with E2H=1, where E2H=0 worked.",
)
