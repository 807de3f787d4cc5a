"""M04: SCTLR_ELx.WXN makes the writable code page execute-never."""

from __future__ import annotations

from collections.abc import Iterator

from kexecdbg.arm64.faults import CauseKind
from kexecdbg.checks.finding import Finding, Severity
from kexecdbg.checks.repairs import change_descriptor, fetch_denials
from kexecdbg.checks.rule import Rule
from kexecdbg.checks.situation import Situation

_AP2 = 1 << 7


def _check(situation: Situation) -> Iterator[Finding]:
    for cause in fetch_denials(situation):
        if cause.kind is CauseKind.WXN:
            leaf = situation.fetch.levels[-1]
            at_leaf = type(cause)(cause.kind, cause.text, leaf.level, leaf.address)
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
                change_descriptor(situation, at_leaf, set_bits=_AP2, what="sets bit 7, AP[2]: the page is read-only"),
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
)
