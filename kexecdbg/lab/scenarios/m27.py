"""M27: the register of another exception level."""

from __future__ import annotations

from kexecdbg.arm64.regimes import Regime
from kexecdbg.checks.qemu_laxity import LAXITY
from kexecdbg.lab.enable import EnableCase
from kexecdbg.lab.enable_values import textbook_sequence
from kexecdbg.lab.scenario import Scenario


def _instead(regime: Regime, right: str, wrong: str) -> EnableCase:
    """The textbook's sequence of ``regime`` with one register mixed up."""
    lines = tuple(line.replace(f"msr {right},", f"msr {wrong},") for line in textbook_sequence(regime))
    assert lines != textbook_sequence(regime)
    return EnableCase(regime, sequence=lines)


SCENARIOS = (
    Scenario(
        "M27",
        "M27",
        "EL2: the code sets SCTLR_EL1.M and goes on with its MMU off",
        _instead(Regime.EL2, "SCTLR_EL2", "SCTLR_EL1"),
        frozenset({"M27"}),
    ),
    Scenario(
        "M27-EL3",
        "M27",
        "EL3: the code sets SCTLR_EL2.M and goes on with its MMU off",
        _instead(Regime.EL3, "SCTLR_EL3", "SCTLR_EL2"),
        frozenset({"M27"}),
    ),
    Scenario(
        "M27-VHE",
        "M27",
        "EL2&0: SCTLR_EL12 is the guest's register",
        _instead(Regime.EL2_0, "SCTLR_EL2", "SCTLR_EL12"),
        frozenset({"M27"}),
    ),
    Scenario(
        "M27-undefined",
        "M27",
        "EL1&0: SCTLR_EL2 is UNDEFINED at EL1",
        _instead(Regime.EL1_0, "SCTLR_EL1", "SCTLR_EL2"),
        frozenset({"M27"}),
    ),
    Scenario(
        "M27-undefined-EL12",
        "M27",
        "EL2: SCTLR_EL12 is UNDEFINED with HCR_EL2.E2H = 0",
        _instead(Regime.EL2, "SCTLR_EL2", "SCTLR_EL12"),
        frozenset({"M27"}),
    ),
    Scenario(
        "M27-TTBR0",
        "M27",
        "EL2: the tables' address written to TTBR0_EL1",
        _instead(Regime.EL2, "TTBR0_EL2", "TTBR0_EL1"),
        frozenset({"M27"}),
    ),
    Scenario(
        "M27-MAIR",
        "M27",
        "EL2: the memory types written to MAIR_EL1",
        _instead(Regime.EL2, "MAIR_EL2", "MAIR_EL1"),
        frozenset({"M27", "M28", "M32"}),
        qemu_lets_it_pass=LAXITY["M32"].text,
    ),
)
