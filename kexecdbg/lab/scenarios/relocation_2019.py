"""The variants of the 2019 relocation whose outcome is known (measured on QEMU 7.2.22, cortex-a57).

Ids and outcomes: the experiments behind "Why it is bit 54" in docs/explanation.md; ids are kept for ever.
"""

from __future__ import annotations

from kexecdbg.lab.new_kernel import NEW_KERNEL
from kexecdbg.lab.relocation import RELOCATION_CODE, RelocationCase, RelocationSetup
from kexecdbg.lab.relocation_scenarios import EXECUTABLE_AT_EL2, relocation_scenario
from kexecdbg.lab.tables import PAGE_KERNEL_EXEC

_READ_ONLY = 1 << 7
_ACCESS_FLAG = 1 << 10
_TCR_EL1_48BIT_4K = 0x4_B510_3510
_VHE = 0x4_8800_0000
_SCTLR_EL2 = 0x30E5_183F
_WXN = 1 << 19
_EE = 1 << 25


def _page_at_level_3(setup: RelocationSetup) -> None:
    setup.tables.set_descriptor(RELOCATION_CODE, 3, (RELOCATION_CODE | EXECUTABLE_AT_EL2) & ~0b10)


def _level_1_as_block(setup: RelocationSetup) -> None:
    setup.tables.change_descriptor(RELOCATION_CODE, 1, clear_bits=0b10)


def _wrong_page(setup: RelocationSetup) -> None:
    setup.tables.set_descriptor(RELOCATION_CODE, 3, NEW_KERNEL - 0x1000 | EXECUTABLE_AT_EL2)


SCENARIOS = (
    relocation_scenario("A", "the freeze of 2019, exactly", RelocationCase(code_descriptor=PAGE_KERNEL_EXEC), "M01"),
    relocation_scenario("B", "bit 54 of the relocation page cleared", RelocationCase(), "M05"),
    relocation_scenario("C", "as B, AP[1] set", RelocationCase(code_descriptor=EXECUTABLE_AT_EL2 | 1 << 6), "M05"),
    relocation_scenario("D", "as B, nG set", RelocationCase(code_descriptor=EXECUTABLE_AT_EL2 | 1 << 11), "M05"),
    relocation_scenario(
        "E", "as B, bit 53 (PXN) set", RelocationCase(code_descriptor=EXECUTABLE_AT_EL2 | 1 << 53), "M05"
    ),
    relocation_scenario(
        "F", "as B, bit 60 (XNTable) in the table descriptors", RelocationCase(table_bits=1 << 60), "M02"
    ),
    relocation_scenario(
        "G", "as B, bit 59 (PXNTable) in the table descriptors", RelocationCase(table_bits=1 << 59), "M05"
    ),
    relocation_scenario(
        "H",
        "as A, the vector page mapped executable",
        RelocationCase(code_descriptor=PAGE_KERNEL_EXEC, vectors_descriptor=EXECUTABLE_AT_EL2),
        "M01",
    ),
    relocation_scenario(
        "I",
        "as A, the vector page mapped with PAGE_KERNEL_EXEC too",
        RelocationCase(code_descriptor=PAGE_KERNEL_EXEC, vectors_descriptor=PAGE_KERNEL_EXEC),
        "M01",
    ),
    relocation_scenario(
        "J", "as B, SCTLR_EL2.WXN set, page writable", RelocationCase(sctlr_el2=_SCTLR_EL2 | _WXN), "M04"
    ),
    relocation_scenario(
        "K",
        "as J, page read-only",
        RelocationCase(sctlr_el2=_SCTLR_EL2 | _WXN, code_descriptor=EXECUTABLE_AT_EL2 | _READ_ONLY),
        "M05",
    ),
    relocation_scenario(
        "L", "as B, the Access flag clear", RelocationCase(code_descriptor=EXECUTABLE_AT_EL2 & ~_ACCESS_FLAG), "M15"
    ),
    relocation_scenario(
        "M", "as B, T0SZ = 25 with a 4-level table", RelocationCase(tcr_el1=_TCR_EL1_48BIT_4K + 9), "M10"
    ),
    relocation_scenario("N", "as B, TG0 = 64 KiB", RelocationCase(tcr_el1=_TCR_EL1_48BIT_4K | 1 << 14), "M12"),
    relocation_scenario("O", "as B, PS = 0 with tables above 4 GiB", RelocationCase(tcr_el2=0x8080_3510), "M08"),
    relocation_scenario("Q", "as B, level 3 descriptor of type 0b01", RelocationCase(defect=_page_at_level_3), "M14"),
    relocation_scenario(
        "R", "as B, the descriptor points to the wrong page", RelocationCase(defect=_wrong_page), "M16"
    ),
    relocation_scenario(
        "Y", "as B, SCTLR_EL2.EE set, tables little-endian", RelocationCase(sctlr_el2=_SCTLR_EL2 | _EE), "M34"
    ),
    relocation_scenario("w7", "as B, T0SZ = 0", RelocationCase(tcr_el2=0x8084_3500), "M10"),
    relocation_scenario("w8", "as B, T0SZ = 40", RelocationCase(tcr_el2=0x8084_3528), "M10"),
    relocation_scenario("w9", "as B, T0SZ = 31", RelocationCase(tcr_el2=0x8084_351F), "M10"),
    relocation_scenario("w10", "as B, T0SZ = 32", RelocationCase(tcr_el2=0x8084_3520), "M10"),
    relocation_scenario(
        "w13", "as B, level 1 table descriptor typed as a block", RelocationCase(defect=_level_1_as_block), "M14"
    ),
    relocation_scenario(
        "V1",
        "VHE: the descriptor and the TCR_EL2 value of 2019",
        RelocationCase(cpu="max", hcr_el2=_VHE, code_descriptor=PAGE_KERNEL_EXEC, tcr_el2=0x8084_3510),
        "M06",
        "M08",
    ),
    relocation_scenario(
        "V2",
        "VHE: the descriptor of 2019, TCR_EL2 in the E2H=1 layout",
        RelocationCase(cpu="max", hcr_el2=_VHE, code_descriptor=PAGE_KERNEL_EXEC, tcr_el2=0x5_0080_3510),
        "M05",
    ),
    relocation_scenario(
        "V3",
        "as V2, the page writable from EL0",
        RelocationCase(cpu="max", hcr_el2=_VHE, code_descriptor=PAGE_KERNEL_EXEC | 1 << 6, tcr_el2=0x5_0080_3510),
        "M03",
    ),
    relocation_scenario(
        "V4",
        "as V2, PXN set and UXN clear",
        RelocationCase(cpu="max", hcr_el2=_VHE, code_descriptor=EXECUTABLE_AT_EL2 | 1 << 53, tcr_el2=0x5_0080_3510),
        "M01",
    ),
    relocation_scenario(
        "EL1",
        "the same descriptor and tables at EL1",
        RelocationCase(code_descriptor=PAGE_KERNEL_EXEC, drop_to_el1=True),
        "M05",
    ),
)
