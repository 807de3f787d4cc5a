"""M07: bits 63:32 of TCR_ELx are all set, as after a sign extension from bit 31."""

from __future__ import annotations

from collections.abc import Iterator

from kexecdbg.arm64.bits import bits
from kexecdbg.checks.finding import Finding, Severity
from kexecdbg.checks.output_size import implemented_size
from kexecdbg.checks.qemu_laxity import remark
from kexecdbg.checks.repairs import change_register
from kexecdbg.checks.rule import Rule
from kexecdbg.checks.situation import Situation

_UPPER_HALF = 0xFFFF_FFFF


def is_sign_extended(tcr: int) -> bool:
    """Whether ``tcr`` looks like a 32-bit value that was sign-extended."""
    return bits(tcr, 63, 32) == _UPPER_HALF


def _check(situation: Situation) -> Iterator[Finding]:
    facts = situation.regime.facts
    tcr = situation.after.require(facts.tcr, "how the regime translates")
    if not is_sign_extended(tcr):
        return
    intended, what = bits(tcr, 31, 0), "clears bits 63:32"
    if facts.two_ranges:
        size = implemented_size(situation.after)
        intended |= size << facts.tcr_layout.ps[1]
        what += f", with IPS = {size}"
    fault = situation.fetch_fault
    severity = Severity.FATAL
    if fault is not None:
        consequence = f"The next fetch, {situation.next_pc:#x}, takes {fault.phrase}"
    elif situation.intended_code is not None and not situation.finds_intended_code(situation.fetch):
        consequence = f"The next fetch, {situation.next_pc:#x}, goes to {situation.fetch.pa or 0:#x}"
    else:
        severity = Severity.HAZARD
        consequence = "Bits that the CPU does not know today count on a newer one"
    yield Finding(
        "M07",
        severity,
        f"Bits 63:32 of {facts.tcr} = {tcr:#x} are all set: a 32-bit value that was sign-extended from bit 31, "
        f"{'IPS = 7 and DS = 1 among them' if facts.two_ranges else 'DS (bit 32) among them'}. "
        f"{consequence}.{remark('M07')}",
        {"register": facts.tcr, "field": "bits 63:32", "value": tcr},
        change_register(situation, facts.tcr, intended, what),
    )


RULE = Rule(
    "M07",
    "TCR_ELx sign-extended from bit 31",
    "Bit 31 of TCR_EL2 and TCR_EL3 is RES1. Code that builds the value in a signed 32-bit variable gets bits 63:32 "
    "set. Older CPUs ignore them; newer ones find DS, tag and permission controls there, and in the layout with two "
    "ranges IPS, TBI, HPD and E0PD.",
    (
        "U-Boot 2b641211c51; EDK2 31441f2983, 5eeac91bc4",
        "the reverse, a value cut to 32 bits: U-Boot be48369f32a, Xen 25e5d0c412 (reported as M08)",
    ),
    _check,
    symptom="Works for years, then hangs right after the write on a CPU with newer extensions.",
)
