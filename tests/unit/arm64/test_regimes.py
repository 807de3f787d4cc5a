"""Which regime an exception level uses, and when its MMU is on."""

from __future__ import annotations

import pytest

from kexecdbg.arm64.regimes import Regime, current_el, el2_enabled, mmu_enabled, regime_of
from kexecdbg.errors import RegisterUnknownError

E2H, TGE, DC, VM = 1 << 34, 1 << 27, 1 << 12, 1
VHE = {"ID_AA64MMFR1_EL1": 1 << 8}


@pytest.mark.parametrize(("pstate", "el"), [(0x3C0, 0), (0x3C4, 1), (0x3C5, 1), (0x3C9, 2), (0x3CD, 3)])
def test_current_el(pstate: int, el: int) -> None:
    assert current_el({"PSTATE": pstate}) == el


def test_current_el_unknown() -> None:
    with pytest.raises(RegisterUnknownError, match="PSTATE"):
        current_el({})


@pytest.mark.parametrize(
    ("el", "hcr", "regime"),
    [
        (0, 0, Regime.EL1_0),
        (0, TGE, Regime.EL1_0),
        (0, E2H, Regime.EL1_0),
        (0, E2H | TGE, Regime.EL2_0),
        (1, E2H | TGE, Regime.EL1_0),
        (2, 0, Regime.EL2),
        (2, TGE, Regime.EL2),
        (2, E2H, Regime.EL2_0),
        (3, E2H, Regime.EL3),
    ],
)
def test_regime_of(el: int, hcr: int, regime: Regime) -> None:
    assert regime_of(el, {"HCR_EL2": hcr, **VHE}) is regime


def test_e2h_is_the_effective_one() -> None:
    assert regime_of(2, {"HCR_EL2": E2H, "ID_AA64MMFR1_EL1": 0}) is Regime.EL2, "no FEAT_VHE"
    assert regime_of(2, {"HCR_EL2": 0, "ID_AA64MMFR4_EL1": 0xF << 24}) is Regime.EL2_0, "E2H is RES1"


@pytest.mark.parametrize("el", [0, 2])
def test_regime_of_needs_hcr(el: int) -> None:
    with pytest.raises(RegisterUnknownError, match="HCR_EL2"):
        regime_of(el, {})
    assert regime_of(1, {}) is Regime.EL1_0
    assert regime_of(3, {}) is Regime.EL3


def test_el0_without_el2() -> None:
    assert regime_of(0, {"ID_AA64PFR0_EL1": 0x11}) is Regime.EL1_0


@pytest.mark.parametrize(
    ("hcr", "enabled"), [(0, True), (VM, True), (DC, False), (TGE, False), (E2H, True), (E2H | TGE, False)]
)
def test_mmu_of_el1(hcr: int, enabled: bool) -> None:
    assert mmu_enabled(Regime.EL1_0, {"SCTLR_EL1": 1, "HCR_EL2": hcr}) is enabled
    assert mmu_enabled(Regime.EL1_0, {"SCTLR_EL1": 0, "HCR_EL2": hcr}) is False


@pytest.mark.parametrize("regime", [Regime.EL2, Regime.EL2_0, Regime.EL3])
def test_mmu_of_the_others_is_sctlr_alone(regime: Regime) -> None:
    for value in (0, 1):
        assert mmu_enabled(regime, {regime.facts.sctlr: value, "HCR_EL2": DC | TGE}) is bool(value)


def test_el2_is_disabled_in_secure_state_without_sel2() -> None:
    assert el2_enabled({"SCR_EL3": 1})
    assert el2_enabled({"SCR_EL3": 1 << 18})
    assert not el2_enabled({"SCR_EL3": 0})
    assert mmu_enabled(Regime.EL1_0, {"SCTLR_EL1": 1, "SCR_EL3": 0})


@pytest.mark.parametrize(
    ("regime", "names"),
    [
        (Regime.EL1_0, ("SCTLR_EL1", "TCR_EL1", "TTBR0_EL1", "TTBR1_EL1", "VBAR_EL1", "TCR2_EL1")),
        (Regime.EL2, ("SCTLR_EL2", "TCR_EL2", "TTBR0_EL2", None, "VBAR_EL2", "TCR2_EL2")),
        (Regime.EL2_0, ("SCTLR_EL2", "TCR_EL2", "TTBR0_EL2", "TTBR1_EL2", "VBAR_EL2", "TCR2_EL2")),
        (Regime.EL3, ("SCTLR_EL3", "TCR_EL3", "TTBR0_EL3", None, "VBAR_EL3", "TCR_EL3")),
    ],
)
def test_registers_of_each_regime(regime: Regime, names: tuple[str | None, ...]) -> None:
    facts = regime.facts
    assert (facts.sctlr, facts.tcr, facts.ttbr0, facts.ttbr1, facts.vbar, facts.extensions.register) == names
    assert facts.two_ranges == (facts.ttbr1 is not None) == (len(facts.tcr_layout.ranges) == 2)
