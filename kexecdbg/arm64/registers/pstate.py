"""Process state: PSTATE, SPSR_ELx and the registers that show parts of it (Arm ARM C5.2)."""

from __future__ import annotations

from kexecdbg.arm64.registers.conditions import not_judged
from kexecdbg.arm64.registers.declare import flag, plain, register, wide
from kexecdbg.arm64.registers.meanings import EXCEPTION_LEVELS
from kexecdbg.arm64.registers.model import Layout, Register
from kexecdbg.arm64.registers.select import by_execution_state

AARCH64_MODES = {
    0b0000: "EL0t: EL0 with SP_EL0",
    0b0100: "EL1t: EL1 with SP_EL0",
    0b0101: "EL1h: EL1 with SP_EL1",
    0b1000: "EL2t: EL2 with SP_EL0",
    0b1001: "EL2h: EL2 with SP_EL2",
    0b1100: "EL3t: EL3 with SP_EL0",
    0b1101: "EL3h: EL3 with SP_EL3",
}
_AARCH32_MODES = {
    0b0000: "User",
    0b0001: "FIQ",
    0b0010: "IRQ",
    0b0011: "Supervisor",
    0b0110: "Monitor",
    0b0111: "Abort",
    0b1010: "Hyp",
    0b1011: "Undefined",
    0b1111: "System",
}
_BRANCH_TYPES = {
    0: "no landing pad needed",
    1: "BTYPE 1: BR X16 or X17, or from an unguarded page",
    2: "BTYPE 2: BLR",
    3: "BTYPE 3: BR of another register from a guarded page",
}

_D = flag("D", 9, "debug exceptions masked", "debug exceptions not masked")
_A = flag("A", 8, "SError masked", "SError not masked")
_I = flag("I", 7, "IRQ masked", "IRQ not masked")
_F = flag("F", 6, "FIQ masked", "FIQ not masked")
_NZCV = (
    flag("N", 31, "Negative", "not Negative"),
    flag("Z", 30, "Zero", "not Zero"),
    flag("C", 29, "Carry", "no Carry"),
    flag("V", 28, "Overflow", "no Overflow"),
)
_TCO = flag("TCO", 25, "tag checks overridden: off", "tag checks as configured", "FEAT_MTE")
_DIT = flag("DIT", 24, "data-independent timing", "timing may depend on data", "FEAT_DIT")
_UAO = flag("UAO", 23, "unprivileged loads and stores act as privileged", needs="FEAT_UAO")
_PAN = flag("PAN", 22, "privileged access to EL0-accessible data faults", "no Privileged Access Never", "FEAT_PAN")
_ALLINT = flag("ALLINT", 13, "all interrupts masked, with superpriority too", needs="FEAT_NMI")

_FROM_AARCH64 = Layout(
    "AArch64",
    (
        flag("UINJ", 36, "an Undefined instruction exception is injected on return", needs=not_judged("FEAT_UINJ")),
        flag("PACM", 35, "PC used as second modifier of PAuth", needs="FEAT_PAuth_LR"),
        flag("EXLOCK", 34, "exception return state locked (Guarded Control Stack)", needs="FEAT_GCS"),
        flag("PPEND", 33, "profiling exception pending", needs=not_judged("FEAT_SEBEP")),
        flag("PM", 32, "profiling exceptions masked", needs="FEAT_EBEP"),
        *_NZCV,
        _TCO,
        _DIT,
        _UAO,
        _PAN,
        flag("SS", 21, "software step active-not-pending"),
        flag("IL", 20, "illegal execution state: the next instruction faults", "legal execution state"),
        _ALLINT,
        flag("SSBS", 12, "speculative store bypass allowed", "speculative store bypass not allowed", "FEAT_SSBS"),
        wide("BTYPE", 11, 10, _BRANCH_TYPES, "FEAT_BTI"),
        _D,
        _A,
        _I,
        _F,
        flag("M4", 4, "AArch32", "AArch64"),
        wide("M", 3, 0, AARCH64_MODES),
    ),
)
_FROM_AARCH32 = Layout(
    "AArch32",
    (
        flag("PPEND", 33, "profiling exception pending", needs=not_judged("FEAT_SEBEP")),
        *_NZCV,
        flag("Q", 27, "saturation has happened", "no saturation"),
        wide("IT1_0", 26, 25),
        _DIT,
        flag("SSBS", 23, "speculative store bypass allowed", "speculative store bypass not allowed", "FEAT_SSBS"),
        _PAN,
        flag("SS", 21, "software step active-not-pending"),
        flag("IL", 20, "illegal execution state: the next instruction faults", "legal execution state"),
        wide("GE", 19, 16),
        wide("IT7_2", 15, 10),
        flag("E", 9, "big-endian data", "little-endian data"),
        _A,
        _I,
        _F,
        flag("T", 5, "T32 instructions", "A32 instructions"),
        flag("M4", 4, "AArch32", "AArch64"),
        wide("M", 3, 0, _AARCH32_MODES),
    ),
)
_STATE = (_FROM_AARCH64, _FROM_AARCH32)

REGISTERS = (
    Register("PSTATE", "Process State, in the SPSR format (gdb: cpsr)", None, _STATE, by_execution_state),
    *(
        register(f"SPSR_EL{el}", f"Saved Program Status Register (EL{el})", *_STATE, select=by_execution_state)
        for el in (1, 2, 3)
    ),
    register("CurrentEL", "Current Exception Level", plain(wide("EL", 3, 2, EXCEPTION_LEVELS))),
    register("DAIF", "Interrupt Mask Bits", plain(_D, _A, _I, _F)),
    register("NZCV", "Condition Flags", plain(*_NZCV)),
    register("PAN", "Privileged Access Never", plain(_PAN)),
    register("UAO", "User Access Override", plain(_UAO)),
    register("DIT", "Data Independent Timing", plain(_DIT)),
    register("TCO", "Tag Check Override", plain(_TCO)),
    register("ALLINT", "All Interrupt Mask Bit", plain(_ALLINT)),
    register("SSBS", "Speculative Store Bypass Safe", plain(_FROM_AARCH64.field("SSBS"))),
    register("SPSel", "Stack Pointer Select", plain(flag("SP", 0, "SP is SP_ELx of this level", "SP is SP_EL0"))),
)
