"""What QEMU keeps of written system registers, as it was seen on its CPUs."""

from __future__ import annotations

import pytest

from kexecdbg.machine.state import CpuState
from kexecdbg.qemu.kept_bits import kept_of

A57 = {name: 0 for name in ("ID_AA64PFR1_EL1", "ID_AA64MMFR1_EL1", "ID_AA64MMFR2_EL1")} | {
    "ID_AA64ISAR1_EL1": 0,
    "ID_AA64ISAR2_EL1": 0,
}
"""QEMU 7.2's cortex-a57."""
MAX_WITHOUT_TAGS = A57 | {
    "ID_AA64PFR1_EL1": 0x100_0021,
    "ID_AA64MMFR1_EL1": 0x110_1021_1122,
    "ID_AA64MMFR2_EL1": 0x1021_0110_1001_1011,
    "ID_AA64ISAR1_EL1": 0x0011_1111_1021_1102,
}
"""QEMU 7.2's max on virt without mte=on; bits 11:8 of ID_AA64PFR1_EL1 are 0."""
LINUX_SCTLR_EL1 = 0x0200_0020_34F4_D91D
"""What Linux 6.1 writes without MTE itself (INIT_SCTLR_EL1_MMU_ON): ITFSB is set all the same."""
LINUX_HCR_NVHE = 0x0100_0300_8000_0000
"""HCR_HOST_NVHE_FLAGS: RW, API, APK, ATA."""


@pytest.mark.parametrize(
    ("cpu", "register", "written", "kept"),
    [
        (A57, "SCTLR_EL1", LINUX_SCTLR_EL1, 0x0200_0000_34F4_D91D),
        (MAX_WITHOUT_TAGS, "SCTLR_EL1", LINUX_SCTLR_EL1, 0x0200_0000_34F4_D91D),
        ({**A57, "ID_AA64PFR1_EL1": 0x200}, "SCTLR_EL1", LINUX_SCTLR_EL1, LINUX_SCTLR_EL1),
        ({}, "SCTLR_EL1", LINUX_SCTLR_EL1, LINUX_SCTLR_EL1),  # nothing is known of the CPU
        (A57, "SCTLR_EL3", 0xFFFF_FFFF_FFFF_FFFF, 0xFFFF_F4DF_FFFF_FFFF),
        (A57, "HCR_EL2", LINUX_HCR_NVHE, 0x8000_0000),
        (MAX_WITHOUT_TAGS, "HCR_EL2", LINUX_HCR_NVHE | 1 << 34, 0x0000_0304_8000_0000),
        (A57, "VBAR_EL1", 0x4008_081F, 0x4008_0800),
        (A57, "TTBR0_EL1", 0xFFFF_FFFF_FFFF_FFFF, 0xFFFF_FFFF_FFFF_FFFF),
    ],
)
def test_features_that_the_cpu_lacks(cpu: dict[str, int], register: str, written: int, kept: int) -> None:
    assert kept_of(register, written, CpuState(cpu)) == kept
