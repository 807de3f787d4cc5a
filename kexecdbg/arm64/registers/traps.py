"""What is trapped to EL1, EL2 and EL3: CPACR, CPTR, HSTR, MDCR, CNTHCTL, SCR_EL3 (Arm ARM D23.2)."""

from __future__ import annotations

from kexecdbg.arm64.registers.conditions import not_judged
from kexecdbg.arm64.registers.declare import counted, enable, flag, plain, register, trap, wide
from kexecdbg.arm64.registers.meanings import TRAP_EL0_ONLY, wait_delay
from kexecdbg.arm64.registers.model import Layout
from kexecdbg.arm64.registers.select import by_e2h

_HOST_TRAPS = {
    0: "trapped at EL2, EL1 and EL0",
    1: "trapped at EL0 when TGE=1 only",
    2: "trapped at EL2, EL1 and EL0",
    3: "not trapped",
}

_CPACR = plain(
    flag("E0POE", 29, "EL0 may use POR_EL0", "EL0 use of POR_EL0 trapped", "FEAT_S1POE"),
    trap("TTA", 28, "EL1 and EL0 use of trace registers"),
    wide("SMEN", 25, 24, TRAP_EL0_ONLY, "FEAT_SME"),
    wide("FPEN", 21, 20, TRAP_EL0_ONLY),
    wide("ZEN", 17, 16, TRAP_EL0_ONLY, "FEAT_SVE"),
    # TCPAC and TAM exist where EL2 reaches CPTR_EL2 under this name (NV, NV2): no verdict on them.
    unchecked=1 << 31 | 1 << 30,
)

_CPTR_EL2_E2H_0 = Layout(
    "E2H=0",
    (
        trap("TCPAC", 31, "EL1 use of CPACR_EL1"),
        trap("TAM", 30, "EL1 and EL0 use of activity monitors", "FEAT_AMUv1"),
        trap("TTA", 20, "use of trace registers"),
        trap("TSM", 12, "use of SME", "FEAT_SME", 1),
        trap("TFP", 10, "use of SVE, Advanced SIMD and floating-point"),
        trap("TZ", 8, "use of SVE", "FEAT_SVE", 1),
    ),
    res1=(13, 9, 7, 6, 5, 4, 3, 2, 1, 0),
)
_CPTR_EL2_E2H_1 = Layout(
    "E2H=1",
    (
        trap("TCPAC", 31, "EL1 use of CPACR_EL1"),
        trap("TAM", 30, "EL1 and EL0 use of activity monitors", "FEAT_AMUv1"),
        flag("E0POE", 29, "with TGE=1 EL0 may use POR_EL0", "with TGE=1 EL0 use of POR_EL0 trapped", "FEAT_S1POE"),
        trap("TTA", 28, "use of trace registers"),
        wide("SMEN", 25, 24, _HOST_TRAPS, "FEAT_SME"),
        wide("FPEN", 21, 20, _HOST_TRAPS),
        wide("ZEN", 17, 16, _HOST_TRAPS, "FEAT_SVE"),
    ),
)
_CPTR_EL3 = plain(
    trap("TCPAC", 31, "EL2 use of CPTR_EL2, EL2 and EL1 use of CPACR_EL1"),
    trap("TAM", 30, "use of activity monitors below EL3", "FEAT_AMUv1"),
    trap("TTA", 20, "use of trace registers"),
    enable("ESM", 12, "use of SME", "FEAT_SME"),
    trap("TFP", 10, "use of SVE, Advanced SIMD and floating-point"),
    enable("EZ", 8, "use of SVE", "FEAT_SVE"),
)

_CNTHCTL_UPPER = (
    flag("CNTPMASK", 19, "CNTP interrupt masked (Realm state)", needs="FEAT_RME"),
    flag("CNTVMASK", 18, "CNTV interrupt masked (Realm state)", needs="FEAT_RME"),
    flag("EVNTIS", 17, "EVNTI selects counter bits 8 to 23", "EVNTI selects counter bits 0 to 15", "FEAT_ECV"),
    trap("EL1NVVCT", 16, "EL1 use of CNTV_*_EL02", "FEAT_ECV"),
    trap("EL1NVPCT", 15, "EL1 use of CNTP_*_EL02", "FEAT_ECV"),
    trap("EL1TVCT", 14, "EL1 and EL0 use of CNTVCT_EL0", "FEAT_ECV"),
    trap("EL1TVT", 13, "EL1 and EL0 use of the virtual timer", "FEAT_ECV"),
    flag("ECV", 12, "CNTPOFF_EL2 offsets the physical counter", needs="FEAT_ECV"),
)
_CNTHCTL_EVENT = (
    wide("EVNTI", 7, 4, lambda bit: f"event stream from counter bit {bit} (plus 8 with EVNTIS)"),
    flag("EVNTDIR", 3, "event on a 1 to 0 transition", "event on a 0 to 1 transition"),
    flag("EVNTEN", 2, "event stream on", "event stream off"),
)
_CNTHCTL_E2H_0 = Layout(
    "E2H=0",
    (
        *_CNTHCTL_UPPER,
        *_CNTHCTL_EVENT,
        enable("EL1PCEN", 1, "EL1 and EL0 use of the physical timer"),
        enable("EL1PCTEN", 0, "EL1 and EL0 use of CNTPCT_EL0"),
    ),
)
_CNTHCTL_E2H_1 = Layout(
    "E2H=1",
    (
        *_CNTHCTL_UPPER,
        enable("EL1PTEN", 11, "EL1 and EL0 use of the physical timer"),
        enable("EL1PCTEN", 10, "EL1 and EL0 use of CNTPCT_EL0"),
        enable("EL0PTEN", 9, "EL0 use of the physical timer"),
        enable("EL0VTEN", 8, "EL0 use of the virtual timer"),
        *_CNTHCTL_EVENT,
        enable("EL0VCTEN", 1, "EL0 use of CNTVCT_EL0"),
        enable("EL0PCTEN", 0, "EL0 use of CNTPCT_EL0"),
    ),
)

# E2PB and E2TB: who owns the profiling and trace buffers.
_BUFFER_OWNER = {
    0: "buffer of the EL2 regime, EL1 use trapped",
    2: "buffer of the EL1&0 regime, EL1 use trapped",
    3: "buffer of the EL1&0 regime, EL1 use not trapped",
}
_MDCR_EL2 = plain(
    enable("EnSTEPOP", 50, "EL1 use of MDSTEPOP_EL1", "FEAT_STEP2"),
    flag("EBWE", 43, "extended breakpoint and watchpoint banks", needs="FEAT_Debugv8p9"),
    wide("PMEE", 41, 40, None, "FEAT_EBEP"),
    flag("HPMFZS", 36, "EL2 counters freeze on a profiling buffer event", needs="FEAT_SPEv1p2"),
    wide("PMSSE", 31, 30, None, "FEAT_PMUv3_SS"),
    flag("HPMFZO", 29, "EL2 counters freeze on overflow", needs="FEAT_PMUv3p7"),
    flag("MTPME", 28, "multi-threaded event counting", needs="FEAT_MTPMU"),
    trap("TDCC", 27, "EL1 and EL0 use of the debug communication channel", "FEAT_FGT"),
    flag("HLP", 26, "EL2 counters are 64 bits wide", "EL2 counters are 32 bits wide", "FEAT_PMUv3p5"),
    wide("E2TB", 25, 24, _BUFFER_OWNER, "FEAT_TRBE"),
    flag("HCCD", 23, "the cycle counter stops at EL2", needs="FEAT_PMUv3p5"),
    trap("TTRF", 19, "EL1 use of TRFCR_EL1", "FEAT_TRF"),
    flag("HPMD", 17, "guest counters stop at EL2", needs="FEAT_PMUv3p1"),
    enable("EnSPM", 15, "EL1 and EL0 use of system performance monitors", "FEAT_SPMU"),
    trap("TPMS", 14, "EL1 use of profiling registers", "FEAT_SPE"),
    wide("E2PB", 13, 12, _BUFFER_OWNER, "FEAT_SPE"),
    trap("TDRA", 11, "EL1 and EL0 use of the debug ROM registers"),
    trap("TDOSA", 10, "EL1 use of the OS lock and powerdown registers"),
    trap("TDA", 9, "EL1 and EL0 use of other debug registers"),
    flag("TDE", 8, "debug exceptions go to EL2", "debug exceptions go to EL1"),
    flag("HPME", 7, "EL2 counters on", "EL2 counters off"),
    trap("TPM", 6, "EL1 and EL0 use of performance monitors"),
    trap("TPMCR", 5, "EL1 and EL0 use of PMCR_EL0"),
    wide("HPMN", 4, 0, counted("event counters for EL1 and EL0")),
)
_MDCR_EL3 = plain(
    enable("EnSTEPOP", 50, "use of MDSTEPOP_EL1 below EL3", "FEAT_STEP2"),
    flag("ETBAD", 49, "2022 extension: external trace buffer access", needs=not_judged("FEAT_TRBE_EXT")),
    enable("EnITE", 47, "use of TRCITE registers below EL3", not_judged("FEAT_ITE")),
    wide("EPMSSAD", 46, 45, None, "FEAT_PMUv3_SS"),
    flag("EnPMSS", 44, "use of the PMU snapshot registers below EL3", needs="FEAT_PMUv3_SS"),
    flag("EBWE", 43, "extended breakpoint and watchpoint banks", needs="FEAT_Debugv8p9"),
    enable("EnPMS3", 42, "use of PMSDSFR_EL1 below EL3", not_judged("FEAT_SPE_FDS")),
    wide("PMEE", 41, 40, None, "FEAT_EBEP"),
    flag("EnTB2", 39, "trace buffer registers of newer versions usable", needs=not_judged("FEAT_TRBE_EXC")),
    flag("E3BREC", 38, "branch recording at EL3", needs=not_judged("FEAT_BRBEv1p1")),
    flag("E3BREW", 37, "branch recording at EL3, warm", needs=not_judged("FEAT_BRBEv1p1")),
    enable("EnPMSN", 36, "use of PMSNEVFR_EL1 below EL3", "FEAT_SPEv1p2"),
    flag("MPMX", 35, "event counters stop at EL3", needs="FEAT_PMUv3p7"),
    flag("MCCD", 34, "the cycle counter stops at EL3", needs="FEAT_PMUv3p7"),
    wide("SBRBE", 33, 32, None, "FEAT_BRBE"),
    wide("PMSSE", 31, 30, None, "FEAT_PMUv3_SS"),
    flag("MTPME", 28, "multi-threaded event counting", needs="FEAT_MTPMU"),
    trap("TDCC", 27, "use of the debug communication channel below EL3", "FEAT_FGT"),
    flag("NSTBE", 26, "the trace buffer belongs to Realm state", needs=not_judged("FEAT_TRBE with FEAT_RME")),
    wide("NSTB", 25, 24, None, "FEAT_TRBE"),
    flag("SCCD", 23, "the cycle counter stops in Secure state", needs="FEAT_PMUv3p5"),
    flag("ETAD", 22, "no external access to trace registers", needs=not_judged("FEAT_ETE")),
    flag("EPMAD", 21, "no external access to performance monitors"),
    flag("EDAD", 20, "no external access to breakpoint and watchpoint registers"),
    trap("TTRF", 19, "use of TRFCR below EL3", "FEAT_TRF"),
    flag("STE", 18, "trace of Secure state allowed", needs="FEAT_TRF"),
    flag("SPME", 17, "event counting in Secure state allowed"),
    flag("SDD", 16, "debug exceptions of AArch64 off in Secure state"),
    wide("SPD32", 15, 14, {0: "as the debug authentication says", 2: "disabled", 3: "enabled"}, "FEAT_AA32EL1"),
    wide("NSPB", 13, 12, None, "FEAT_SPE"),
    flag("NSPBE", 11, "the profiling buffer belongs to Realm state", needs=not_judged("FEAT_SPE with FEAT_RME")),
    trap("TDOSA", 10, "EL2 and EL1 use of the OS lock and powerdown registers"),
    trap("TDA", 9, "use of other debug registers below EL3"),
    enable("EnPM2", 7, "use of newer performance monitor registers below EL3", not_judged("FEAT_PMUv3p9")),
    trap("TPM", 6, "use of performance monitors below EL3"),
    flag("EDADE", 4, "external debug access control, Realm", needs="FEAT_RME"),
    flag("ETADE", 3, "external trace access control, Realm", needs="FEAT_RME"),
    flag("EPMADE", 2, "external performance monitor access control, Realm", needs="FEAT_RME"),
    flag("RLTE", 0, "trace of Realm state allowed", needs="FEAT_RME"),
)

_SCR = plain(
    flag("NSE", 62, "with NS: the Security state below EL3 (1,1 Realm)", needs="FEAT_RME"),
    enable("HACDBSEn", 61, "EL2 use of the HACDBS registers", not_judged("FEAT_HACDBS")),
    enable("HDBSSEn", 60, "EL2 use of the HDBSS registers", "FEAT_HDBSS"),
    enable("FGTEn2", 59, "EL2 use of the FEAT_FGT2 trap registers", "FEAT_FGT2"),
    flag("EnDSE", 58, "delegated SError", needs=not_judged("FEAT_E3DSE")),
    flag("DSE", 57, "delegated SError pending", needs=not_judged("FEAT_E3DSE")),
    enable("SRMASKEn", 55, "use of the register write masks below EL3", "FEAT_SRMASK"),
    enable("EnFPM", 50, "use of FPMR below EL3", "FEAT_FPMR"),
    enable("MECEn", 49, "EL2 use of the MECID registers", "FEAT_MEC"),
    flag("GPF", 48, "Granule Protection Faults below EL3 go to EL3", needs="FEAT_RME"),
    enable("D128En", 47, "128-bit system register accesses below EL3", "FEAT_D128"),
    enable("AIEn", 46, "use of MAIR2_ELx and AMAIR2_ELx below EL3", "FEAT_AIE"),
    enable("PIEn", 45, "use of PIR and POR registers below EL3", "FEAT_S1PIE"),
    enable("SCTLR2En", 44, "use of SCTLR2_ELx below EL3", "FEAT_SCTLR2"),
    enable("TCR2En", 43, "use of TCR2_ELx below EL3", "FEAT_TCR2"),
    enable("RCWMASKEn", 42, "use of RCWMASK_EL1 and RCWSMASK_EL1 below EL3", "FEAT_THE"),
    enable("EnTP2", 41, "use of TPIDR2_EL0 below EL3", "FEAT_SME"),
    trap("TRNDR", 40, "RNDR and RNDRRS", not_judged("FEAT_RNG_TRAP")),
    flag("GCSEn", 39, "Guarded Control Stacks below EL3", needs="FEAT_GCS"),
    enable("HXEn", 38, "EL2 use of HCRX_EL2 (0 also makes its fields count as 0)", "FEAT_HCX"),
    enable("ADEn", 37, "use of ACCDATA_EL1 below EL3", "FEAT_LS64_ACCDATA"),
    enable("EnAS0", 36, "ST64BV0 below EL3", "FEAT_LS64_ACCDATA"),
    enable("AMVOFFEN", 35, "EL2 use of activity monitor offsets", "FEAT_AMUv1p1"),
    flag("TME", 34, "transactional memory (withdrawn)", needs=not_judged("FEAT_TME")),
    wide("TWEDEL", 33, 30, wait_delay, "FEAT_TWED"),
    flag("TWEDEn", 29, "the TWE trap is delayed by TWEDEL", needs="FEAT_TWED"),
    enable("ECVEn", 28, "EL2 use of CNTPOFF_EL2", "FEAT_ECV"),
    enable("FGTEn", 27, "EL2 use of the fine-grained trap registers", "FEAT_FGT"),
    flag("ATA", 26, "EL2, EL1 and EL0 may access Allocation Tags", needs="FEAT_MTE2"),
    enable("EnSCXT", 25, "use of SCXTNUM below EL3", "FEAT_CSV2_1p2"),
    trap("TID5", 23, "reads of GMID_EL1 below EL3", not_judged("FEAT_IDTE3")),
    trap("TID3", 22, "reads of the feature ID registers below EL3", not_judged("FEAT_IDTE3")),
    flag("FIEN", 21, "fault injection through ERXPFG registers below EL3", needs="FEAT_RASv1p1"),
    flag("NMEA", 20, "SError at EL3 is taken even when masked", needs=not_judged("FEAT_DoubleFault")),
    flag("EASE", 19, "External aborts to EL3 use the SError vector", needs=not_judged("FEAT_DoubleFault")),
    flag("EEL2", 18, "Secure EL2 on", "Secure EL2 off", "FEAT_SEL2"),
    enable("API", 17, "pointer authentication instructions below EL3", "FEAT_PAuth"),
    enable("APK", 16, "use of the pointer authentication keys below EL3", "FEAT_PAuth"),
    trap("TERR", 15, "use of the error record registers below EL3", "FEAT_RAS"),
    trap("TLOR", 14, "use of the LOR registers below EL3", "FEAT_LOR"),
    trap("TWE", 13, "WFE below EL3"),
    trap("TWI", 12, "WFI below EL3"),
    enable("ST", 11, "Secure EL1 use of the Secure physical timer"),
    flag("RW", 10, "the next lower level is AArch64", "lower levels are AArch32"),
    flag("SIF", 9, "Secure state does not fetch from Non-secure memory"),
    flag("HCE", 8, "HVC works", "HVC is undefined"),
    flag("SMD", 7, "SMC is undefined", "SMC works"),
    flag("EA", 3, "External aborts and SError go to EL3"),
    flag("FIQ", 2, "FIQ goes to EL3"),
    flag("IRQ", 1, "IRQ goes to EL3"),
    flag("NS", 0, "levels below EL3 are Non-secure", "levels below EL3 are Secure"),
    res1=(5, 4),
    unchecked=1 << 63 | 1 << 56 | 0b111 << 52 | 1 << 51,  # 2024 extensions
)

_HSTR = plain(
    *(
        trap(f"T{n}", n, f"AArch32 EL1 and EL0 use of coprocessor 15 c{n}", "FEAT_AA32EL1")
        for n in (15, 13, 12, 11, 10, 9, 8, 7, 6, 5, 3, 2, 1, 0)
    )
)

REGISTERS = (
    register("CPACR_EL1", "Architectural Feature Access Control Register", _CPACR),
    register("CPTR_EL2", "Architectural Feature Trap Register (EL2)", _CPTR_EL2_E2H_0, _CPTR_EL2_E2H_1, select=by_e2h),
    register("CPTR_EL3", "Architectural Feature Trap Register (EL3)", _CPTR_EL3),
    register("HSTR_EL2", "Hypervisor System Trap Register", _HSTR),
    register("MDCR_EL2", "Monitor Debug Configuration Register (EL2)", _MDCR_EL2),
    register("MDCR_EL3", "Monitor Debug Configuration Register (EL3)", _MDCR_EL3),
    register("CNTHCTL_EL2", "Counter-timer Hypervisor Control Register", _CNTHCTL_E2H_0, _CNTHCTL_E2H_1, select=by_e2h),
    register("SCR_EL3", "Secure Configuration Register", _SCR),
)
