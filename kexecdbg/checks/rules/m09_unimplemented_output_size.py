"""M09: TCR_ELx.PS is larger than the CPU has, or reserved."""

from __future__ import annotations

from collections.abc import Iterator

from kexecdbg.arm64.bits import field_mask
from kexecdbg.checks.finding import Finding, Severity
from kexecdbg.checks.output_size import output_size_problem
from kexecdbg.checks.qemu_laxity import remark
from kexecdbg.checks.repairs import change_register
from kexecdbg.checks.rule import Rule
from kexecdbg.checks.rules.m07_sign_extended_tcr import is_sign_extended
from kexecdbg.checks.rules.m31_lpa2 import ds_decides
from kexecdbg.checks.situation import Situation


def _check(situation: Situation) -> Iterator[Finding]:
    facts = situation.regime.facts
    tcr = situation.after.require(facts.tcr, "the output size")
    problem = output_size_problem(situation.after, situation.regime, tcr)
    if problem is None or is_sign_extended(tcr) or ds_decides(situation):
        return  # M07, M31
    msb, lsb = facts.tcr_layout.ps
    intended = tcr & ~field_mask(msb, lsb) | problem.limit << lsb
    yield Finding(
        "M09",
        Severity.HAZARD,
        f"{problem.text}. What the CPU does with it must not be relied upon.{remark('M09')}",
        {
            "register": facts.tcr,
            "field": problem.field,
            "value": problem.value,
            "PARange": problem.parange,
        },
        change_register(situation, facts.tcr, intended, f"sets {problem.field} to {problem.limit}"),
    )


RULE = Rule(
    "M09",
    "The output size is larger than the CPU has",
    "ID_AA64MMFR0_EL1.PARange copied into TCR_ELx.PS as it is gives 6, 52 bits, on a CPU with FEAT_LPA. That value is "
    "permitted only with the 64 KB granule or with DS = 1; 7 is reserved without FEAT_D128, and a size above PARange "
    "must not be relied upon.",
    (
        "Arm ARM D23.2.167, TCR_EL1.IPS; ID_AA64MMFR0_EL1.PARange",
        "Xen 407b13a71e; jailhouse c1489607; Hafnium 4f1880ca",
    ),
    _check,
    severity=Severity.HAZARD,
    symptom="Crashes or misbehaves on CPUs with large physical addresses only.",
)
