"""Stage 2 translation control: VTCR_EL2, VTTBR_EL2, VSTCR_EL2, VSTTBR_EL2 (Arm ARM D23.2)."""

from __future__ import annotations

from kexecdbg.arm64.registers.declare import flag, plain, register, wide
from kexecdbg.arm64.registers.meanings import (
    ADDRESS_SIZES,
    SHAREABILITY,
    TG0_GRANULES,
    WALK_CACHEABILITY,
    ipa_size,
    table_base,
)

# The start level that SL0 stands for with 4 KB granules, and with 16 KB or 64 KB granules (Arm ARM D8.2.4).
_START_LEVELS = {
    0: "start at level 2 (4 KB), 3 (16 KB, 64 KB)",
    1: "start at level 1 (4 KB), 2 (16 KB, 64 KB)",
    2: "start at level 0 (4 KB), 1 (16 KB, 64 KB)",
    3: "start at level 3 (4 KB, FEAT_TTST), 0 (16 KB with DS=1)",
}
_T0SZ = wide("T0SZ", 5, 0, ipa_size)
_SL0 = wide("SL0", 7, 6, _START_LEVELS)
_TG0 = wide("TG0", 15, 14, TG0_GRANULES)
_SL2 = flag("SL2", 33, "with 4 KB and DS=1: start at level -1", "start level by SL0", "FEAT_LPA2")
_BADDR = wide("BADDR", 47, 1, table_base)
_CNP = flag("CnP", 0, "tables common to the Inner Shareable domain", "tables private to this PE", "FEAT_TTCNP")

_VTCR = (
    flag("HDBSS", 45, "dirty state is tracked in the HDBSS structure", needs="FEAT_HDBSS"),
    flag("HAFT", 44, "hardware sets the Access flag of Table descriptors", needs="FEAT_HAFT"),
    flag("TL0", 41, "TopLevel0 permission attribute in use", needs="FEAT_THE"),
    flag("GCSH", 40, "Guarded Control Stack accesses need the assured attribute", needs="FEAT_GCS"),
    flag("D128", 38, "128-bit descriptors", "64-bit descriptors", "FEAT_D128"),
    flag("S2POE", 37, "stage 2 permission overlays", needs="FEAT_S2POE"),
    flag("S2PIE", 36, "stage 2 permission indirection through S2PIR_EL2", "direct permissions", "FEAT_S2PIE"),
    flag("TL1", 35, "TopLevel1 permission attribute in use", needs="FEAT_THE"),
    flag("AssuredOnly", 34, "AssuredOnly attribute in use", needs="FEAT_THE"),
    _SL2,
    flag("DS", 32, "52-bit descriptors for 4 KB and 16 KB, SH comes from VTCR", needs="FEAT_LPA2"),
    flag("NSA", 30, "Non-secure IPA space translates to Non-secure PA space", needs="FEAT_SEL2"),
    flag("NSW", 29, "tables of the Non-secure IPA space are in Non-secure PA space", needs="FEAT_SEL2"),
    flag("HWU62", 28, "hardware may use descriptor bit 62", needs="FEAT_HPDS2"),
    flag("HWU61", 27, "hardware may use descriptor bit 61", needs="FEAT_HPDS2"),
    flag("HWU60", 26, "hardware may use descriptor bit 60", needs="FEAT_HPDS2"),
    flag("HWU59", 25, "hardware may use descriptor bit 59", needs="FEAT_HPDS2"),
    flag("HD", 22, "hardware manages the dirty state (with HA)", "dirty state by software", "FEAT_HAFDBS_dirty"),
    flag("HA", 21, "hardware sets the Access flag", "AF=0 is an Access flag fault", "FEAT_HAFDBS"),
    flag("VS", 19, "16-bit VMID", "8-bit VMID", "FEAT_VMID16"),
    wide("PS", 18, 16, ADDRESS_SIZES),
    _TG0,
    wide("SH0", 13, 12, SHAREABILITY),
    wide("ORGN0", 11, 10, WALK_CACHEABILITY),
    wide("IRGN0", 9, 8, WALK_CACHEABILITY),
    _SL0,
    _T0SZ,
)

REGISTERS = (
    register("VTCR_EL2", "Virtualization Translation Control Register", plain(*_VTCR, res1=(31,))),
    register("VTTBR_EL2", "Virtualization Translation Table Base Register", plain(wide("VMID", 63, 48), _BADDR, _CNP)),
    register(
        "VSTCR_EL2",
        "Virtualization Secure Translation Control Register",
        plain(
            _SL2,
            flag("SA", 30, "Secure IPA space translates to Non-secure PA space", "Secure IPA to Secure PA space"),
            flag("SW", 29, "tables of the Secure IPA space are in Non-secure PA space", "tables in Secure PA space"),
            _TG0,
            _SL0,
            _T0SZ,
            res1=(31,),
        ),
    ),
    register("VSTTBR_EL2", "Virtualization Secure Translation Table Base Register", plain(_BADDR, _CNP)),
)
