"""M17: TTBRn_ELx holds bits that are not part of an aligned table address."""

from __future__ import annotations

from collections.abc import Iterator

from kexecdbg.arm64.bits import bit, bits, field_mask
from kexecdbg.arm64.features import has_feature
from kexecdbg.arm64.translation import Stage1
from kexecdbg.checks.finding import Finding, RegisterRepair, Severity
from kexecdbg.checks.qemu_laxity import remark
from kexecdbg.checks.repairs import change_register
from kexecdbg.checks.rule import Rule
from kexecdbg.checks.situation import Situation
from kexecdbg.checks.table_base import low_bits, tables_out_of_place, walked_ranges

_ASID = (63, 48)
_CNP = 0


def _check(situation: Situation) -> Iterator[Finding]:
    for stage1 in walked_ranges(situation):
        ttbr = situation.after.require(stage1.ttbr, "where the tables are")
        yield from _misaligned(situation, stage1, ttbr)
        yield from _reserved(situation, stage1, ttbr)


def _misaligned(situation: Situation, stage1: Stage1, ttbr: int) -> Iterator[Finding]:
    low = low_bits(stage1, ttbr)
    if not low:
        return
    alignment = stage1.table.base_alignment
    evidence: dict[str, int | str | None] = {
        "register": stage1.ttbr,
        "field": "BADDR",
        "value": ttbr,
        "address": stage1.base,
        "alignment": alignment,
    }
    where = f"{stage1.ttbr} holds {stage1.base | low:#x}, not aligned to the first table's {alignment:#x} bytes"
    if tables_out_of_place(situation) == stage1.base | low:
        yield Finding(
            "M17",
            Severity.FATAL,
            f"{where}: the walk reads {stage1.base:#x} instead, and the next fetch, {situation.next_pc:#x}, does not "
            "find its descriptor. The tables have to be moved.",
            evidence,
        )
        return
    yield Finding(
        "M17",
        Severity.HAZARD,
        f"{where}: the low bits are RES0, and what a CPU makes of them is CONSTRAINED UNPREDICTABLE.{remark('M17')}",
        evidence,
        change_register(situation, stage1.ttbr, ttbr & ~low, f"clears the low bits: the table is at {stage1.base:#x}"),
    )


def _reserved(situation: Situation, stage1: Stage1, ttbr: int) -> Iterator[Finding]:
    """ASID and CnP where the regime or the CPU does not have them."""
    if bits(ttbr, *_ASID) and not stage1.regime.facts.two_ranges:
        yield Finding(
            "M17",
            Severity.HAZARD,
            f"{stage1.ttbr} = {ttbr:#x} has bits 63:48 set: they are the ASID in a regime with EL0, but RES0 in the "
            f"{stage1.regime.value} regime.{remark('M17')}",
            {"register": stage1.ttbr, "field": "bits 63:48", "value": ttbr},
            _cleared(situation, stage1.ttbr, ttbr, field_mask(*_ASID), "clears bits 63:48"),
        )
    if bit(ttbr, _CNP) and has_feature(situation.after, "FEAT_TTCNP") is False:
        yield Finding(
            "M17",
            Severity.HAZARD,
            f"{stage1.ttbr} = {ttbr:#x} has bit 0 set, which is CnP with FEAT_TTCNP, but RES0 on this CPU "
            f"(ID_AA64MMFR2_EL1.CnP is 0).{remark('M17')}",
            {"register": stage1.ttbr, "field": "CnP", "bit": _CNP, "value": ttbr},
            _cleared(situation, stage1.ttbr, ttbr, 1 << _CNP, "clears bit 0"),
        )


def _cleared(situation: Situation, register: str, value: int, mask: int, what: str) -> RegisterRepair | None:
    return change_register(situation, register, value & ~mask, what)


RULE = Rule(
    "M17",
    "TTBR does not hold an aligned table address",
    "The first table has to be aligned to its own size (4 KiB for a full 4K table, less when TxSZ makes it smaller). "
    "Bits below that are RES0: a CPU ignores them, or the addresses of its walks are corrupted in those bits. Bits "
    "63:48 are an ASID only in a regime with EL0, bit 0 is CnP only with FEAT_TTCNP.",
    ("Arm ARM D8.2.5 (translation table base address), TTBR0_EL1.BADDR", "rust-raspberrypi 1b69b5dc"),
    _check,
    symptom="The walk reads garbage; or it works in QEMU and on some CPUs only.",
)
