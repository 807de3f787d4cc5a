"""M34: SCTLR_ELx.EE says another byte order than the tables have."""

from __future__ import annotations

from collections.abc import Iterator

from kexecdbg.checks.alternatives import alternatives
from kexecdbg.checks.finding import Finding, Severity
from kexecdbg.checks.rule import Rule
from kexecdbg.checks.situation import Situation

_ORDER = ("little-endian", "big-endian")


def _check(situation: Situation) -> Iterator[Finding]:
    alternative = alternatives(situation).get("EE")
    if alternative is None or situation.fetch_fault is None:
        return
    sctlr = situation.regime.facts.sctlr
    yield Finding(
        "M34",
        Severity.FATAL,
        f"{sctlr}.EE will be {alternative.old}, so the tables are read {_ORDER[alternative.old]}, but they are "
        f"{_ORDER[alternative.new]}: the next fetch, {situation.next_pc:#x}, takes "
        f"{situation.fetch_fault.phrase}.",
        {"register": sctlr, "field": "EE", "value": alternative.old},
        alternative.repair,
    )


RULE = Rule(
    "M34",
    "The tables have the other byte order",
    "SCTLR_ELx.EE sets the byte order of data accesses and of table walks. A value that sets it by accident makes "
    "every descriptor garbage.",
    ("Arm ARM D23.2.147, SCTLR_ELx.EE",),
    _check,
    symptom="Freeze right after the write with ESR 0x86000004; in a dump every descriptor is byte-swapped.",
)
