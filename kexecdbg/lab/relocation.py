"""The relocation guest: "old kernel", page list, trans_table and "new kernel" of one lab case, laid out in RAM.

The trans_table maps what "[RFC v2 7/8]" of the 2019 series maps, page by page with VA equal to PA: the relocation code
with PAGE_KERNEL_EXEC; argument, page list, sources and destinations with PAGE_KERNEL. A case changes bits of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from kexecdbg.kexec.page_list import PAGE_SIZE, PageCopy, list_entries, place_entries
from kexecdbg.kexec.reloc_arg import RFC_V2
from kexecdbg.lab.guest import GuestProgram, build_program
from kexecdbg.lab.image import RamImage
from kexecdbg.lab.new_kernel import ARRIVED, DEVICE_TREE, NEW_KERNEL, place_sources
from kexecdbg.lab.recipe import LabGuest
from kexecdbg.lab.tables import PAGE_KERNEL, PAGE_KERNEL_EXEC, Arena, TableBuilder

TRANS_TABLE = 0x1_B306_9000
"""TTBR0_EL2 in the mail: the first page of the tables. The others follow it."""
RELOCATION_CODE = 0x1_B308_0000
ARGUMENT = 0x1_B308_1000
PAGE_LIST = 0x1_B309_0000
VECTORS = 0x1_B30A_0000
OLD_KERNEL = 0x1_B30B_0000

_TABLE_PAGES = 16


@dataclass(frozen=True)
class Places:
    """Physical addresses of what the relocation uses beside the pages it copies.

    Attributes:
        tables: the trans_table; its other pages follow.
        code: the page of the relocation code.
        argument: struct kern_reloc_arg.
        page_list: the list's page.
        vectors: VBAR_EL2 (and VBAR_EL1 when the relocation runs there), a page.
    """

    tables: int = TRANS_TABLE
    code: int = RELOCATION_CODE
    argument: int = ARGUMENT
    page_list: int = PAGE_LIST
    vectors: int = VECTORS


@dataclass(frozen=True)
class LpiTables:
    """Where the old kernel leaves the redistributor's LPI tables, in use: GICR_PROPBASER and GICR_PENDBASER."""

    configuration: int
    pending: int


@dataclass
class RelocationSetup:
    """A relocation that is laid out and not yet packed, for a defect to spoil.

    Attributes:
        entries: the page list without the links from page to page.
        argument: the fields of struct kern_reloc_arg.
        tables: the trans_table, everything mapped.
        image: contents of RAM so far: the program and the source pages.
        program: the old kernel and the relocation code.
    """

    entries: list[int]
    argument: dict[str, int]
    tables: TableBuilder
    image: RamImage
    program: GuestProgram

    def patch(self, symbol: str, *words: int) -> None:
        """Replace the instructions from ``symbol`` on."""
        self.image.patch(self.program.symbols[symbol], b"".join(word.to_bytes(4, "little") for word in words))


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
        places: where everything is.
        lpi_tables: LPI tables that the old kernel leaves in use; the new kernel then adopts them, as Linux does.
        change_copies: changes the copies that the list and the tables are made from.
        defect: spoils what is laid out.
        console: what the new kernel prints, as a regular expression.
        rests_at: where the CPU ends up when it does not come to the new kernel's end.
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
    places: Places = Places()
    lpi_tables: LpiTables | None = None
    change_copies: Callable[[list[PageCopy]], None] = field(default=lambda copies: None)
    defect: Callable[[RelocationSetup], None] = field(default=lambda setup: None)
    console: str = ARRIVED
    rests_at: int | None = None

    @property
    def machine(self) -> str:
        """Properties of QEMU's ``virt`` machine."""
        return "virtualization=on" if self.lpi_tables is None else "virtualization=on,gic-version=3,its=on"

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

    copies: tuple[PageCopy, ...] = ()


def _build(case: RelocationCase) -> RelocationGuest:
    places = case.places
    program = build_program(
        "relocation",
        {"relocation_address": places.code, "vectors_address": places.vectors, "old_kernel_address": OLD_KERNEL},
    )
    image = RamImage()
    for address, data in program.segments.items():
        image.place(address, data)
    copies = place_sources(image, adopts_lpi_tables=case.lpi_tables is not None)
    case.change_copies(copies)
    tables = _build_trans_table(case, copies)
    argument = {"entry_addr": NEW_KERNEL, "kern_arg0": DEVICE_TREE, "trans_table": tables.root}
    setup = RelocationSetup(list_entries(copies), argument, tables, image, program)
    _set_parameters(image, program, case)
    case.defect(setup)

    list_pages = iter([places.page_list])
    head, list_contents = place_entries(setup.entries, lambda: next(list_pages))
    for address, data in {**list_contents, **tables.pages()}.items():
        image.place(address, data)
    image.place(places.argument, RFC_V2.pack({"head": head, **argument}))
    return RelocationGuest(
        cpu=case.cpu,
        machine=case.machine,
        image=image,
        program=program,
        vectors=places.vectors,
        rests_at=case.rests_at,
        console=case.console,
        copies=tuple(copies),
    )


def _build_trans_table(case: RelocationCase, copies: list[PageCopy]) -> TableBuilder:
    places = case.places
    tables = TableBuilder(Arena(places.tables, places.tables + _TABLE_PAGES * PAGE_SIZE).allocate, case.table_bits)
    copied = (page for copy in copies for page in (copy.source, copy.destination))
    for page in (places.argument & ~(PAGE_SIZE - 1), places.page_list, *copied):
        tables.map_page(page, page, PAGE_KERNEL)
    tables.map_page(places.code, places.code, case.code_descriptor)
    if case.vectors_descriptor is not None:
        tables.map_page(places.vectors, places.vectors, case.vectors_descriptor)
    return tables


def _set_parameters(image: RamImage, program: GuestProgram, case: RelocationCase) -> None:
    places = case.places
    values = {
        "lab_hcr_el2": case.hcr_el2,
        "lab_vbar_el2": places.vectors,
        "lab_mair_el1": case.mair_el1,
        "lab_tcr_el1": case.tcr_el1,
        "lab_vbar_el1": places.vectors if case.drop_to_el1 else 0,
        "lab_relocation_code": places.code,
        "lab_kern_reloc_arg": places.argument,
        "lab_drop_to_el1": int(case.drop_to_el1),
        "lab_lpi_configuration": case.lpi_tables.configuration if case.lpi_tables else 0,
        "lab_lpi_pending": case.lpi_tables.pending if case.lpi_tables else 0,
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
