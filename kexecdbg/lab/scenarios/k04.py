"""K04: the pages are copied at a level whose MMU stays off."""

from __future__ import annotations

from kexecdbg.lab.relocation import RelocationCase, RelocationSetup
from kexecdbg.lab.relocation_scenarios import relocation_scenario

_MSR_SCTLR_EL1_X14 = 0xD518_100E


def _switch_the_other_mmu_on(setup: RelocationSetup) -> None:
    setup.patch("turn_on_mmu_sctlr_write", _MSR_SCTLR_EL1_X14)


SCENARIOS = (
    relocation_scenario(
        "K04",
        "at EL2, the write that should switch the MMU on goes to SCTLR_EL1",
        RelocationCase(defect=_switch_the_other_mmu_on),
        "K04",
        "M27",
        qemu_lets_it_pass="the copy works with the MMU off, only slowly, and QEMU has no caches that could be off",
    ),
)
