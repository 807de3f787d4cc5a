"""The exception classes of ESR_ELx.EC: name, ISS fields and what the ISS says in one line (Arm ARM D24.2.42)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from kexecdbg.arm64.bits import bit, bits
from kexecdbg.arm64.register_names import by_encoding
from kexecdbg.arm64.registers.model import Field
from kexecdbg.arm64.syndromes import iss
from kexecdbg.arm64.syndromes.ec import ec_of
from kexecdbg.arm64.syndromes.fault_status import fault_status_text, gpt_status_text


@dataclass(frozen=True)
class ExceptionClass:
    """One value of EC.

    Attributes:
        text: the name of the class.
        fields: its ISS and ISS2 fields; a function where one of them decides about others.
        describe: what an ESR value of the class says, in a few words; empty for nothing.
    """

    text: str
    fields: iss.Fields | Callable[[int], iss.Fields] = iss.NOTHING
    describe: Callable[[int], str] | None = None

    def iss_fields(self, esr: int) -> iss.Fields:
        """The fields that the ESR value ``esr`` has."""
        return self.fields(esr) if callable(self.fields) else self.fields


def _instruction_abort(esr: int) -> str:
    walk = ", stage 2 on a stage 1 table walk" if bit(esr, 7) else ""
    return fault_status_text(bits(esr, 5, 0)) + walk


def _data_abort(esr: int) -> str:
    if bit(esr, 8):
        access = "on a cache maintenance or address translation instruction"
    else:
        access = "on a write" if bit(esr, 6) else "on a read"
    return f"{_instruction_abort(esr)}, {access}"


def _system_access(esr: int) -> str:
    op0 = bits(esr, 21, 20)
    name = by_encoding(op0, bits(esr, 16, 14), bits(esr, 13, 10), bits(esr, 4, 1), bits(esr, 19, 17))
    register, is_read = iss.register_name(bits(esr, 9, 5)).lower(), bit(esr, 0)
    if op0 == 0:
        return f"msr {name}, #{bits(esr, 4, 1)}"
    if op0 == 1:
        return _system_instruction(name, register, bool(is_read))
    return f"mrs {register}, {name}" if is_read else f"msr {name}, {register}"


def _system_instruction(name: str, register: str, is_read: bool) -> str:
    if name.startswith("S1_"):
        name = f"{'sysl' if is_read else 'sys'} {name}"
    return name.lower() if register == "xzr" else f"{name.lower()}, {register}"


def _system_access_128(esr: int) -> str:
    name = by_encoding(bits(esr, 21, 20), bits(esr, 16, 14), bits(esr, 13, 10), bits(esr, 4, 1), bits(esr, 19, 17))
    first = 2 * bits(esr, 9, 6)
    return f"mrrs x{first}, x{first + 1}, {name}" if bit(esr, 0) else f"msrr {name}, x{first}, x{first + 1}"


def _immediate(esr: int) -> str:
    return f"#{bits(esr, 15, 0):#x}"


def _wait(esr: int) -> str:
    return ("WFI", "WFE", "WFIT", "WFET")[bits(esr, 1, 0)]


def _by_field(name: str) -> Callable[[int], str]:
    """The meaning of one ISS field is the description."""

    def describe(esr: int) -> str:
        for field in CLASSES[ec_of(esr)].iss_fields(esr):
            if field.name == name:
                return field.meaning(field.value_in(esr))
        return ""

    return describe


def _granule_protection(esr: int) -> str:
    return f"{gpt_status_text(bits(esr, 19, 14))}, {fault_status_text(bits(esr, 5, 0))}"


def _floating_point(esr: int) -> str:
    if not bit(esr, 23):
        return ""
    causes = (field for field in iss.FLOATING_POINT if field.msb <= 7 and bit(esr, field.msb))
    return ", ".join(field.meaning(1) for field in causes)


def _serror(esr: int) -> str:
    if bit(esr, 24):
        return "IMPLEMENTATION DEFINED syndrome"
    return _by_field("AET")(esr) if bits(esr, 5, 0) == 0x11 else "uncategorized"


def _watchpoint(esr: int) -> str:
    return "on a write" if bit(esr, 6) else "on a read"


def _memory_copy(esr: int) -> str:
    kind = "SET*" if bit(esr, 24) else "CPY*"
    return f"{kind} with registers of the other option" if bit(esr, 17) else kind


CLASSES: dict[int, ExceptionClass] = {
    0x00: ExceptionClass("Unknown reason (undefined instruction)"),
    0x01: ExceptionClass("Trapped WFx instruction", iss.WFX, _wait),
    0x03: ExceptionClass("Trapped MCR or MRC, coprocessor 15", iss.COPROCESSOR),
    0x04: ExceptionClass("Trapped MCRR or MRRC, coprocessor 15", iss.COPROCESSOR_PAIR),
    0x05: ExceptionClass("Trapped MCR or MRC, coprocessor 14", iss.COPROCESSOR),
    0x06: ExceptionClass("Trapped LDC or STC", iss.COPROCESSOR_MEMORY),
    0x07: ExceptionClass("Trapped SVE, Advanced SIMD or floating-point access", iss.CONDITIONAL),
    0x08: ExceptionClass("Trapped VMRS of an ID register", iss.COPROCESSOR),
    0x09: ExceptionClass("Trapped pointer authentication"),
    0x0A: ExceptionClass("Trapped other instruction", iss.OTHER_INSTRUCTION, _by_field("Instruction")),
    0x0C: ExceptionClass("Trapped MRRC, coprocessor 14", iss.COPROCESSOR_PAIR),
    0x0D: ExceptionClass("Branch Target exception", iss.BRANCH_TARGET, lambda esr: f"BTYPE {bits(esr, 1, 0)}"),
    0x0E: ExceptionClass("Illegal Execution state"),
    0x11: ExceptionClass("SVC, AArch32", iss.IMMEDIATE, _immediate),
    0x12: ExceptionClass("HVC, AArch32", iss.IMMEDIATE, _immediate),
    0x13: ExceptionClass("SMC, AArch32", iss.SMC_AARCH32),
    0x14: ExceptionClass("Trapped MSRR, MRRS or 128-bit System instruction", iss.SYSTEM_ACCESS_128, _system_access_128),
    0x15: ExceptionClass("SVC, AArch64", iss.IMMEDIATE, _immediate),
    0x16: ExceptionClass("HVC, AArch64", iss.IMMEDIATE, _immediate),
    0x17: ExceptionClass("SMC, AArch64", iss.IMMEDIATE, _immediate),
    0x18: ExceptionClass("Trapped MSR, MRS or System instruction", iss.SYSTEM_ACCESS, _system_access),
    0x19: ExceptionClass("Trapped SVE access"),
    0x1A: ExceptionClass("Trapped ERET, ERETAA or ERETAB", iss.ERET, _by_field("ERET")),
    0x1B: ExceptionClass("Trapped TSTART (withdrawn)", iss.TSTART),
    0x1C: ExceptionClass("Pointer authentication failure", iss.AUTHENTICATION_FAILURE),
    0x1D: ExceptionClass("Trapped SME access", iss.SME, _by_field("SMTC")),
    0x1E: ExceptionClass("Granule Protection Check", iss.granule_protection, _granule_protection),
    0x1F: ExceptionClass("IMPLEMENTATION DEFINED exception to EL3"),
    0x20: ExceptionClass("Instruction Abort, lower EL", iss.instruction_abort, _instruction_abort),
    0x21: ExceptionClass("Instruction Abort, same EL", iss.instruction_abort, _instruction_abort),
    0x22: ExceptionClass("PC alignment fault"),
    0x24: ExceptionClass("Data Abort, lower EL", iss.data_abort, _data_abort),
    0x25: ExceptionClass("Data Abort, same EL", iss.data_abort, _data_abort),
    0x26: ExceptionClass("SP alignment fault"),
    0x27: ExceptionClass("Memory Copy and Memory Set exception", iss.MEMORY_COPY, _memory_copy),
    0x28: ExceptionClass("Floating-point exception, AArch32", iss.FLOATING_POINT, _floating_point),
    0x2C: ExceptionClass("Floating-point exception, AArch64", iss.FLOATING_POINT, _floating_point),
    0x2D: ExceptionClass("Guarded Control Stack exception", iss.guarded_control_stack, _by_field("ExType")),
    0x2F: ExceptionClass("SError", iss.serror, _serror),
    0x30: ExceptionClass("Breakpoint, lower EL", iss.BREAKPOINT),
    0x31: ExceptionClass("Breakpoint, same EL", iss.BREAKPOINT),
    0x32: ExceptionClass("Software Step, lower EL", iss.SOFTWARE_STEP),
    0x33: ExceptionClass("Software Step, same EL", iss.SOFTWARE_STEP),
    0x34: ExceptionClass("Watchpoint, lower EL", iss.WATCHPOINT, _watchpoint),
    0x35: ExceptionClass("Watchpoint, same EL", iss.WATCHPOINT, _watchpoint),
    0x38: ExceptionClass("BKPT, AArch32", iss.COMMENT, _immediate),
    0x3A: ExceptionClass("Vector Catch, AArch32", iss.BREAKPOINT),
    0x3C: ExceptionClass("BRK, AArch64", iss.COMMENT, _immediate),
    0x3D: ExceptionClass("Profiling exception (PMU)", iss.PROFILING),
}


def exception_class(ec: int) -> ExceptionClass:
    """The class of a 6-bit EC value; one without fields when the value is reserved."""
    return CLASSES.get(ec) or ExceptionClass(f"reserved exception class {ec:#04x}")


def summary_of(esr: int) -> str:
    """One line: the class and what its ISS says."""
    found = exception_class(ec_of(esr))
    detail = found.describe(esr) if found.describe else ""
    return f"{found.text}: {detail}" if detail else found.text


def esr_fields(esr: int) -> tuple[Field, ...]:
    """Every field of the ESR_ELx value ``esr``: ISS2, EC, IL, ISS and the fields within ISS and ISS2."""
    found = exception_class(ec_of(esr))
    detail = (found.describe(esr) if found.describe else "") or f"{bits(esr, 24, 0):#x}"
    return (
        Field("ISS2", 55, 32, lambda value: f"{value:#x}"),
        Field("EC", 31, 26, lambda value: exception_class(value).text),
        Field("IL", 25, 25, {0: "16-bit instruction", 1: "32-bit instruction, or not about an instruction"}),
        Field("ISS", 24, 0, lambda value: detail),
        *found.iss_fields(esr),
    )
