"""M08: the output size in TCR_ELx is too small for a table or for the code."""

from __future__ import annotations

from collections.abc import Iterator

from kexecdbg.arm64.bits import bits, field_mask
from kexecdbg.arm64.faults import FaultKind
from kexecdbg.checks.alternatives import alternatives
from kexecdbg.checks.finding import Finding, RegisterRepair, Severity
from kexecdbg.checks.repairs import change_register
from kexecdbg.checks.rule import Rule
from kexecdbg.checks.rules.m31_lpa2 import ds_decides
from kexecdbg.checks.situation import Situation

_LARGEST_PS_WITHOUT_LPA = 5


def _check(situation: Situation) -> Iterator[Finding]:
    fault = situation.fetch_fault
    if fault is None or fault.kind is not FaultKind.ADDRESS_SIZE or ds_decides(situation):
        return
    facts = situation.regime.facts
    tcr = situation.after.require(facts.tcr, "the output size")
    msb, lsb = facts.tcr_layout.ps
    repair = _repair(situation, facts.tcr, tcr, msb, lsb)
    yield Finding(
        "M08",
        Severity.FATAL,
        f"The next fetch, {situation.next_pc:#x}, takes {fault.phrase}: {fault.cause.text}.",
        {
            "register": facts.tcr,
            "field": fault.cause.field,
            "value": bits(tcr, msb, lsb),
            "address": fault.cause.address,
            "level": fault.cause.level,
        },
        repair,
        # Tables read with the wrong granule hold addresses that nobody meant: no output size is large enough for them.
        is_consequence=repair is None and bool(alternatives(situation)),
    )


def _repair(situation: Situation, register: str, tcr: int, msb: int, lsb: int) -> RegisterRepair | None:
    mmfr0 = situation.after.get("ID_AA64MMFR0_EL1")
    if mmfr0 is None:
        return None
    size = min(bits(mmfr0, 3, 0), _LARGEST_PS_WITHOUT_LPA)
    new = tcr & ~field_mask(msb, lsb) | size << lsb
    return change_register(situation, register, new, f"sets bits {msb}:{lsb} to {size}, what the CPU implements")


RULE = Rule(
    "M08",
    "The output size is smaller than an address on the path",
    "TCR_ELx.PS (IPS in the layout with two ranges) limits every address the walk produces: the table base, each next "
    "table, the page. Beyond it the walk ends in an Address size fault; for the table base that is level 0, whatever "
    "the start level.",
    ("Arm ARM D8.2.4 (output address size)", "Linux [RFC v2 8/8] on VHE"),
    _check,
    symptom="Freeze right after the write with ESR 0x86000000 to 0x86000003 (Address size fault).",
)
