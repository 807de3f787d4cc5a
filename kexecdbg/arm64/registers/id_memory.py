"""What the CPU can do, part 2: the memory model, ID_AA64MMFR0_EL1 to ID_AA64MMFR4_EL1 (Arm ARM D23.2)."""

from __future__ import annotations

from kexecdbg.arm64.registers.declare import id_field, id_register, register, wide
from kexecdbg.arm64.registers.meanings import ADDRESS_SIZES

_MMFR0 = id_register(
    id_field("ECV", 60, "FEAT_ECV", "FEAT_ECV and CNTPOFF_EL2"),
    id_field("FGT", 56, "FEAT_FGT", "FEAT_FGT2"),
    id_field("ExS", 44, "FEAT_ExS: exceptions need not be context synchronizing"),
    id_field("TGran4_2", 40, "no", "yes", "yes, 52-bit (FEAT_LPA2)", v0="stage 2 as TGran4"),
    id_field("TGran64_2", 36, "no", "yes", v0="stage 2 as TGran64"),
    id_field("TGran16_2", 32, "no", "yes", "yes, 52-bit (FEAT_LPA2)", v0="stage 2 as TGran16"),
    id_field("TGran4", 28, "yes, 52-bit (FEAT_LPA2)", v0="yes", v15="no"),
    id_field("TGran64", 24, v0="yes", v15="no"),
    id_field("TGran16", 20, "yes", "yes, 52-bit (FEAT_LPA2)", v0="no"),
    id_field("BigEndEL0", 16, "mixed endianness at EL0"),
    id_field("SNSMem", 12, "Secure and Non-secure memory are distinct"),
    id_field("BigEnd", 8, "mixed endianness"),
    id_field("ASIDBits", 4, v0="8-bit ASID", v2="16-bit ASID"),
    wide("PARange", 3, 0, lambda value: ADDRESS_SIZES.get(value, f"{value}: not known to this tool")),
)
_MMFR1 = id_register(
    id_field("ECBHB", 60, "FEAT_ECBHB: branch history isolated across exceptions"),
    id_field("CMOW", 56, "FEAT_CMOW"),
    id_field("TIDCP1", 52, "FEAT_TIDCP1"),
    id_field("nTLBPA", 48, "FEAT_nTLBPA: no physical-address-only walk caching"),
    id_field("AFP", 44, "FEAT_AFP"),
    id_field("HCX", 40, "FEAT_HCX: HCRX_EL2"),
    id_field("ETS", 36, "FEAT_ETS (withdrawn)", "FEAT_ETS2", "FEAT_ETS3"),
    id_field("TWED", 32, "FEAT_TWED"),
    id_field("XNX", 28, "FEAT_XNX: stage 2 execute-never for EL0 and EL1 apart"),
    id_field("SpecSEI", 24, "speculative reads may give SError"),
    id_field("PAN", 20, "FEAT_PAN", "FEAT_PAN2: AT S1E1RP and S1E1WP", "FEAT_PAN3: SCTLR_ELx.EPAN"),
    id_field("LO", 16, "FEAT_LOR"),
    id_field("HPDS", 12, "FEAT_HPDS: HPD bits", "FEAT_HPDS2: and HWU bits"),
    id_field("VH", 8, "FEAT_VHE"),
    id_field("VMIDBits", 4, v0="8-bit VMID", v2="16-bit VMID"),
    id_field(
        "HAFDBS", 0, "Access flag by hardware", "Access flag and dirty state by hardware", "FEAT_HAFT", "FEAT_HDBSS"
    ),
)
_MMFR2 = id_register(
    id_field("E0PD", 60, "FEAT_E0PD"),
    id_field("EVT", 56, "FEAT_EVT: TOCU, TICAB, TID4", "FEAT_EVT: and TTLBIS, TTLBOS"),
    id_field("BBM", 52, "level 1", "level 2", v0="level 0: break-before-make for every size change"),
    id_field("TTL", 48, "FEAT_TTL"),
    id_field("FWB", 40, "FEAT_S2FWB"),
    id_field("IDS", 36, "FEAT_IDST: ID register accesses from EL0 report EC 0x18", "FEAT_IDTE3"),
    id_field("AT", 32, "FEAT_LSE2"),
    id_field("ST", 28, "FEAT_TTST: TxSZ up to 48 (47 with 64 KB)", v0="TxSZ up to 39"),
    id_field("NV", 24, "FEAT_NV", "FEAT_NV2", "FEAT_NV2p1"),
    id_field("CCIDX", 20, "FEAT_CCIDX: 64-bit CCSIDR_EL1", v0="32-bit CCSIDR_EL1"),
    id_field("VARange", 16, "52-bit VA with 64 KB granules (FEAT_LVA)", "56-bit VA (FEAT_LVA3)", v0="48-bit VA"),
    id_field("IESB", 12, "FEAT_IESB"),
    id_field("LSM", 8, "FEAT_LSMAOC"),
    id_field("UAO", 4, "FEAT_UAO"),
    id_field("CnP", 0, "FEAT_TTCNP"),
)
_MMFR3 = id_register(
    id_field("Spec_FPACC", 60, "no speculative use of failed authentication"),
    id_field("ADERR", 56, "asynchronous", "FEAT_ADERR", "FEAT_ADERR, indirect"),
    id_field("SDERR", 52, "synchronous", "FEAT_ADERR", "FEAT_ADERR, indirect"),
    id_field("ANERR", 44, "asynchronous", "FEAT_ANERR", "FEAT_ANERR, indirect"),
    id_field("SNERR", 40, "synchronous", "FEAT_ANERR", "FEAT_ANERR, indirect"),
    id_field("D128_2", 36, "FEAT_D128 at stage 2"),
    id_field("D128", 32, "FEAT_D128"),
    id_field("MEC", 28, "FEAT_MEC"),
    id_field("AIE", 24, "FEAT_AIE: MAIR2_ELx"),
    id_field("S2POE", 20, "FEAT_S2POE"),
    id_field("S1POE", 16, "FEAT_S1POE", "FEAT_S1POE2"),
    id_field("S2PIE", 12, "FEAT_S2PIE"),
    id_field("S1PIE", 8, "FEAT_S1PIE"),
    id_field("SCTLRX", 4, "FEAT_SCTLR2: SCTLR2_ELx", "FEAT_CPA2 or newer"),
    id_field("TCRX", 0, "FEAT_TCR2: TCR2_ELx"),
)
_MMFR4 = id_register(
    id_field("MTEFGT", 60, "FEAT_MTEFGT"),
    id_field("SCRX", 56, "SCR2_EL3"),
    id_field("TEV", 52, "FEAT_TEV"),
    id_field("TPS", 48, "FEAT_TPS"),
    id_field("SRMASK", 44, "FEAT_SRMASK", "FEAT_SRMASK2"),
    id_field("TLBID", 40, "FEAT_TLBID"),
    id_field("E3DSE", 36, "FEAT_E3DSE"),
    id_field("EAESR", 32, "FEAT_EAESR"),
    id_field("RMEGDI", 28, "FEAT_RME_GDI"),
    id_field("E2H0", 24, v0="HCR_EL2.E2H can be 0", v15="HCR_EL2.E2H is RES1", v14="HCR_EL2.E2H is RES1, NV1 RES0"),
    id_field("NV_frac", 20, "FEAT_NV2 only"),
    id_field("FGWTE3", 16, "FEAT_FGWTE3"),
    id_field("HACDBS", 12, "FEAT_HACDBS"),
    id_field("ASID2", 8, "FEAT_ASID2"),
    id_field("EIESB", 4, "FEAT_DoubleFault", "FEAT_DoubleFault2", v15="no early implicit ESB"),
    id_field("PoPS", 0, "FEAT_PoPS"),
)

REGISTERS = (
    register("ID_AA64MMFR0_EL1", "AArch64 Memory Model Feature Register 0", _MMFR0),
    register("ID_AA64MMFR1_EL1", "AArch64 Memory Model Feature Register 1", _MMFR1),
    register("ID_AA64MMFR2_EL1", "AArch64 Memory Model Feature Register 2", _MMFR2),
    register("ID_AA64MMFR3_EL1", "AArch64 Memory Model Feature Register 3", _MMFR3),
    register("ID_AA64MMFR4_EL1", "AArch64 Memory Model Feature Register 4", _MMFR4),
)
