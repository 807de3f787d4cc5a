"""M11: the code is not mapped where it runs."""

from __future__ import annotations

from collections.abc import Iterator

from kexecdbg.arm64.faults import CauseKind
from kexecdbg.checks.alternatives import alternatives
from kexecdbg.checks.finding import Finding, Severity
from kexecdbg.checks.rule import Rule
from kexecdbg.checks.rules.m27_other_exception_level import value_elsewhere
from kexecdbg.checks.rules.m31_lpa2 import needs_ds
from kexecdbg.checks.situation import Situation
from kexecdbg.checks.table_base import tables_out_of_place

_NOT_MAPPED = frozenset({CauseKind.INVALID_DESCRIPTOR, CauseKind.VA_OUT_OF_RANGE, CauseKind.TXSZ_OUT_OF_RANGE})


def _check(situation: Situation) -> Iterator[Finding]:
    fault = situation.fetch_fault
    if fault is None or fault.cause.kind not in _NOT_MAPPED or alternatives(situation):
        return
    if tables_out_of_place(situation) is not None or needs_ds(situation) or value_elsewhere(situation, "TTBR0"):
        return  # M17, M31, M27
    yield Finding(
        "M11",
        Severity.FATAL,
        f"The next fetch, {situation.next_pc:#x}, takes {fault.phrase}: {fault.cause.text}. "
        "The code that switches the MMU on has to be mapped where it runs.",
        {
            "address": fault.cause.address,
            "level": fault.cause.level,
            "descriptor": situation.fetch.levels[-1].descriptor if situation.fetch.levels else None,
            "register": fault.cause.register,
            "field": fault.cause.field,
        },
    )


RULE = Rule(
    "M11",
    "The code is not mapped where it runs",
    "The instruction after the write is fetched through the new tables from the same address. It has to be inside the "
    "range that TxSZ gives, and mapped: an identity map that does not reach the physical address of the code, or was "
    "made for another load address, ends in a Translation fault.",
    (
        "Xen 6cd046c501 (8 TiB load address, 2 TiB limit), ca59618967; Hafnium 0f0f706e",
        "Linux idmap_t0sz; James Morse, 2019-07-17",
    ),
    _check,
    symptom="Freeze right after the write with ESR 0x86000004 to 0x86000007 (Translation fault).",
)
