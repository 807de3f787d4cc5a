"""The relocation guest: "old kernel", page list, trans_table and "new kernel" of one lab case, laid out in RAM.

The trans_table maps what "[RFC v2 7/8]" of the 2019 series maps, page by page with VA equal to PA: the relocation code
with PAGE_KERNEL_EXEC; argument, page list, sources and destinations with PAGE_KERNEL. A case changes bits of it.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from dataclasses import dataclass, field

from kexecdbg.kexec.page_list import PAGE_SIZE, PageCopy, build_page_list
from kexecdbg.kexec.reloc_arg import RFC_V2
from kexecdbg.lab.guest import GuestProgram, build_program
from kexecdbg.lab.image import RamImage
from kexecdbg.lab.recipe import LabGuest
from kexecdbg.lab.tables import PAGE_KERNEL, PAGE_KERNEL_EXEC, Arena, TableBuilder

TRANS_TABLE = 0x1_B306_9000
"""TTBR0_EL2 in the mail: the first page of the tables. The others follow it."""
RELOCATION_CODE = 0x1_B308_0000
ARGUMENT = 0x1_B308_1000
PAGE_LIST = 0x1_B309_0000
VECTORS = 0x1_B30A_0000
OLD_KERNEL = 0x1_B30B_0000
SOURCES = 0x1_B320_0000
SOURCE_PAGES = 256
DEVICE_TREE = 0x1_8000_0000
NEW_KERNEL = 0x1_8008_0000
NEW_KERNEL_PAGES = 64

ARRIVED = "new kernel: arrived whole.*"
"""Regular expression of the line that the new kernel prints when every page is what it should be."""

_FDT_HEADER = struct.pack(">10I", 0xD00DFEED, 72, 56, 56, 40, 17, 16, 0, 0, 16)
_FDT_BODY = struct.pack(">8I", 0, 0, 0, 0, 1, 0, 2, 9)
"""The smallest flattened device tree: a reservation block that is empty and a root node without properties."""

_WORD = 1 << 64


@dataclass(frozen=True)
class RelocationCase:
    """One variant of the relocation guest; the defaults are the repaired relocation of 2019.

    Attributes:
        cpu: QEMU's CPU model.
        code_descriptor: attributes of the relocation page's level 3 descriptor.
        vectors_descriptor: attributes for the page of VBAR_EL2, or ``None`` when it is not mapped (as in 2019).
        table_bits: ORed into every table descriptor.
        hcr_el2, tcr_el1, mair_el1, sctlr_el2: register values; TCR_EL1's T0SZ, TG0, SH0, IRGN0 and ORGN0 are what
            turn_on_mmu builds TCR_EL2 from.
        tcr_el2: value that replaces what turn_on_mmu computes, or ``None``.
        drop_to_el1: whether the relocation runs at EL1.
        adjust_tables: further changes to the tables, after everything is mapped.
    """

    cpu: str = "cortex-a57"
    code_descriptor: int = PAGE_KERNEL_EXEC & ~(1 << 54)
    vectors_descriptor: int | None = None
    table_bits: int = 0
    hcr_el2: int = 0x8000_0000
    tcr_el1: int = 0x4_B510_3510
    mair_el1: int = 0xBBFF_440C_0400
    sctlr_el2: int = 0x30E5_183F
    tcr_el2: int | None = None
    drop_to_el1: bool = False
    adjust_tables: Callable[[TableBuilder], None] = field(default=lambda tables: None)

    def build(self) -> RelocationGuest:
        """Lay the case out in RAM.

        Raises:
            EnvironmentProblem: the cross binutils are missing.
        """
        return _build(self)


@dataclass(frozen=True)
class RelocationGuest(LabGuest):
    """A laid-out case, ready to load; its program is the old kernel and the relocation code.

    Attributes:
        copies: the page copies that the page list asks for, in order.
    """

    copies: tuple[PageCopy, ...]

    @property
    def sctlr_write(self) -> int:
        """Address of the ``msr`` that turns the MMU on at EL2."""
        return self.program.symbols["turn_on_mmu_sctlr_write"]


def _build(case: RelocationCase) -> RelocationGuest:
    program = build_program(
        "relocation",
        {"relocation_address": RELOCATION_CODE, "vectors_address": VECTORS, "old_kernel_address": OLD_KERNEL},
    )
    segments = {
        NEW_KERNEL: _new_kernel_image(),
        DEVICE_TREE: (_FDT_HEADER + _FDT_BODY).ljust(PAGE_SIZE, b"\0"),
    }
    image = RamImage()
    for address, data in program.segments.items():
        image.place(address, data)
    copies = _place_sources(image, segments)
    list_pages = iter(range(PAGE_LIST, VECTORS, PAGE_SIZE))
    head, list_contents = build_page_list(copies, lambda: next(list_pages))
    for address, data in list_contents.items():
        image.place(address, data)

    tables = _build_trans_table(case, copies, list(list_contents))
    for address, data in tables.pages().items():
        image.place(address, data)
    argument = {"head": head, "entry_addr": NEW_KERNEL, "kern_arg0": DEVICE_TREE, "trans_table": tables.root}
    image.place(ARGUMENT, RFC_V2.pack(argument))
    _set_parameters(image, program, case)
    return RelocationGuest(case.cpu, "virtualization=on", image, program, VECTORS, None, ARRIVED, tuple(copies))


def _place_sources(image: RamImage, segments: dict[int, bytes]) -> list[PageCopy]:
    """Scatter the segments' pages over the source area, as pages that a running kernel had left are scattered."""
    free = list(range(SOURCES, SOURCES + SOURCE_PAGES * PAGE_SIZE, PAGE_SIZE))
    random.Random(2019).shuffle(free)
    copies = []
    for start, data in segments.items():
        for offset in range(0, len(data), PAGE_SIZE):
            source = free.pop()
            image.place(source, data[offset : offset + PAGE_SIZE])
            copies.append(PageCopy(source, start + offset))
    return copies


def _build_trans_table(case: RelocationCase, copies: list[PageCopy], list_pages: list[int]) -> TableBuilder:
    tables = TableBuilder(Arena(TRANS_TABLE, RELOCATION_CODE).allocate, case.table_bits)
    data_pages = [ARGUMENT, *list_pages, *(page for copy in copies for page in (copy.source, copy.destination))]
    for page in data_pages:
        tables.map_page(page, page, PAGE_KERNEL)
    tables.map_page(RELOCATION_CODE, RELOCATION_CODE, case.code_descriptor)
    if case.vectors_descriptor is not None:
        tables.map_page(VECTORS, VECTORS, case.vectors_descriptor)
    case.adjust_tables(tables)
    return tables


def _new_kernel_image() -> bytes:
    """The new kernel padded with known data to NEW_KERNEL_PAGES pages, its header filled in."""
    program = build_program("new_kernel", {"new_kernel_address": NEW_KERNEL})
    code = program.segments[NEW_KERNEL]
    padding = random.Random(2019).randbytes(NEW_KERNEL_PAGES * PAGE_SIZE - len(code))
    image = bytearray(code + padding)

    def offset(symbol: str) -> int:
        return program.symbols[symbol] - NEW_KERNEL

    factor = int.from_bytes(image[offset("checksum_factor") :][:8], "little")
    struct.pack_into("<Q", image, offset("image_words"), len(image) // 8)
    struct.pack_into("<Q", image, offset("image_checksum"), 0)
    checksum = 0
    for (word,) in struct.iter_unpack("<Q", image):
        checksum = (checksum * factor + word) % _WORD
    struct.pack_into("<Q", image, offset("image_checksum"), checksum)
    return bytes(image)


def _set_parameters(image: RamImage, program: GuestProgram, case: RelocationCase) -> None:
    values = {
        "lab_hcr_el2": case.hcr_el2,
        "lab_vbar_el2": VECTORS,
        "lab_mair_el1": case.mair_el1,
        "lab_tcr_el1": case.tcr_el1,
        "lab_vbar_el1": VECTORS if case.drop_to_el1 else 0,
        "lab_relocation_code": RELOCATION_CODE,
        "lab_kern_reloc_arg": ARGUMENT,
        "lab_drop_to_el1": int(case.drop_to_el1),
        "sctlr_el2_mmu_on": case.sctlr_el2,
    }
    if case.tcr_el2 is not None:
        values["tcr_el2_override"] = case.tcr_el2
        instruction = program.symbols["turn_on_mmu_insert_ps"]
        load = _load_literal(14, program.symbols["tcr_el2_override"] - instruction)
        image.patch(instruction, load.to_bytes(4, "little"))
    for symbol, value in values.items():
        image.patch(program.symbols[symbol], value.to_bytes(8, "little"))


def _load_literal(register: int, distance: int) -> int:
    """The instruction ``ldr xREGISTER, . + distance`` (Arm ARM C6.2, LDR (literal))."""
    return 0x5800_0000 | (distance // 4) << 5 | register
