"""The enable guest: a sound switch of one regime's MMU, or one with a single defect (qemu-scripts/guest/enable.s).

All that the program touches is mapped with VA equal to PA: code with literals and vectors read-only and executable,
stack, argument and the tables themselves writable, the UART as Device memory.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields

from kexecdbg.arm64.geometry import GRANULE_4K, GRANULE_16K, LAST_LEVEL, Granule
from kexecdbg.arm64.regimes import Regime
from kexecdbg.lab.enable_values import MAIR, REGIME_VALUES, Use, leaf_attributes, tcr_value, textbook_sequence
from kexecdbg.lab.guest import GuestProgram, build_program
from kexecdbg.lab.image import RamImage
from kexecdbg.lab.recipe import LabGuest
from kexecdbg.lab.tables import Arena, TableBuilder, table_format

BASE = 0x1_8000_0000
"""Where the parts start: above 4 GiB, so that an output size of 32 bits is too small for them."""
_PAGE = 0x1_0000
"""Distance of the parts of the program: a page of the largest granule, so that each has a page of its own."""
CODE, LITERALS, VECTORS, BOOT = BASE, BASE + _PAGE, BASE + 2 * _PAGE, BASE + 3 * _PAGE
UART = 0x0900_0000
_TABLE_PAGES = 16
_SCR_EL3 = 0x5B1
"""NS, the RES1 bits, SMC disabled, HVC enabled, lower levels AArch64."""
_TWO_MIB = 0x20_0000
_CONSOLE = "enabled"
_MACHINE = {1: "virtualization=off", 2: "virtualization=on", 3: "virtualization=on,secure=on"}
"""Properties of QEMU's ``virt`` machine by the highest exception level."""


@dataclass
class StartRegisters:
    """Register values of the guest.

    Attributes:
        vbar: VBAR_ELx of every level.
        scr_el3, hcr_el2: SCR_EL3 (without effect on a machine that starts at EL2) and HCR_EL2.
        spsr: PSTATE of the code under test.
        argument: X0, a pointer.
        mair, tcr, ttbr0, ttbr1, sctlr: X1 to X5, which the sequence puts into the regime's registers.
        sp: the stack pointer, which is the end of the stack's page.
    """

    vbar: int
    scr_el3: int
    hcr_el2: int
    spsr: int
    argument: int
    mair: int
    tcr: int
    ttbr0: int
    ttbr1: int
    sctlr: int
    sp: int


@dataclass
class EnableSetup:
    """A laid-out guest before it is loaded: what a defect can change.

    Attributes:
        case: what it is made from.
        registers: register values.
        tables: the tables.
        image: contents of RAM; the tables are added to it last.
        program: the linked program, with symbols.
        leaf_level: level of the leaves.
        stack, argument, table_area: addresses of the parts that are data; code, literals and vectors are at
            :data:`CODE`, :data:`LITERALS` and :data:`VECTORS`.
    """

    case: EnableCase
    registers: StartRegisters
    tables: TableBuilder
    image: RamImage
    program: GuestProgram
    leaf_level: int
    stack: int
    argument: int
    table_area: int

    def map(self, va: int, pa: int, use: Use) -> None:
        """Map the page or block of ``va`` to that of ``pa``."""
        attributes = leaf_attributes(self.case.regime, self.tables.table, use)
        self.tables.map_leaf(va, pa, attributes, self.leaf_level)

    def change_leaf(self, va: int, *, set_bits: int = 0, clear_bits: int = 0) -> None:
        """Set and clear bits of the leaf that maps ``va``."""
        self.tables.change_descriptor(va, self.leaf_level, set_bits=set_bits, clear_bits=clear_bits)


@dataclass(frozen=True)
class EnableCase:
    """One enable guest; the defaults are sound.

    Attributes:
        regime: the regime whose MMU is switched on; the code runs at its exception level.
        model: QEMU's CPU model; ``None`` for ``cortex-a57``, or another where that lacks something.
        granule: of the tables.
        input_bits: size of the address range, 64 - T0SZ.
        wide: tables with 52-bit addresses: FEAT_LPA2, or FEAT_LPA with 64K.
        big_endian: byte order of the tables.
        leaf_level: level of the leaves: 3 for pages.
        table_bits: ORed into every table descriptor.
        sequence: the lines of assembly that switch the MMU on; empty for the textbook's.
        judged_from: symbol in ``sequence`` that the guest is run to before it is judged; empty for its start.
        highest_el: exception level that the machine starts at, 1 to 3; ``None`` for EL2, or EL3 where the code runs.
        defect: what is changed before the guest is loaded.
    """

    regime: Regime = Regime.EL2
    model: str | None = None
    granule: Granule = GRANULE_4K
    input_bits: int = 48
    wide: bool = False
    big_endian: bool = False
    leaf_level: int = LAST_LEVEL
    table_bits: int = 0
    sequence: tuple[str, ...] = ()
    judged_from: str = ""
    highest_el: int | None = None
    defect: Callable[[EnableSetup], None] = field(default=lambda setup: None)

    @property
    def cpu(self) -> str:
        """QEMU's CPU model."""
        if self.model is not None:
            return self.model
        if self.wide:
            return "max"
        # Cortex-A57 has neither 16K pages nor VHE; Neoverse N1 has both, and 48-bit addresses only.
        return "neoverse-n1" if self.regime is Regime.EL2_0 or self.granule is GRANULE_16K else "cortex-a57"

    def build(self) -> LabGuest:
        """Lay the guest out.

        Raises:
            EnvironmentProblem: the cross binutils are missing, or refuse the sequence.
        """
        setup = self._set_up()
        self.defect(setup)
        for address, data in setup.tables.pages().items():
            setup.image.place(address, data)
        for entry in fields(StartRegisters):
            value = getattr(setup.registers, entry.name)
            setup.image.patch(setup.program.symbols[f"lab_{entry.name}"], value.to_bytes(8, "little"))
        return LabGuest(
            cpu=self.cpu,
            machine=_MACHINE[self.highest_el or max(2, self.regime.facts.el)],
            image=setup.image,
            program=setup.program,
            vectors=setup.registers.vbar,
            rests_at=setup.program.symbols["parked"],
            console=_CONSOLE,
            judged_from=setup.program.symbols[self.judged_from] if self.judged_from else None,
        )

    def _set_up(self) -> EnableSetup:
        table = table_format(self.granule, self.input_bits, wide=self.wide, big_endian=self.big_endian)
        distance = max(_TWO_MIB, 1 << table.shift(self.leaf_level))
        stack, argument, table_area = (BASE + number * distance for number in (1, 2, 3))
        area_size = _TABLE_PAGES << self.granule.shift
        tables = TableBuilder(Arena(table_area, table_area + area_size).allocate, self.table_bits, table)
        program = self._program(argument)
        image = RamImage()
        for address, data in program.segments.items():
            image.place(address, data)
        values = REGIME_VALUES[self.regime]
        registers = StartRegisters(
            vbar=program.symbols["enable_vectors"],
            scr_el3=_SCR_EL3,
            hcr_el2=values.hcr_el2,
            spsr=values.spsr,
            argument=argument,
            mair=MAIR,
            tcr=tcr_value(self.regime, table, self.cpu),
            ttbr0=tables.root,
            ttbr1=0,
            sctlr=values.sctlr,
            sp=stack + (1 << self.granule.shift),
        )
        setup = EnableSetup(self, registers, tables, image, program, self.leaf_level, stack, argument, table_area)
        for part, use in (
            *((part, Use.CODE) for part in (CODE, LITERALS, VECTORS)),
            *((part, Use.DATA) for part in (stack, argument)),
            *((page, Use.DATA) for page in range(table_area, table_area + area_size, 1 << self.granule.shift)),
            (UART, Use.DEVICE),
        ):
            setup.map(part, part, use)
        return setup

    def _program(self, argument: int) -> GuestProgram:
        lines = self.sequence or textbook_sequence(self.regime)
        return build_program(
            "enable",
            {
                "code_address": CODE,
                "literals_address": LITERALS,
                "vectors_address": VECTORS,
                "boot_address": BOOT,
                "argument_address": argument,
            },
            {"enable_sequence.s": "".join(f"\t{line}\n" for line in lines)},
        )
