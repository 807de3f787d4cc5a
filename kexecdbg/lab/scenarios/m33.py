"""M33: an unaligned access."""

from __future__ import annotations

from kexecdbg.lab.enable import EnableCase, EnableSetup
from kexecdbg.lab.enable_scenarios import ALL_REGIMES, SHORT_NAMES
from kexecdbg.lab.enable_values import textbook_sequence
from kexecdbg.lab.scenario import Scenario

_SCTLR_A, _SCTLR_SA = 1 << 1, 1 << 3


def _alignment_checked(setup: EnableSetup) -> None:
    setup.registers.sctlr |= _SCTLR_A


def _stack_checked(setup: EnableSetup) -> None:
    setup.registers.sctlr |= _SCTLR_SA
    setup.registers.sp -= 8


SCENARIOS = (
    *(
        Scenario(
            "M33" if number == 0 else f"M33-{SHORT_NAMES[regime]}",
            "M33",
            f"{regime.value}: an unaligned load with SCTLR.A set",
            EnableCase(regime, sequence=(*textbook_sequence(regime), "ldur x9, [x0, #1]"), defect=_alignment_checked),
            frozenset({"M33"}),
        )
        for number, regime in enumerate(ALL_REGIMES)
    ),
    Scenario(
        "M33-stack",
        "M33",
        "EL2: SP is a multiple of 8 only, with SCTLR.SA set",
        EnableCase(defect=_stack_checked),
        frozenset({"M33"}),
        "does not check the alignment of SP (target/arm/translate-a64.c, gen_check_sp_alignment)",
    ),
)
