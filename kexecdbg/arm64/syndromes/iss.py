"""The ISS and ISS2 fields of each exception class (Arm ARM D24.2.42, ESR_ELx, "ISS encoding for ...").

Positions are bits of ESR_ELx, so ISS2 fields start at 32.
"""

from __future__ import annotations

from kexecdbg.arm64.bits import bit, bits
from kexecdbg.arm64.registers.model import Field, Meanings
from kexecdbg.arm64.syndromes.fault_status import SYNCHRONOUS_EXTERNAL_ABORT, fault_status_text, gpt_status_text

Fields = tuple[Field, ...]

LS64_FAULT = 0x35

CONDITIONS = ("EQ", "NE", "CS", "CC", "MI", "PL", "VS", "VC", "HI", "LS", "GE", "LT", "GT", "LE", "AL", "NV")


def _one(name: str, position: int, when_set: str, when_clear: str) -> Field:
    return Field(name, position, position, {0: when_clear, 1: when_set})


def register_name(number: int) -> str:
    """A 64-bit general register by number; 31 is XZR in a system register access."""
    return "XZR" if number == 31 else f"X{number}"


def _general(name: str, msb: int, lsb: int) -> Field:
    return Field(name, msb, lsb, register_name)


_CV = _one("CV", 24, "COND is valid", "COND is not valid")
_COND = Field("COND", 23, 20, lambda value: f"condition {CONDITIONS[value]}")
_CONDITIONAL = (_CV, _COND)
_DIRECTION = _one("Direction", 0, "read: MRS or MRC", "write: MSR, MCR or SYS")

NOTHING: Fields = ()
CONDITIONAL: Fields = _CONDITIONAL
WFX: Fields = (
    *_CONDITIONAL,
    _general("RN", 9, 5),
    _one("RV", 2, "RN is valid", "RN is not valid"),
    Field("TI", 1, 0, {0: "WFI", 1: "WFE", 2: "WFIT", 3: "WFET"}),
)
COPROCESSOR: Fields = (
    *_CONDITIONAL,
    Field("Opc2", 19, 17),
    Field("Opc1", 16, 14),
    Field("CRn", 13, 10),
    _general("Rt", 9, 5),
    Field("CRm", 4, 1),
    _DIRECTION,
)
COPROCESSOR_PAIR: Fields = (
    *_CONDITIONAL,
    Field("Opc1", 19, 16),
    _general("Rt2", 14, 10),
    _general("Rt", 9, 5),
    Field("CRm", 4, 1),
    _DIRECTION,
)
COPROCESSOR_MEMORY: Fields = (
    *_CONDITIONAL,
    Field("imm8", 19, 12),
    _general("Rn", 9, 5),
    _one("Offset", 4, "offset added", "offset subtracted"),
    Field("AM", 3, 1),
    _one("Direction", 0, "LDC", "STC"),
)
OTHER_INSTRUCTION: Fields = (
    Field(
        "Instruction",
        24,
        0,
        {0: "ST64BV", 1: "ST64BV0", 2: "LD64B or ST64B", 3: "TSB CSYNC", 4: "PSB CSYNC"},
    ),
)
BRANCH_TARGET: Fields = (Field("BTYPE", 1, 0),)
IMMEDIATE: Fields = (Field("imm16", 15, 0, lambda value: f"#{value:#x}"),)
SMC_AARCH32: Fields = (*_CONDITIONAL, _one("CCKNOWNPASS", 19, "condition not known", "condition passed"))
COMMENT: Fields = (Field("Comment", 15, 0, lambda value: f"#{value:#x}"),)
SYSTEM_ACCESS: Fields = (
    Field("Op0", 21, 20),
    Field("Op2", 19, 17),
    Field("Op1", 16, 14),
    Field("CRn", 13, 10),
    _general("Rt", 9, 5),
    Field("CRm", 4, 1),
    _DIRECTION,
)
SYSTEM_ACCESS_128: Fields = (
    *SYSTEM_ACCESS[:4],
    Field("Rt", 9, 6, lambda value: f"X{2 * value}, X{2 * value + 1}"),
    *SYSTEM_ACCESS[5:],
)
ERET: Fields = (Field("ERET", 1, 0, {0: "ERET", 2: "ERETAA", 3: "ERETAB"}),)
TSTART: Fields = (_general("Rd", 9, 5),)
AUTHENTICATION_FAILURE: Fields = (
    _one("DnI", 1, "data key", "instruction key"),
    _one("BnA", 0, "B key", "A key"),
)
SME: Fields = (
    Field(
        "SMTC",
        2,
        0,
        {
            0: "SME access trapped",
            1: "not legal in Streaming SVE mode",
            2: "legal in Streaming SVE mode only",
            3: "needs ZA storage enabled",
            4: "ZT0 access trapped",
        },
    ),
)
_CM = _one("CM", 8, "cache maintenance or address translation instruction", "no cache maintenance instruction")
_S1PTW = _one("S1PTW", 7, "stage 2 fault on a stage 1 table walk", "not a stage 2 fault on a stage 1 table walk")
_WNR = _one("WnR", 6, "write", "read")
_FNV = _one("FnV", 10, "FAR is not valid", "FAR is valid")
_EA = Field("EA", 9, 9, {0: "External abort type 0", 1: "External abort type 1"})
_SET = Field("SET", 12, 11, {0: "recoverable", 2: "uncontainable", 3: "restartable"})
_PFV = _one("PFV", 14, "PFAR is valid", "PFAR is not valid")
_VNCR = _one("VNCR", 13, "EL1 access through VNCR_EL2", "not through VNCR_EL2")
_TOP_LEVEL = _one("TopLevel", 21, "because of TopLevel", "not because of TopLevel")
_LST = Field("LST", 12, 11, {0: "not an LS64 instruction", 1: "ST64BV", 2: "LD64B or ST64B", 3: "ST64BV0"})

_PERMISSION_CAUSES: Fields = (
    _one("AssuredOnly", 39, "because of AssuredOnly", "not because of AssuredOnly"),
    _one("Overlay", 38, "because of a permission overlay", "not because of a permission overlay"),
    _one("DirtyBit", 37, "because of the dirty state", "not because of the dirty state"),
)
_DATA_ISS2: Fields = (
    _one("TnD", 42, "on an Allocation Tag", "not on an Allocation Tag"),
    _one("TagAccess", 41, "because of the NoTagAccess attribute", "not because of NoTagAccess"),
    _one("GCS", 40, "Guarded Control Stack access", "not a Guarded Control Stack access"),
    *_PERMISSION_CAUSES,
    Field("Xs", 36, 32, register_name),
)
_ACCESS: Fields = (
    Field("SAS", 23, 22, {0: "byte", 1: "halfword", 2: "word", 3: "doubleword"}),
    _one("SSE", 21, "sign-extended", "not sign-extended"),
    _general("SRT", 20, 16),
    _one("SF", 15, "64-bit register", "32-bit register"),
    _one("AR", 14, "acquire or release", "no acquire or release"),
)
_ISV = _one("ISV", 24, "bits 23:14 describe the access", "no description of the access")


def instruction_abort(esr: int) -> Fields:
    """ISS and ISS2 of an Instruction Abort."""
    return (
        *_PERMISSION_CAUSES,
        _TOP_LEVEL,
        _PFV,
        *((_SET,) if bits(esr, 5, 0) == SYNCHRONOUS_EXTERNAL_ABORT else ()),
        _FNV,
        _EA,
        _S1PTW,
        Field("IFSC", 5, 0, fault_status_text),
    )


def data_abort(esr: int) -> Fields:
    """ISS and ISS2 of a Data Abort; ISV decides what bits 23:14 are, DFSC what bits 12:11 are."""
    dfsc = bits(esr, 5, 0)
    bits_12_11 = _LST if dfsc == LS64_FAULT and not bit(esr, 24) else _SET
    return (
        *_DATA_ISS2,
        _ISV,
        *(_ACCESS if bit(esr, 24) else (_TOP_LEVEL, _PFV)),
        _VNCR,
        bits_12_11 if dfsc in (LS64_FAULT, SYNCHRONOUS_EXTERNAL_ABORT) else Field("SET", 12, 11),
        _FNV,
        _EA,
        _CM,
        _S1PTW,
        _WNR,
        Field("DFSC", 5, 0, fault_status_text),
    )


def granule_protection(esr: int) -> Fields:
    """ISS of a Granule Protection Check exception (taken to EL3)."""
    return (
        _one("S2PTW", 21, "on a stage 2 table walk", "not on a stage 2 table walk"),
        _one("InD", 20, "instruction access", "data access"),
        Field("GPCSC", 19, 14, gpt_status_text),
        _VNCR,
        _CM,
        _one("S1PTW", 7, "on a stage 1 table walk", "not on a stage 1 table walk"),
        _WNR,
        Field("xFSC", 5, 0, fault_status_text),
    )


MEMORY_COPY: Fields = (
    _one("MemInst", 24, "memory set (SET*)", "memory copy (CPY*)"),
    _one("isSETG", 23, "SETG*: with tags", "without tags"),
    Field("Options", 22, 19),
    _one("FromEpilogue", 18, "an epilogue instruction", "a main instruction"),
    _one("WrongOption", 17, "registers are in the other format", "registers are in the right format"),
    _one("OptionA", 16, "registers in Option A format", "registers in Option B format"),
    _general("destreg", 14, 10),
    _general("srcreg", 9, 5),
    _general("sizereg", 4, 0),
)
FLOATING_POINT: Fields = (
    _one("TFV", 23, "the bits below say what was trapped", "no information on what was trapped"),
    Field("VECITR", 10, 8),
    _one("IDF", 7, "Input Denormal", "no Input Denormal"),
    _one("IXF", 4, "Inexact", "no Inexact"),
    _one("UFF", 3, "Underflow", "no Underflow"),
    _one("OFF", 2, "Overflow", "no Overflow"),
    _one("DZF", 1, "Divide by Zero", "no Divide by Zero"),
    _one("IOF", 0, "Invalid Operation", "no Invalid Operation"),
)
_GCS_TYPE = Field("ExType", 23, 20, {0: "data check failed", 1: "EXLOCK: return state locked", 2: "GCSSTR or GCSSTTR"})
_GCS_INSTRUCTIONS: Meanings = {
    0: "return without authentication",
    1: "GCSPOPM",
    2: "return with A key",
    3: "return with B key",
    4: "GCSSS1",
    5: "GCSSS2",
    8: "GCSPOPCX",
    9: "GCSPOPX",
}


def guarded_control_stack(esr: int) -> Fields:
    """ISS of a Guarded Control Stack exception; ExType decides the rest."""
    extra: dict[int, Fields] = {
        0: (_general("Rn", 9, 5), Field("IT", 4, 0, _GCS_INSTRUCTIONS)),
        2: (_general("Raddr", 14, 10), _general("Rvalue", 9, 5)),
    }
    return (_GCS_TYPE, *extra.get(bits(esr, 23, 20), ()))


def serror(esr: int) -> Fields:
    """ISS of an SError exception; IDS=1 makes it IMPLEMENTATION DEFINED."""
    ids = _one("IDS", 24, "IMPLEMENTATION DEFINED syndrome", "architected syndrome")
    if bit(esr, 24):
        return (ids,)
    return (
        ids,
        _PFV,
        _one("IESB", 13, "synchronized by an implicit barrier", "not synchronized by an implicit barrier"),
        Field(
            "AET", 12, 10, {0: "uncontainable", 1: "unrecoverable", 2: "restartable", 3: "recoverable", 6: "corrected"}
        ),
        _EA,
        Field("DFSC", 5, 0, {0: "uncategorized error", 0x11: "asynchronous SError"}),
    )


_DEBUG_STATUS = {0x22: "Debug exception"}
BREAKPOINT: Fields = (Field("IFSC", 5, 0, _DEBUG_STATUS),)
SOFTWARE_STEP: Fields = (
    _one("ISV", 24, "EX is valid", "EX is not valid"),
    _one("EX", 6, "the stepped instruction was a load-exclusive", "not a load-exclusive"),
    Field("IFSC", 5, 0, _DEBUG_STATUS),
)
WATCHPOINT: Fields = (
    Field("WPT", 23, 18, lambda value: f"watchpoint {value}"),
    _one("WPTV", 17, "WPT is valid", "WPT is not valid"),
    _one("WPF", 16, "may be a false match", "not a false match"),
    _one("FnP", 15, "FAR is not precise", "FAR is precise"),
    _VNCR,
    _FNV,
    _CM,
    _WNR,
    Field("DFSC", 5, 0, _DEBUG_STATUS),
)
PROFILING: Fields = (_one("SYNC", 0, "synchronous", "asynchronous"),)
