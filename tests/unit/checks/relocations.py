"""The relocation guest without QEMU: its image in memory, its first registers, the switch that its code leads to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache

from kexecdbg.arm64.interfaces import PhysicalMemory
from kexecdbg.checks.finding import Finding
from kexecdbg.checks.rules import all_rules
from kexecdbg.checks.situation import Situation, situation_at
from kexecdbg.lab.recipe import LabGuest
from kexecdbg.lab.relocation import RelocationCase
from kexecdbg.lab.relocation_scenarios import EXECUTABLE_AT_EL2
from kexecdbg.lab.relocation_v9 import RelocationV9Case
from kexecdbg.machine.memory_map import MemoryMap, Region, RegionKind
from kexecdbg.machine.state import CpuState

RAM = Region(0x4000_0000, 0x2_4000_0000, RegionKind.RAM, "ram")
FLASH = Region(0, 0x0400_0000, RegionKind.ROM, "virt.flash0")
UART = Region(0x0900_0000, 0x0900_1000, RegionKind.DEVICE, "pl011")

SOUND = RelocationCase(vectors_descriptor=EXECUTABLE_AT_EL2)
SOUND_V9 = RelocationV9Case()
AT_EL1 = replace(SOUND, drop_to_el1=True)

RESET = {
    "PSTATE": 0x3C9,
    "SCTLR_EL1": 0x00C5_0838,
    "SCTLR_EL2": 0x00C5_0830,
    "VBAR_EL1": 0,
    "TCR_EL2": 0,
    "MAIR_EL2": 0,
    "TTBR0_EL1": 0,
    "TTBR1_EL1": 0,
    "TTBR0_EL2": 0,
    "CCSIDR_EL1": 0x701F_E00A,
    "ID_AA64PFR0_EL1": 0x2222,
    "ID_AA64MMFR0_EL1": 0x1124,
    "ID_AA64MMFR1_EL1": 0,
    "ID_AA64MMFR2_EL1": 0,
    "ID_AA64MMFR3_EL1": 0,
    "CTR_EL0": 0x8444_C004,
    "SP": 0,
}
"""What a cortex-a57 starts with, as far as the guest does not set it; PSTATE is EL2h."""


class SparseRam:
    """RAM of the lab machine: the image, and zeros around it."""

    def __init__(self, contents: Mapping[int, bytes], *devices: Region) -> None:
        self.contents = {start: bytearray(data) for start, data in contents.items()}
        self.memory_map = MemoryMap([RAM, FLASH, UART, *devices])

    def read(self, address: int, size: int) -> bytes:
        """Exactly ``size`` bytes of RAM."""
        self.memory_map.check_readable(address, size)
        found = bytearray(size)
        for start, data in self.contents.items():
            low, high = max(address, start), min(address + size, start + len(data))
            if low < high:
                found[low - address : high - address] = data[low - start : high - start]
        return bytes(found)


Case = RelocationCase | RelocationV9Case


@cache
def guest_of(case: Case) -> LabGuest:
    """The laid-out case; building one takes a moment."""
    return case.build()


def memory_of(case: Case) -> SparseRam:
    """The guest's memory."""
    return SparseRam(guest_of(case).image.runs())


def at_switch(case: Case, memory: PhysicalMemory | None = None) -> Situation:
    """The switch that the guest comes to, from its first instruction on."""
    state = CpuState({**RESET, "PC": guest_of(case).program.entry})
    return situation_at(state, memory or memory_of(case))


def kexec_findings(situation: Situation) -> list[Finding]:
    """What the rules on kexec say."""
    return [finding for rule in all_rules() if rule.id.startswith("K") for finding in rule.check(situation)]


def findings(situation: Situation, rule: str) -> list[Finding]:
    """What one rule says, and nothing else from the rules on kexec."""
    found = kexec_findings(situation)
    assert {finding.id for finding in found} <= {rule}
    return found


def only(situation: Situation, rule: str) -> Finding:
    """The one finding of the rules on kexec, which is of ``rule``."""
    (finding,) = findings(situation, rule)
    return finding


def symbol(case: RelocationCase | RelocationV9Case, name: str) -> int:
    return guest_of(case).program.symbols[name]


def source_of(case: RelocationCase, destination: int) -> int:
    return next(copy.source for copy in case.build().copies if copy.destination == destination)
