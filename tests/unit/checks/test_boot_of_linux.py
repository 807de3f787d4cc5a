"""What Linux does when it boots is sound, and is not reported: its switches as moments on paper."""

from __future__ import annotations

import pytest

from tests.unit.checks.moments import EL1, OTHER, SITE, VECTORS, Moment
from tests.unit.checks.stuck_moments import ERET

NOT_MAPPED = OTHER
"""In place of the kernel's address that KVM's set-up of EL2 returns to, which EL2 does not map."""
TO_EL1H = 0x3C5
TO_EL2H = 0x3C9


@pytest.mark.parametrize(("spsr", "faults"), [(TO_EL1H, False), (TO_EL2H, True)])
def test_after_a_return_to_another_level_this_ones_tables_say_nothing(spsr: int, faults: bool) -> None:
    """___kvm_hyp_init (arch/arm64/kvm/hyp/nvhe/hyp-init.S) switches the MMU of EL2 on and returns to EL1."""
    returns = {"ELR_EL2": NOT_MAPPED, "SPSR_EL2": spsr}
    verdict = Moment(registers=returns, instructions={SITE + 4: ERET}).verdict()
    assert any(finding.id == "M29" for finding in verdict.findings) is faults


def test_vectors_of_a_higher_level_say_nothing_about_those_of_this_one() -> None:
    """Early boot at EL1 (head.S, __enable_mmu): VBAR_EL2 has the hyp stub's vectors, VBAR_EL1 is still 0."""
    moment = Moment(registers={**EL1, "SCTLR_EL1": 0x30D0_0800, "VBAR_EL1": 0, "VBAR_EL2": VECTORS})
    assert moment.findings("M27") == []
    assert [finding.severity.name for finding in moment.findings("M05")] == ["HAZARD"]
