"""M31: TCR_ELx.DS does not fit the tables, or the CPU: 52-bit descriptors with 4K and 16K pages."""

from __future__ import annotations

from collections.abc import Iterator

from kexecdbg.arm64.bits import bit, bits, field_mask
from kexecdbg.arm64.faults import CauseKind
from kexecdbg.arm64.feature_guesses import FeatureGuesses
from kexecdbg.arm64.geometry import GRANULE_64K, TG0_GRANULES
from kexecdbg.arm64.registers import lookup
from kexecdbg.checks.alternatives import alternatives
from kexecdbg.checks.finding import Finding, RegisterRepair, Severity
from kexecdbg.checks.output_size import output_size_problem
from kexecdbg.checks.qemu_laxity import remark
from kexecdbg.checks.repairs import change_register
from kexecdbg.checks.rule import Rule
from kexecdbg.checks.rules.m07_sign_extended_tcr import is_sign_extended
from kexecdbg.checks.situation import Situation

_WIDEST_WITHOUT_DS = 16


def _check(situation: Situation) -> Iterator[Finding]:
    facts = situation.regime.facts
    tcr = situation.after.require(facts.tcr, "the descriptor format")
    if is_sign_extended(tcr):
        return
    if ds_does_not_fit(situation):
        yield _wrong_format(situation, facts.tcr, tcr)
    elif needs_ds(situation):
        yield _no_level_minus_1(situation, facts.tcr, tcr)
    elif bit(tcr, facts.tcr_layout.ds) and not _has_lpa2(situation, tcr):
        yield Finding(
            "M31",
            Severity.HAZARD,
            f"{facts.tcr}.DS (bit {facts.tcr_layout.ds}) is 1, but this CPU has no FEAT_LPA2 for the granule: the bit "
            "is RES0 and ignored, so bits 9:8 of a leaf are its shareability and not part of the address.",
            {"register": facts.tcr, "field": "DS", "bit": facts.tcr_layout.ds, "value": 1},
            change_register(situation, facts.tcr, tcr & ~(1 << facts.tcr_layout.ds), "clears DS"),
        )


def ds_decides(situation: Situation) -> bool:
    """Whether the next fetch fails, and works with the other value of TCR_ELx.DS."""
    fault = situation.fetch_fault
    # An illegal block that DS = 1 would make legal is M13's.
    return "DS" in alternatives(situation) and (fault is None or fault.cause.kind is not CauseKind.ILLEGAL_BLOCK)


def ds_does_not_fit(situation: Situation) -> bool:
    """Whether the next fetch fails because of TCR_ELx.DS, and the rest of TCR_ELx looks as if it was meant."""
    if not ds_decides(situation):
        return False
    register = situation.regime.facts.tcr
    tcr = situation.after.require(register, "the descriptor format")
    # A value in the layout of the other E2H has another field there (M06), a sign-extended one all ones (M07).
    return lookup(register).layout_for(tcr, situation.after).layout.fits(tcr)


def needs_ds(situation: Situation) -> bool:
    """Whether T0SZ asks for a range that only DS = 1 gives, and setting it does not help: the CPU has no FEAT_LPA2."""
    fault = situation.fetch_fault
    if fault is None or fault.cause.kind is not CauseKind.TXSZ_OUT_OF_RANGE or alternatives(situation):
        return False
    facts = situation.regime.facts
    tcr = situation.after.require(facts.tcr, "the size of the address range")
    upper = facts.is_upper(situation.next_pc)
    return 12 <= bits(tcr, *facts.tcr_layout.ranges[upper].txsz) < _WIDEST_WITHOUT_DS


def _wrong_format(situation: Situation, register: str, tcr: int) -> Finding:
    alternative = alternatives(situation)["DS"]
    fault, position = situation.fetch_fault, situation.regime.facts.tcr_layout.ds
    if alternative.old:
        what = "is 1, so bits 9:8 of a leaf are bits 51:50 of its address, but the tables hold a shareability there"
    else:
        what = "is 0, but the tables are built for 52-bit addresses"
    outcome = f"takes {fault.phrase}" if fault is not None else f"goes to {situation.fetch.pa:#x} instead of the code"
    return Finding(
        "M31",
        Severity.FATAL,
        f"{register}.DS (bit {position}) {what}: the next fetch, {situation.next_pc:#x}, {outcome}."
        + (remark("M31") if alternative.old else ""),
        {"register": register, "field": "DS", "bit": position, "value": alternative.old},
        _with_permitted_size(situation, register, alternative.repair),
    )


def _with_permitted_size(situation: Situation, register: str, repair: RegisterRepair) -> RegisterRepair:
    """The repair of DS with the output size reduced to 48 bits, where 52 bits need DS = 1."""
    problem = output_size_problem(situation.after, situation.regime, repair.new)
    if problem is None:
        return repair
    msb, lsb = situation.regime.facts.tcr_layout.ps
    new = repair.new & ~field_mask(msb, lsb) | problem.limit << lsb
    what = f"clears DS and sets {problem.field} to {problem.limit}"
    return change_register(situation, register, new, what) or repair


def _no_level_minus_1(situation: Situation, register: str, tcr: int) -> Finding:
    facts = situation.regime.facts
    upper = facts.is_upper(situation.next_pc)
    txsz = bits(tcr, *facts.tcr_layout.ranges[upper].txsz)
    assert situation.fetch_fault is not None
    return Finding(
        "M31",
        Severity.FATAL,
        f"{register}.T{upper:d}SZ = {txsz} asks for a {64 - txsz}-bit range, which takes DS = 1 and FEAT_LPA2 "
        f"(FEAT_LVA with 64K pages), and this CPU does not have it: the next fetch, {situation.next_pc:#x}, takes "
        f"{situation.fetch_fault.phrase}.",
        {"register": register, "field": f"T{upper:d}SZ", "value": txsz, "bit": facts.tcr_layout.ds},
    )


def _has_lpa2(situation: Situation, tcr: int) -> bool:
    """Whether the CPU has FEAT_LPA2 for TTBR0's granule; also true when DS does not concern it, or nothing is known."""
    granule = TG0_GRANULES.get(bits(tcr, *situation.regime.facts.tcr_layout.ranges[0].tg))
    if granule is None or granule is GRANULE_64K:
        return True
    return FeatureGuesses(situation.after).lpa2(granule, stage=1)


RULE = Rule(
    "M31",
    "TCR_ELx.DS does not fit the tables or the CPU",
    "With FEAT_LPA2 and TCR_ELx.DS = 1, descriptors of 4K and 16K pages hold 52-bit addresses: bits 9:8 of a leaf are "
    "address bits 51:50 instead of the shareability, a range larger than 48 bits starts at level -1, and the "
    "shareability comes from TCR_ELx.SHn. Tables and DS have to agree. DS is bit 59 of TCR_EL1, but bit 32 of "
    "TCR_EL2 (E2H=0) and TCR_EL3.",
    (
        "Arm ARM D8.2.6 (TCR_ELx.DS), D8.3 (descriptor formats with 52-bit addresses)",
        "EDK2 c624a06aa3, issue 11962",
    ),
    _check,
    symptom="Runs on older CPUs, hangs with QEMU's -cpu max or on CPUs with FEAT_LPA2.",
)
