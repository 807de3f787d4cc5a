"""Stage 1 translation control: TCR_ELx, TCR2_ELx and TTBRn_ELx (Arm ARM D23.2, registers of those names)."""

from __future__ import annotations

from kexecdbg.arm64.registers.conditions import not_judged
from kexecdbg.arm64.registers.declare import flag, plain, register, wide
from kexecdbg.arm64.registers.meanings import (
    ADDRESS_SIZES,
    SHAREABILITY,
    TG0_GRANULES,
    TG1_GRANULES,
    WALK_CACHEABILITY,
    lower_range,
    table_base,
    upper_range,
)
from kexecdbg.arm64.registers.model import Layout
from kexecdbg.arm64.registers.select import by_e2h

# TCR of a regime with two address ranges: EL1&0 and EL2&0.
_TWO_RANGES = (
    flag("MTX1", 61, "upper range: VA[59:56] is the Logical Address Tag", needs="FEAT_MTE4"),
    flag("MTX0", 60, "lower range: VA[59:56] is the Logical Address Tag", needs="FEAT_MTE4"),
    flag("DS", 59, "52-bit descriptors for 4 KB and 16 KB, SH comes from TCR", needs="FEAT_LPA2"),
    flag("TCMA1", 58, "upper range: accesses with tag 0b1111 unchecked", needs="FEAT_MTE2"),
    flag("TCMA0", 57, "lower range: accesses with tag 0b0000 unchecked", needs="FEAT_MTE2"),
    flag("E0PD1", 56, "EL0 access to the upper range is a level 0 Translation fault", needs="FEAT_E0PD"),
    flag("E0PD0", 55, "EL0 access to the lower range is a level 0 Translation fault", needs="FEAT_E0PD"),
    flag("NFD1", 54, "no table walks through TTBR1 for non-fault loads from EL0", needs="FEAT_SVE"),
    flag("NFD0", 53, "no table walks through TTBR0 for non-fault loads from EL0", needs="FEAT_SVE"),
    flag("TBID1", 52, "TBI1 applies to data accesses only", needs="FEAT_PAuth"),
    flag("TBID0", 51, "TBI0 applies to data accesses only", needs="FEAT_PAuth"),
    flag("HWU162", 50, "hardware may use descriptor bit 62 under TTBR1 (with HPD1)", needs="FEAT_HPDS2"),
    flag("HWU161", 49, "hardware may use descriptor bit 61 under TTBR1 (with HPD1)", needs="FEAT_HPDS2"),
    flag("HWU160", 48, "hardware may use descriptor bit 60 under TTBR1 (with HPD1)", needs="FEAT_HPDS2"),
    flag("HWU159", 47, "hardware may use descriptor bit 59 under TTBR1 (with HPD1)", needs="FEAT_HPDS2"),
    flag("HWU062", 46, "hardware may use descriptor bit 62 under TTBR0 (with HPD0)", needs="FEAT_HPDS2"),
    flag("HWU061", 45, "hardware may use descriptor bit 61 under TTBR0 (with HPD0)", needs="FEAT_HPDS2"),
    flag("HWU060", 44, "hardware may use descriptor bit 60 under TTBR0 (with HPD0)", needs="FEAT_HPDS2"),
    flag("HWU059", 43, "hardware may use descriptor bit 59 under TTBR0 (with HPD0)", needs="FEAT_HPDS2"),
    flag("HPD1", 42, "APTable, UXNTable and PXNTable ignored under TTBR1", needs="FEAT_HPDS"),
    flag("HPD0", 41, "APTable, UXNTable and PXNTable ignored under TTBR0", needs="FEAT_HPDS"),
    flag("HD", 40, "hardware manages the dirty state (with HA)", "dirty state by software", "FEAT_HAFDBS_dirty"),
    flag("HA", 39, "hardware sets the Access flag", "AF=0 is an Access flag fault", "FEAT_HAFDBS"),
    flag("TBI1", 38, "upper range: top byte ignored", "upper range: top byte is part of the address"),
    flag("TBI0", 37, "lower range: top byte ignored", "lower range: top byte is part of the address"),
    flag("AS", 36, "16-bit ASID", "8-bit ASID", "FEAT_ASID16"),
    wide("IPS", 34, 32, ADDRESS_SIZES),
    wide("TG1", 31, 30, TG1_GRANULES, idle_when_set=23),
    wide("SH1", 29, 28, SHAREABILITY, idle_when_set=23),
    wide("ORGN1", 27, 26, WALK_CACHEABILITY),
    wide("IRGN1", 25, 24, WALK_CACHEABILITY),
    flag("EPD1", 23, "TTBR1 walks disabled: a TLB miss is a level 0 Translation fault", "TTBR1 walks enabled"),
    flag("A1", 22, "the ASID is TTBR1's", "the ASID is TTBR0's"),
    wide("T1SZ", 21, 16, upper_range),
    wide("TG0", 15, 14, TG0_GRANULES, idle_when_set=7),
    wide("SH0", 13, 12, SHAREABILITY, idle_when_set=7),
    wide("ORGN0", 11, 10, WALK_CACHEABILITY),
    wide("IRGN0", 9, 8, WALK_CACHEABILITY),
    flag("EPD0", 7, "TTBR0 walks disabled: a TLB miss is a level 0 Translation fault", "TTBR0 walks enabled"),
    wide("T0SZ", 5, 0, lower_range),
)

# TCR of a regime with one address range: EL2 (E2H=0) and EL3.
_ONE_RANGE = (
    flag("MTX", 33, "VA[59:56] is the Logical Address Tag", needs="FEAT_MTE4"),
    flag("DS", 32, "52-bit descriptors for 4 KB and 16 KB, SH comes from TCR", needs="FEAT_LPA2"),
    flag("TCMA", 30, "accesses with tag 0b0000 unchecked", needs="FEAT_MTE2"),
    flag("TBID", 29, "TBI applies to data accesses only", needs="FEAT_PAuth"),
    flag("HWU62", 28, "hardware may use descriptor bit 62 (with HPD)", needs="FEAT_HPDS2"),
    flag("HWU61", 27, "hardware may use descriptor bit 61 (with HPD)", needs="FEAT_HPDS2"),
    flag("HWU60", 26, "hardware may use descriptor bit 60 (with HPD)", needs="FEAT_HPDS2"),
    flag("HWU59", 25, "hardware may use descriptor bit 59 (with HPD)", needs="FEAT_HPDS2"),
    flag("HPD", 24, "APTable and XNTable ignored", "APTable and XNTable count", "FEAT_HPDS"),
    flag("HD", 22, "hardware manages the dirty state (with HA)", "dirty state by software", "FEAT_HAFDBS_dirty"),
    flag("HA", 21, "hardware sets the Access flag", "AF=0 is an Access flag fault", "FEAT_HAFDBS"),
    flag("TBI", 20, "top byte ignored", "top byte is part of the address"),
    wide("PS", 18, 16, ADDRESS_SIZES),
    wide("TG0", 15, 14, TG0_GRANULES),
    wide("SH0", 13, 12, SHAREABILITY),
    wide("ORGN0", 11, 10, WALK_CACHEABILITY),
    wide("IRGN0", 9, 8, WALK_CACHEABILITY),
    wide("T0SZ", 5, 0, lower_range),
)
_ONE_RANGE_RES1 = (31, 23)

# What TCR2_EL1 and TCR2_EL2 hold for EL1 and EL2, TCR_EL3 holds itself.
_TCR_EL3_EXTENSIONS = (
    flag("TVAD", 53, "2024 extension: see VTB", needs=not_judged("FEAT_TEV")),
    wide("VTB", 52, 48, None, not_judged("FEAT_TEV")),
    wide("POIW", 47, 45, None, not_judged("FEAT_S1POE2")),
    flag("POE2F", 44, "2024 permission overlay format", needs=not_judged("FEAT_S1POE2")),
    flag("DisCH0", 43, "the Contiguous bit of the start level is ignored", needs="FEAT_D128"),
    flag("HAFT", 42, "hardware sets the Access flag of Table descriptors", needs="FEAT_HAFT"),
    flag("PTTWI", 41, "hardware walks need write-implicit permission", needs="FEAT_THE"),
    flag("D128", 38, "128-bit descriptors", "64-bit descriptors", "FEAT_D128"),
    flag("AIE", 37, "4-bit AttrIndx, MAIR2_EL3 in use", needs="FEAT_AIE"),
    flag("POE", 36, "permission overlays", needs="FEAT_S1POE"),
    flag("PIE", 35, "permission indirection through PIR_EL3", "permissions directly in descriptors", "FEAT_S1PIE"),
    flag("PnCH", 34, "descriptor bit 52 is Protected, not Contiguous", needs="FEAT_THE"),
)

_TCR2 = (
    flag("DisCH1", 15, "the Contiguous bit of the start level is ignored under TTBR1", needs="FEAT_D128"),
    flag("DisCH0", 14, "the Contiguous bit of the start level is ignored under TTBR0", needs="FEAT_D128"),
    flag("HAFT", 11, "hardware sets the Access flag of Table descriptors", needs="FEAT_HAFT"),
    flag("PTTWI", 10, "hardware walks need write-implicit permission", needs="FEAT_THE"),
    flag("D128", 5, "128-bit descriptors", "64-bit descriptors", "FEAT_D128"),
    flag("AIE", 4, "4-bit AttrIndx, MAIR2 in use", "3-bit AttrIndx", "FEAT_AIE"),
    flag("POE", 3, "permission overlays for privileged accesses", needs="FEAT_S1POE"),
    flag("E0POE", 2, "permission overlays for EL0 accesses", needs="FEAT_S1POE"),
    flag("PIE", 1, "permission indirection: AP and XN bits are a PIIndex", "direct permissions", "FEAT_S1PIE"),
    flag("PnCH", 0, "descriptor bit 52 is Protected, not Contiguous", needs="FEAT_THE"),
)
_TCR2_EL2 = (
    *_TCR2[:2],
    flag("AMEC1", 13, "memory encryption context from descriptors under TTBR1", needs="FEAT_MEC"),
    flag("AMEC0", 12, "memory encryption context from descriptors under TTBR0", needs="FEAT_MEC"),
    *_TCR2[2:],
)

_ASID = wide("ASID", 63, 48)
_BADDR = wide("BADDR", 47, 1, table_base)
_CNP = flag("CnP", 0, "tables common to the Inner Shareable domain", "tables private to this PE", "FEAT_TTCNP")

REGISTERS = (
    register("TCR_EL1", "Translation Control Register (EL1)", plain(*_TWO_RANGES)),
    register(
        "TCR_EL2",
        "Translation Control Register (EL2)",
        Layout("E2H=0", _ONE_RANGE, _ONE_RANGE_RES1),
        Layout("E2H=1", _TWO_RANGES),
        select=by_e2h,
    ),
    register(
        "TCR_EL3",
        "Translation Control Register (EL3)",
        plain(*_TCR_EL3_EXTENSIONS, *_ONE_RANGE, res1=_ONE_RANGE_RES1),
    ),
    register("TCR2_EL1", "Extended Translation Control Register (EL1)", plain(*_TCR2)),
    register("TCR2_EL2", "Extended Translation Control Register (EL2)", plain(*_TCR2_EL2)),
    register("TTBR0_EL1", "Translation Table Base Register 0 (EL1)", plain(_ASID, _BADDR, _CNP)),
    register("TTBR1_EL1", "Translation Table Base Register 1 (EL1)", plain(_ASID, _BADDR, _CNP)),
    register(
        "TTBR0_EL2",
        "Translation Table Base Register 0 (EL2)",
        Layout("E2H=0", (_BADDR, _CNP)),
        Layout("E2H=1", (_ASID, _BADDR, _CNP)),
        select=by_e2h,
    ),
    register("TTBR1_EL2", "Translation Table Base Register 1 (EL2)", plain(_ASID, _BADDR, _CNP)),
    register("TTBR0_EL3", "Translation Table Base Register 0 (EL3)", plain(_BADDR, _CNP)),
)
