"""The variants of the 2019 relocation whose outcome is known (measured on QEMU 7.2.22, cortex-a57).

Ids are kept for ever; docs/explanation.md says what the experiments show.
"""

from __future__ import annotations

from kexecdbg.lab.relocation import NEW_KERNEL, RELOCATION_CODE, RelocationCase
from kexecdbg.lab.tables import PAGE_KERNEL_EXEC, TableBuilder

_REPAIRED = PAGE_KERNEL_EXEC & ~(1 << 54)
_READ_ONLY = 1 << 7
_ACCESS_FLAG = 1 << 10
_TCR_EL1_48BIT_4K = 0x5_B510_3510
_VHE = 0x4_8800_0000
_SCTLR_EL2 = 0x30E5_183F
_WXN = 1 << 19
_EE = 1 << 25


def _page_at_level_3(tables: TableBuilder) -> None:
    tables.set_descriptor(RELOCATION_CODE, 3, (RELOCATION_CODE | _REPAIRED) & ~0b10)


def _level_1_as_block(tables: TableBuilder) -> None:
    tables.set_descriptor(RELOCATION_CODE, 1, tables.descriptor(RELOCATION_CODE, 1) & ~0b10)


def _wrong_page(tables: TableBuilder) -> None:
    tables.set_descriptor(RELOCATION_CODE, 3, NEW_KERNEL - 0x1000 | _REPAIRED)


CASES: dict[str, RelocationCase] = {
    case.id: case
    for case in (
        RelocationCase("A", "the freeze of 2019, exactly", code_descriptor=PAGE_KERNEL_EXEC),
        RelocationCase("B", "bit 54 of the relocation page cleared"),
        RelocationCase("C", "as B, AP[1] set", code_descriptor=_REPAIRED | 1 << 6),
        RelocationCase("D", "as B, nG set", code_descriptor=_REPAIRED | 1 << 11),
        RelocationCase("E", "as B, bit 53 (PXN) set", code_descriptor=_REPAIRED | 1 << 53),
        RelocationCase("F", "as B, bit 60 (XNTable) in the table descriptors", table_bits=1 << 60),
        RelocationCase("G", "as B, bit 59 (PXNTable) in the table descriptors", table_bits=1 << 59),
        RelocationCase(
            "H",
            "as A, the vector page mapped executable",
            code_descriptor=PAGE_KERNEL_EXEC,
            vectors_descriptor=_REPAIRED,
        ),
        RelocationCase(
            "I",
            "as A, the vector page mapped with PAGE_KERNEL_EXEC too",
            code_descriptor=PAGE_KERNEL_EXEC,
            vectors_descriptor=PAGE_KERNEL_EXEC,
        ),
        RelocationCase("J", "as B, SCTLR_EL2.WXN set, page writable", sctlr_el2=_SCTLR_EL2 | _WXN),
        RelocationCase(
            "K",
            "as J, page read-only",
            sctlr_el2=_SCTLR_EL2 | _WXN,
            code_descriptor=_REPAIRED | _READ_ONLY,
        ),
        RelocationCase("L", "as B, the Access flag clear", code_descriptor=_REPAIRED & ~_ACCESS_FLAG),
        RelocationCase("M", "as B, T0SZ = 25 with a 4-level table", tcr_el1=_TCR_EL1_48BIT_4K + 9),
        RelocationCase("N", "as B, TG0 = 64 KiB", tcr_el1=_TCR_EL1_48BIT_4K | 1 << 14),
        RelocationCase("O", "as B, PS = 0 with tables above 4 GiB", tcr_el2=0x8080_3510),
        RelocationCase("Q", "as B, level 3 descriptor of type 0b01", adjust_tables=_page_at_level_3),
        RelocationCase("R", "as B, the descriptor points to the wrong page", adjust_tables=_wrong_page),
        RelocationCase("Y", "as B, SCTLR_EL2.EE set, tables little-endian", sctlr_el2=_SCTLR_EL2 | _EE),
        RelocationCase("w7", "as B, T0SZ = 0", tcr_el2=0x8084_3500),
        RelocationCase("w8", "as B, T0SZ = 40", tcr_el2=0x8084_3528),
        RelocationCase("w9", "as B, T0SZ = 31", tcr_el2=0x8084_351F),
        RelocationCase("w10", "as B, T0SZ = 32", tcr_el2=0x8084_3520),
        RelocationCase("w13", "as B, level 1 table descriptor typed as a block", adjust_tables=_level_1_as_block),
        RelocationCase(
            "V1",
            "VHE: the descriptor and the TCR_EL2 value of 2019",
            cpu="max",
            hcr_el2=_VHE,
            code_descriptor=PAGE_KERNEL_EXEC,
            tcr_el2=0x8084_3510,
        ),
        RelocationCase(
            "V2",
            "VHE: the descriptor of 2019, TCR_EL2 in the E2H=1 layout",
            cpu="max",
            hcr_el2=_VHE,
            code_descriptor=PAGE_KERNEL_EXEC,
            tcr_el2=0x5_0080_3510,
        ),
        RelocationCase(
            "V3",
            "as V2, the page writable from EL0",
            cpu="max",
            hcr_el2=_VHE,
            code_descriptor=PAGE_KERNEL_EXEC | 1 << 6,
            tcr_el2=0x5_0080_3510,
        ),
        RelocationCase(
            "V4",
            "as V2, PXN set and UXN clear",
            cpu="max",
            hcr_el2=_VHE,
            code_descriptor=_REPAIRED | 1 << 53,
            tcr_el2=0x5_0080_3510,
        ),
        RelocationCase(
            "EL1",
            "the same descriptor and tables at EL1",
            code_descriptor=PAGE_KERNEL_EXEC,
            drop_to_el1=True,
        ),
    )
}
"""Relocation cases by id."""
