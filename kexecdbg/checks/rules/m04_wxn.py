"""M04: SCTLR_ELx.WXN makes the writable code page execute-never."""

from __future__ import annotations

from collections.abc import Iterator

from kexecdbg.arm64.faults import CauseKind
from kexecdbg.checks.finding import Finding, Severity
from kexecdbg.checks.repairs import fetch_denials, permit_fetch
from kexecdbg.checks.rule import Rule
from kexecdbg.checks.situation import Situation


def _check(situation: Situation) -> Iterator[Finding]:
    for cause in fetch_denials(situation):
        if cause.kind is CauseKind.WXN:
            leaf = situation.fetch.levels[-1]
            register = situation.regime.facts.sctlr
            yield Finding(
                "M04",
                Severity.FATAL,
                f"The next fetch, {situation.next_pc:#x}, faults: {register}.WXN will be 1 and its page is writable, "
                "so it is execute-never.",
                {
                    "register": register,
                    "field": "WXN",
                    "address": leaf.address,
                    "level": leaf.level,
                    "descriptor": leaf.descriptor,
                },
                permit_fetch(situation).get(leaf.address),
            )


RULE = Rule(
    "M04",
    "WXN and a writable code page",
    "With SCTLR_ELx.WXN set, every page that is writable in the regime is execute-never. Relocation code that was "
    "copied to a page mapped read-write cannot run with it.",
    (
        "Arm ARM D8.4.2.2, SCTLR_ELx.WXN",
        "Linux INIT_SCTLR_EL2_MMU_ON (sets WXN); Xen 505f1f0b19; m1n1 8af8dade",
    ),
    _check,
    symptom="Freeze right after the write with ESR 0x8600000f; XN, PXN and UXN are all clear.",
)
