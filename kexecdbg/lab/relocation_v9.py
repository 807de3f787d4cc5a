"""The relocation guest of March 2020: at EL1, sources and destinations mapped in a row, back to EL2 by hvc.

Tables as "[PATCH v9 00/18]" makes them: trans_ttbr0 maps the relocation code at its physical address, with as few
address bits as trans_t0sz says; trans_ttbr1 maps the sources from src_addr on and the destinations from dst_addr on,
in the order of the page list. The vectors of EL1 are mapped as well, so that a sound case is sound.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from kexecdbg.kexec.page_list import PAGE_SIZE, PageCopy, build_page_list
from kexecdbg.kexec.reloc_arg import PATCH_V9
from kexecdbg.lab.guest import GuestProgram, build_program
from kexecdbg.lab.image import RamImage
from kexecdbg.lab.new_kernel import ARRIVED, DEVICE_TREE, NEW_KERNEL, place_sources
from kexecdbg.lab.recipe import LabGuest
from kexecdbg.lab.relocation import ARGUMENT, OLD_KERNEL, PAGE_LIST, RELOCATION_CODE, VECTORS
from kexecdbg.lab.tables import PAGE_KERNEL, PAGE_KERNEL_EXEC, Arena, TableBuilder

TRANS_TTBR0 = 0x1_B306_9000
TRANS_TTBR1 = 0x1_B307_0000
EL2_VECTORS = 0x1_B308_2000
SOURCES_VA = 0xFFFF_0000_0000_0000
"""KEXEC_SRC_START: PAGE_OFFSET."""
DESTINATIONS_VA = 0xFFFF_8000_0000_0000
"""KEXEC_DST_START: the middle of the upper half."""


@dataclass
class RelocationV9Setup:
    """A relocation that is laid out and not yet packed, for a defect to spoil.

    Attributes:
        argument: the fields of struct kern_reloc_arg.
        lower, upper: the tables of TTBR0 and TTBR1, everything mapped.
        image: contents of RAM so far: the program and the source pages.
        program: the old kernel, both vector tables and the relocation code.
    """

    argument: dict[str, int]
    lower: TableBuilder
    upper: TableBuilder
    image: RamImage
    program: GuestProgram

    def patch(self, symbol: str, *words: int) -> None:
        """Replace the instructions from ``symbol`` on."""
        self.image.patch(self.program.symbols[symbol], b"".join(word.to_bytes(4, "little") for word in words))


@dataclass(frozen=True)
class RelocationV9Case:
    """One variant; the defaults are sound.

    Attributes:
        cpu: QEMU's CPU model.
        argument: where struct kern_reloc_arg lies.
        el2_vectors: where the vectors made for the relocation lie.
        defect: spoils what is laid out.
        console: what the new kernel prints, as a regular expression.
        rests_at: where the CPU ends up when it does not come to the new kernel's end.
    """

    cpu: str = "cortex-a57"
    argument: int = ARGUMENT
    el2_vectors: int = EL2_VECTORS
    defect: Callable[[RelocationV9Setup], None] = field(default=lambda setup: None)
    console: str = ARRIVED
    rests_at: int | None = None

    def build(self) -> LabGuest:
        """Lay the case out in RAM.

        Raises:
            EnvironmentProblem: the cross binutils are missing.
        """
        program = build_program(
            "relocation_v9",
            {
                "relocation_address": RELOCATION_CODE,
                "el2_vectors_address": self.el2_vectors,
                "vectors_address": VECTORS,
                "old_kernel_address": OLD_KERNEL,
            },
        )
        image = RamImage()
        for address, data in program.segments.items():
            image.place(address, data)
        copies = place_sources(image)
        setup = self._set_up(image, program, copies)
        self.defect(setup)

        free = iter(range(PAGE_LIST, VECTORS, PAGE_SIZE))
        head, list_contents = build_page_list(copies, lambda: next(free))
        for address, data in {**list_contents, **setup.lower.pages(), **setup.upper.pages()}.items():
            image.place(address, data)
        image.place(self.argument, PATCH_V9.pack({"head": head, **setup.argument}))
        for symbol, value in _PARAMETERS.items():
            image.patch(program.symbols[symbol], value.to_bytes(8, "little"))
        image.patch(program.symbols["lab_kern_reloc_arg"], self.argument.to_bytes(8, "little"))
        return LabGuest(
            cpu=self.cpu,
            machine="virtualization=on",
            image=image,
            program=program,
            vectors=VECTORS,
            rests_at=self.rests_at,
            console=self.console,
        )

    def _set_up(self, image: RamImage, program: GuestProgram, copies: list[PageCopy]) -> RelocationV9Setup:
        lower = TableBuilder(Arena(TRANS_TTBR0, TRANS_TTBR1).allocate)
        upper = TableBuilder(Arena(TRANS_TTBR1, RELOCATION_CODE).allocate)
        lower.map_page(RELOCATION_CODE, RELOCATION_CODE, PAGE_KERNEL_EXEC)
        lower.map_page(VECTORS, VECTORS, PAGE_KERNEL_EXEC)
        for number, copy in enumerate(copies):
            upper.map_page(SOURCES_VA + number * PAGE_SIZE, copy.source, PAGE_KERNEL)
            upper.map_page(DESTINATIONS_VA + number * PAGE_SIZE, copy.destination, PAGE_KERNEL)
        argument = {
            "entry_addr": NEW_KERNEL,
            "kern_arg0": DEVICE_TREE,
            "el2_vector": self.el2_vectors,
            "trans_ttbr0": lower.root,
            "trans_ttbr1": upper.root,
            "trans_t0sz": 16,
            "src_addr": SOURCES_VA,
            "dst_addr": DESTINATIONS_VA,
            "copy_len": len(copies) * PAGE_SIZE,
        }
        return RelocationV9Setup(argument, lower, upper, image, program)


_PARAMETERS = {
    "lab_mair_el1": 0xBBFF_440C_0400,
    "lab_tcr_el1": 0x4_B510_3510,
    "lab_vbar_el1": VECTORS,
    "lab_relocation_code": RELOCATION_CODE,
}
"""Registers that the old kernel leaves, as in the mail of 2019, but for IPS, which is the CPU's."""
