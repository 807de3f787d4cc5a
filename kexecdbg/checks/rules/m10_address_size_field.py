"""M10: TxSZ does not fit the tables that were built."""

from __future__ import annotations

from collections.abc import Iterator

from kexecdbg.checks.alternatives import alternatives
from kexecdbg.checks.finding import Finding, Severity
from kexecdbg.checks.rule import Rule
from kexecdbg.checks.situation import Situation
from kexecdbg.checks.table_base import tables_out_of_place


def _check(situation: Situation) -> Iterator[Finding]:
    if tables_out_of_place(situation) is not None:
        return  # M17: a smaller first table may happen to be aligned
    for field, alternative in alternatives(situation).items():
        if not field.endswith("SZ") or situation.fetch_fault is None:
            continue
        tcr = situation.regime.facts.tcr
        start = next((level.level for level in situation.fetch.levels), None)
        walks = f"the walk starts at level {start}" if start is not None else "no walk is made"
        yield Finding(
            "M10",
            Severity.FATAL,
            f"{tcr}.{field} = {alternative.old} does not fit the tables: {walks} and the next fetch, "
            f"{situation.next_pc:#x}, takes {situation.fetch_fault.phrase} "
            f"({situation.fetch_fault.cause.text}). With {alternative.new} the same tables map it.",
            {"register": tcr, "field": field, "value": alternative.old, "start_level": start},
            alternative.repair,
        )


RULE = Rule(
    "M10",
    "TxSZ does not fit the tables",
    "TxSZ and the granule decide at which level the walk starts and which address bits index the first table. A table "
    "built for another size is read one level too high or too low. A TxSZ outside its range (16 to 39, to 48 with "
    "FEAT_TTST, from 12 with 52-bit addresses) faults at level 0.",
    (
        "Arm ARM D8.2.6 (TxSZ, start level)",
        "Xen eb6fe7a469 (T0SZ = 0); Hafnium 3e6c8533; James Morse, 2019-07-17, on AMD Seattle",
    ),
    _check,
    symptom="Freeze right after the write with ESR 0x86000004 to 0x86000007; the tables look right.",
)
