"""M12: the granule in TCR_ELx is not the one the tables were built for."""

from __future__ import annotations

from collections.abc import Iterator

from kexecdbg.arm64.faults import CauseKind
from kexecdbg.checks.alternatives import alternatives
from kexecdbg.checks.finding import Finding, Severity
from kexecdbg.checks.rule import Rule
from kexecdbg.checks.situation import Situation

_NAMES = {
    "TG0": {0: "4 KiB", 1: "64 KiB", 2: "16 KiB", 3: "reserved"},
    "TG1": {0: "reserved", 1: "16 KiB", 2: "4 KiB", 3: "64 KiB"},
}


def _check(situation: Situation) -> Iterator[Finding]:
    for field, alternative in alternatives(situation).items():
        if field not in _NAMES or situation.fetch_fault is None:
            continue
        tcr = situation.regime.facts.tcr
        old, new = (_NAMES[field][value] for value in (alternative.old, alternative.new))
        yield Finding(
            "M12",
            Severity.FATAL,
            f"{tcr}.{field} = {alternative.old} ({old}), but the tables are built for {new}: the next fetch, "
            f"{situation.next_pc:#x}, takes {situation.fetch_fault.phrase}.",
            {"register": tcr, "field": field, "value": alternative.old},
            alternative.repair,
        )
    fault = situation.fetch_fault
    if fault is not None and fault.cause.kind is CauseKind.RESERVED_GRANULE and not alternatives(situation):
        yield Finding(
            "M12",
            Severity.FATAL,
            f"{fault.cause.text}, and with none of the others do the tables map the next fetch, "
            f"{situation.next_pc:#x}.",
            {"register": fault.cause.register, "field": fault.cause.field},
        )


RULE = Rule(
    "M12",
    "The granule does not fit the tables",
    "TG0 and TG1 have different encodings (TG0: 0 4K, 1 64K, 2 16K; TG1: 1 16K, 2 4K, 3 64K), and a CPU need not "
    "implement every granule (ID_AA64MMFR0_EL1.TGran*). With the wrong one every index and address is cut differently.",
    ("Arm ARM D8.2.6, TCR_ELx.TG0 and TG1", "Linux arch/arm64/kernel/head.S, __enable_mmu; TF-A bff074dd9"),
    _check,
    symptom="Freeze right after the write with ESR 0x86000004 to 0x86000006; with other kernel page sizes it works.",
)
