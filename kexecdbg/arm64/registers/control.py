"""System control: SCTLR_ELx and SCTLR2_ELx (Arm ARM D23.2, registers of those names)."""

from __future__ import annotations

from collections.abc import Callable

from kexecdbg.arm64.registers.conditions import HOST_EL0, feature, host_el0_and
from kexecdbg.arm64.registers.declare import enable, flag, plain, register, trap, wide
from kexecdbg.arm64.registers.meanings import TAG_CHECK_FAULTS, wait_delay
from kexecdbg.arm64.registers.model import Condition, Field, Layout
from kexecdbg.arm64.registers.select import by_e2h

# What an EL0 control depends on, given the feature it belongs to: in SCTLR_EL1 the feature alone, in SCTLR_EL2 also
# that EL0 belongs to the host.
El0Condition = Callable[[str | None], Condition | None]


def _in_el1(name: str | None) -> Condition | None:
    return feature(name) if name else None


def _in_el2(name: str | None) -> Condition:
    return host_el0_and(name) if name else HOST_EL0


def _el0_controls(level: str, el0: El0Condition) -> tuple[Field, ...]:
    """What ``level`` lets EL0 do; the AArch32 controls and nTWE, nTWI, SA0, TSCXT are declared by the caller."""
    return (
        trap("TIDCP", 63, "EL0 use of IMPLEMENTATION DEFINED registers", el0("FEAT_TIDCP1")),
        enable("EnTP2", 60, "EL0 use of TPIDR2_EL0", el0("FEAT_SME")),
        flag("TCSO0", 58, "tag checks of stores only at EL0", needs=el0("FEAT_MTE_STORE_ONLY")),
        flag("EPAN", 57, "PAN covers pages that EL0 may only execute too", needs=el0("FEAT_PAN3")),
        enable("EnALS", 56, "EL0 LD64B and ST64B", el0("FEAT_LS64")),
        enable("EnAS0", 55, "EL0 ST64BV0", el0("FEAT_LS64_ACCDATA")),
        enable("EnASR", 54, "EL0 ST64BV", el0("FEAT_LS64_V")),
        wide("TWEDEL", 49, 46, wait_delay, el0("FEAT_TWED")),
        flag("TWEDEn", 45, "the trap of EL0 WFE is delayed by TWEDEL", needs=el0("FEAT_TWED")),
        flag("ATA0", 42, "EL0 may access Allocation Tags", needs=el0("FEAT_MTE2")),
        wide("TCF0", 39, 38, TAG_CHECK_FAULTS, el0("FEAT_MTE2")),
        flag("BT0", 35, "PACIxSP is no landing pad for BTYPE=3 at EL0", needs=el0("FEAT_BTI")),
        enable("EnFPM", 34, "EL0 use of FPMR", el0("FEAT_FPMR")),
        flag("MSCEn", 33, "EL0 may use the memory copy and set instructions", needs=el0("FEAT_MOPS")),
        flag("CMOW", 32, "EL0 cache clean and invalidate needs write permission", needs=el0("FEAT_CMOW")),
        flag("LSMAOE", 29, "AArch32 EL0 load/store multiple ordered as in Armv8.0", "", el0("FEAT_LSMAOC"), 1),
        enable("nTLSMD", 28, "AArch32 EL0 load/store multiple to Device memory", el0("FEAT_LSMAOC"), 1),
        enable("UCI", 26, "EL0 cache maintenance by address", el0(None)),
        flag("E0E", 24, "EL0 data is big-endian", "EL0 data is little-endian", el0(None)),
        flag("SPAN", 23, "PSTATE.PAN unchanged", f"PSTATE.PAN set on exception to {level}", el0("FEAT_PAN"), 1),
        enable("UCT", 15, "EL0 reads of CTR_EL0", el0(None)),
        enable("DZE", 14, "EL0 DC ZVA", el0(None)),
        flag("EnRCTX", 10, "EL0 may use CFP, DVP and CPP RCTX", "", el0("FEAT_SPECRES")),
    )


def _own_controls(level: str, walks: str) -> tuple[Field, ...]:
    """What SCTLR_ELx says about ``level`` itself, the same at EL1, EL2 and EL3."""
    return (
        flag("SPINTMASK", 62, "PSTATE.SP masks interrupts with superpriority too", needs="FEAT_NMI"),
        flag("NMI", 61, "non-maskable interrupts: PSTATE.ALLINT in use", needs="FEAT_NMI"),
        flag("TCSO", 59, f"tag checks of stores only at {level}", needs="FEAT_MTE_STORE_ONLY"),
        flag("DSSBS", 44, "PSTATE.SSBS is 1 on exception entry", "PSTATE.SSBS is 0 on exception entry", "FEAT_SSBS"),
        flag("ATA", 43, f"{level} may access Allocation Tags", needs="FEAT_MTE2"),
        wide("TCF", 41, 40, TAG_CHECK_FAULTS, "FEAT_MTE2"),
        flag("ITFSB", 37, f"asynchronous tag faults synchronized on entry to {level}", needs="FEAT_MTE2"),
        flag("EnIA", 31, "pointer authentication with APIAKey", needs="FEAT_PAuth"),
        flag("EnIB", 30, "pointer authentication with APIBKey", needs="FEAT_PAuth"),
        flag("EnDA", 27, "pointer authentication with APDAKey", needs="FEAT_PAuth"),
        flag("EE", 25, f"{walks} big-endian", f"{walks} little-endian"),
        flag("EIS", 22, f"exception entry to {level} is context synchronizing", "", "FEAT_ExS", 1),
        flag("IESB", 21, "implicit error synchronization at exception entry and return", needs="FEAT_IESB"),
        flag("WXN", 19, "writable regions are execute-never", "writability does not decide execution"),
        flag("EnDB", 13, "pointer authentication with APDBKey", needs="FEAT_PAuth"),
        flag("I", 12, "instruction accesses may be Cacheable", "instruction accesses are Non-cacheable"),
        flag("EOS", 11, f"exception return from {level} is context synchronizing", "", "FEAT_ExS", 1),
        flag("nAA", 6, "unaligned accesses within 16 bytes do not fault (FEAT_LSE2 forms)", "", "FEAT_LSE2"),
        flag("SA", 3, f"SP alignment checked at {level}", f"SP alignment not checked at {level}"),
        flag("C", 2, "data and walk accesses may be Cacheable", "data and walk accesses are Non-cacheable"),
        flag("A", 1, "alignment checked", "alignment not checked (except by instructions that always do)"),
        flag("M", 0, "stage 1 translation on: the MMU is on", "stage 1 translation off: the MMU is off"),
    )


def _ordered(*groups: tuple[Field, ...]) -> tuple[Field, ...]:
    return tuple(sorted((field for group in groups for field in group), key=lambda field: -field.msb))


_SCTLR_EL1 = _ordered(
    _own_controls("EL1", "EL1 data and EL1&0 stage 1 walks are"),
    _el0_controls("EL1", _in_el1),
    (
        flag("BT1", 36, "PACIxSP is no landing pad for BTYPE=3 at EL1", needs="FEAT_BTI"),
        trap("TSCXT", 20, "EL0 use of SCXTNUM_EL0", "FEAT_CSV2_1p2", 1),
        enable("nTWE", 18, "EL0 WFE"),
        enable("nTWI", 16, "EL0 WFI"),
        enable("UMA", 9, "EL0 use of PSTATE.DAIF"),
        flag("SED", 8, "SETEND undefined at EL0", "SETEND works at EL0", "FEAT_AA32EL0", 1),
        flag("ITD", 7, "some IT forms undefined at EL0", "all IT forms work at EL0", "FEAT_AA32EL0", 1),
        flag("CP15BEN", 5, "CP15 barriers work at EL0", "CP15 barriers undefined at EL0", "FEAT_AA32EL0"),
        flag("SA0", 4, "SP alignment checked at EL0", "SP alignment not checked at EL0"),
    ),
)

_BT = flag("BT", 36, "PACIxSP is no landing pad for BTYPE=3 at this level", needs="FEAT_BTI")
_SCTLR_EL2_OWN = (*_own_controls("EL2", "EL2 data, EL2 stage 1 walks and EL1&0 stage 2 walks are"), _BT)
_SCTLR_EL2_HOST = _ordered(
    _SCTLR_EL2_OWN,
    _el0_controls("EL2", _in_el2),
    (
        trap("TSCXT", 20, "EL0 use of SCXTNUM_EL0", HOST_EL0),
        enable("nTWE", 18, "EL0 WFE", HOST_EL0, 1),
        enable("nTWI", 16, "EL0 WFI", HOST_EL0, 1),
        flag("SED", 8, "SETEND undefined at EL0", "SETEND works at EL0", HOST_EL0),
        flag("ITD", 7, "some IT forms undefined at EL0", "all IT forms work at EL0", HOST_EL0),
        flag("CP15BEN", 5, "CP15 barriers work at EL0", "CP15 barriers undefined at EL0", HOST_EL0, 1),
        flag("SA0", 4, "SP alignment checked at EL0", "SP alignment not checked at EL0", HOST_EL0, 1),
    ),
)
# The EL0 controls with E2H=0, and always in SCTLR_EL3: RES1 at these bits, RES0 at the others.
_NO_EL0_CONTROLS = (29, 28, 23, 18, 16, 5, 4)

_SCTLR2_MASKS = (
    flag("NMEA", 2, "SError is taken even when PSTATE.A masks it", needs="FEAT_DoubleFault2"),
    flag("EnADERR", 3, "asynchronous External aborts of Device reads", needs="FEAT_ADERR"),
    flag("EnANERR", 4, "asynchronous External aborts of Normal reads", needs="FEAT_ANERR"),
    flag("EASE", 5, "synchronous External aborts are taken through the SError vector", needs="FEAT_DoubleFault2"),
)
_ID128 = enable("EnIDCP128", 6, "EL0 use of IMPLEMENTATION DEFINED 128-bit registers", "FEAT_SYSREG128")
_SCTLR2_EL1 = _ordered(_SCTLR2_MASKS, (_ID128,))
_SCTLR2_EL2 = _ordered(
    _SCTLR2_MASKS,
    (_ID128, flag("EMEC", 1, "memory encryption contexts for Realm EL2 and EL2&0", needs="FEAT_MEC")),
)
_SCTLR2_EL3 = _ordered(
    _SCTLR2_MASKS,
    (flag("EMEC", 1, "memory encryption contexts for Realm physical address space", needs="FEAT_MEC"),),
)

REGISTERS = (
    register("SCTLR_EL1", "System Control Register (EL1)", Layout("", _SCTLR_EL1)),
    register(
        "SCTLR_EL2",
        "System Control Register (EL2)",
        Layout("E2H=0", _ordered(_SCTLR_EL2_OWN), _NO_EL0_CONTROLS),
        Layout("E2H=1", _SCTLR_EL2_HOST),
        select=by_e2h,
    ),
    register(
        "SCTLR_EL3",
        "System Control Register (EL3)",
        Layout("", _ordered(_own_controls("EL3", "EL3 data and EL3 stage 1 walks are"), (_BT,)), _NO_EL0_CONTROLS),
    ),
    register("SCTLR2_EL1", "System Control Register 2 (EL1)", plain(*_SCTLR2_EL1)),
    register("SCTLR2_EL2", "System Control Register 2 (EL2)", plain(*_SCTLR2_EL2)),
    register("SCTLR2_EL3", "System Control Register 2 (EL3)", plain(*_SCTLR2_EL3)),
)
