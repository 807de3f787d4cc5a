"""The moment before the switch, made up: code, vectors and tables in memory, control registers in a dict."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from kexecdbg.arm64.geometry import TableFormat
from kexecdbg.checks.finding import DescriptorRepair, Finding, Repair
from kexecdbg.checks.judging import judge
from kexecdbg.checks.situation import Situation, situation_at
from kexecdbg.checks.verdict import Verdict
from kexecdbg.lab.tables import LINUX_4K_48BIT, TableBuilder
from kexecdbg.machine.memory import BytesMemory
from kexecdbg.machine.memory_map import MemoryMap, Region, RegionKind
from kexecdbg.machine.overlay_memory import OverlayMemory
from kexecdbg.machine.state import CpuState

ROOT = 0x1_4000_0000
CODE = 0x1_4010_0000
VECTORS = 0x1_4040_0000
TWIN, OTHER, ZEROS = 0x1_4080_0000, 0x1_4080_1000, 0x1_4080_2000
"""Pages with the same code, with other code, and without any."""
SITE = CODE + 0x120
NEXT = SITE + 4

EXEC = 0x0088_0000_0000_0713
"""Read, write and execute at EL2; bits 54 and 53 clear, AF set, AttrIndx 4."""
DEVICE_PAGE = 0x0040_0000_0000_0707
"""Device-nGnRE (AttrIndx 1), XN."""
UXN, PXN, AP1, AP2, AF = 1 << 54, 1 << 53, 1 << 6, 1 << 7, 1 << 10
XN_TABLE, PXN_TABLE = 1 << 60, 1 << 59

SCTLR = 0x30E5_183F
WXN, EE = 1 << 19, 1 << 25
NARROW, WIDE = 0x8084_3510, 0x4_0080_3510
"""TCR_EL2 for 48 bits, 4 KiB, without and with E2H."""
MAX_CPU = {"ID_AA64MMFR0_EL1": 0x0323_1020_0006}
"""52-bit addresses, FEAT_LPA2 with 4K and 16K pages."""
VHE = {"HCR_EL2": 0x4_8800_0000, "ID_AA64MMFR1_EL1": 1 << 8, "TCR_EL2": WIDE}

MSR_SCTLR_X14 = {1: 0xD518_100E, 2: 0xD51C_100E, 3: 0xD51E_100E}
"""``msr sctlr_elX, x14`` by level."""
_NOP, _ISB = 0xD503_201F, 0xD503_3FDF

CORTEX_A57 = {
    "PC": SITE,
    "PSTATE": 0x3C9,
    "X14": SCTLR,
    "HCR_EL2": 0x8000_0000,
    "SCTLR_EL1": 0x30D0_0800,
    "SCTLR_EL2": 0x30C5_0830,
    "TCR_EL1": 0x4_B510_3510,
    "TCR_EL2": NARROW,
    "MAIR_EL1": 0xBBFF_440C_0400,
    "MAIR_EL2": 0xBBFF_440C_0400,
    "TTBR0_EL1": ROOT,
    "TTBR1_EL1": ROOT,
    "TTBR0_EL2": ROOT,
    "VBAR_EL1": VECTORS,
    "VBAR_EL2": VECTORS,
    "ID_AA64MMFR0_EL1": 0x1124,
    "ID_AA64MMFR1_EL1": 0,
    "ID_AA64MMFR2_EL1": 0,
    "ID_AA64MMFR3_EL1": 0,
    "ID_AA64PFR0_EL1": 0x1111,
}
EL1 = {"PSTATE": 0x3C5, "X14": 0x30D0_1805}
EL3 = {
    "PSTATE": 0x3CD,
    "X14": 0x30C5_1835,
    "SCTLR_EL3": 0x30C5_0830,
    "TCR_EL3": NARROW,
    "MAIR_EL3": 0xBBFF_440C_0400,
    "TTBR0_EL3": ROOT,
    "VBAR_EL3": VECTORS,
    "SCR_EL3": 0x5B1,
}


@dataclass(frozen=True)
class Moment:
    """What is special about the moment; the defaults are sound and leave no finding.

    Attributes:
        code, vectors: attributes of the two pages; ``None`` when not mapped.
        to: physical page that the code's address leads to.
        table_bits: ORed into every table descriptor.
        registers: changed registers; ``None`` makes one unknown.
        adjust: further changes to the tables.
        big_endian: whether the tables are written so.
        instructions: words in place of the ``nop`` of the code page, by address; the write is at :data:`SITE`.
        regions: the memory map, when the machine has one.
        extra: further contents of memory.
        table: format of the tables.
    """

    code: int | None = EXEC
    vectors: int | None = EXEC
    to: int = CODE
    table_bits: int = 0
    registers: Mapping[str, int | None] = field(default_factory=dict)
    adjust: Callable[[TableBuilder], None] = field(default=lambda tables: None)
    big_endian: bool = False
    instructions: Mapping[int, int] = field(default_factory=dict)
    regions: tuple[Region, ...] = ()
    extra: Mapping[int, bytes] = field(default_factory=dict)
    table: TableFormat = LINUX_4K_48BIT

    def values(self) -> dict[str, int]:
        """The registers."""
        merged = {**CORTEX_A57, **self.registers}
        return {name: value for name, value in merged.items() if value is not None}

    def tables(self) -> TableBuilder:
        """The tables."""
        free = iter(range(ROOT, CODE, 0x1000))
        tables = TableBuilder(lambda size: next(free), self.table_bits, self.table)
        if self.code is not None:
            tables.map_page(CODE, self.to, self.code)
        if self.vectors is not None:
            tables.map_page(VECTORS, VECTORS, self.vectors)
        self.adjust(tables)
        return tables

    def memory(self) -> BytesMemory:
        """Tables, code and the other pages."""
        contents = {address: in_order(data, self.big_endian) for address, data in self.tables().pages().items()}
        el = self.values()["PSTATE"] >> 2 & 3
        contents = {**contents, **pages({SITE: MSR_SCTLR_X14[el], **self.instructions}), **self.extra}
        return MappedBytes(contents, self.regions) if self.regions else BytesMemory(contents)

    def situation(self) -> Situation:
        """The situation at the switch."""
        return situation_at(CpuState(self.values()), self.memory())

    def verdict(self) -> Verdict:
        """The verdict on it."""
        return judge(self.situation())

    def findings(self, rule: str) -> list[Finding]:
        """What one rule says."""
        return [finding for finding in self.verdict().findings if finding.id == rule]


def in_order(data: bytes, big_endian: bool) -> bytes:
    """Descriptors in the byte order that is asked for."""
    return b"".join(data[i : i + 8][::-1] for i in range(0, len(data), 8)) if big_endian else data


def pages(instructions: Mapping[int, int]) -> dict[int, bytes]:
    """The code page with ``instructions``, its twin, a page of others, one of zeros, and the vectors."""
    code = bytearray(_NOP.to_bytes(4, "little") * 1024)
    for address, word in instructions.items():
        code[address - CODE : address - CODE + 4] = word.to_bytes(4, "little")
    return {
        CODE: bytes(code),
        TWIN: bytes(code),
        OTHER: _ISB.to_bytes(4, "little") * 1024,
        ZEROS: bytes(4096),
        VECTORS: _NOP.to_bytes(4, "little") * 1024,
    }


def repaired(situation: Situation, repairs: list[Repair]) -> Verdict:
    """The verdict once ``repairs`` have been made: registers as the switch leaves them, descriptors in memory."""
    registers, words = {}, {}
    for repair in repairs:
        if isinstance(repair, DescriptorRepair):
            words[repair.address] = repair.new
        else:
            registers[repair.register] = repair.new
    big_endian = bool((situation.after.get(situation.regime.facts.sctlr) or 0) & EE)
    memory = OverlayMemory(situation.memory, words, big_endian)
    after = situation.after.with_values(registers)
    return judge(Situation(situation.before, after, memory, situation.site, situation.next_pc))


class MappedBytes(BytesMemory):
    """Bytes of a machine that knows its memory map."""

    def __init__(self, contents: dict[int, bytes], regions: tuple[Region, ...]) -> None:
        super().__init__(contents)
        self.memory_map = MemoryMap(regions)


RAM = Region(0x1_4000_0000, 0x1_8000_0000, RegionKind.RAM, "ram")
UART = Region(0x0900_0000, 0x0900_1000, RegionKind.DEVICE, "pl011")
MACHINE = (RAM, UART)
"""A memory map that everything in a moment lies in."""
