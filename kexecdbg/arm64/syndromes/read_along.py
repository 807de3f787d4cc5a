"""What FAR, HPFAR, ELR and PAR say next to a syndrome, and when they say nothing."""

from __future__ import annotations

from collections.abc import Iterator

from kexecdbg.arm64.bits import bit, bits
from kexecdbg.arm64.features import effective_e2h
from kexecdbg.arm64.interfaces import RegisterValues
from kexecdbg.arm64.syndromes.ec import (
    ABORTS_OF_LOWER_EL,
    DATA_ABORTS,
    GRANULE_PROTECTION_CHECK,
    HAVE_FNV,
    INSTRUCTION_ABORTS,
    PC_ALIGNMENT,
    WATCHPOINT_LOWER,
    WATCHPOINT_SAME,
    ec_of,
)
from kexecdbg.arm64.syndromes.fault_status import (
    ACCESS_FLAG_STATUS,
    ADDRESS_SIZE_STATUS,
    TRANSLATION_STATUS,
    fault_status_text,
)

_TGE = 27
_HPFAR_STATUS = TRANSLATION_STATUS | ACCESS_FLAG_STATUS | ADDRESS_SIZE_STATUS


def read_along(esr: int, registers: RegisterValues, el: int) -> tuple[str, ...]:
    """Sentences on the registers that go with a syndrome taken to ``el``; a register that is unknown gets none.

    FAR_ELx is honoured only for the classes that set it and with FnV=0; HPFAR_EL2 only for stage 2 Translation,
    Access flag and Address size faults and for stage 2 faults of a stage 1 walk (Arm ARM D24.2.58, HPFAR_EL2).
    """
    return (
        *_fault_address(esr, registers, el),
        *_intermediate_address(esr, registers, el),
        *_return_address(registers, el),
        *_last_translation(registers),
    )


def _fault_address(esr: int, registers: RegisterValues, el: int) -> Iterator[str]:
    name = f"FAR_EL{el}"
    address = registers.get(name)
    if address is None:
        return
    what = _what_far_holds(esr)
    if what is None:
        yield f"{name} {address:#x}: left over, this exception class does not set it."
    elif ec_of(esr) in HAVE_FNV and bit(esr, 10):
        yield f"{name} {address:#x}: not valid, the syndrome says FnV=1."
    else:
        yield f"{name} {address:#x}: {what}."


def _what_far_holds(esr: int) -> str | None:
    ec = ec_of(esr)
    if ec in INSTRUCTION_ABORTS:
        return "address of the fetch"
    if ec in DATA_ABORTS:
        return f"address of the {_data_access(esr)}"
    if ec == PC_ALIGNMENT:
        return "the misaligned PC"
    if ec in (WATCHPOINT_LOWER, WATCHPOINT_SAME):
        return "address that hit the watchpoint"
    if ec == GRANULE_PROTECTION_CHECK:
        return f"address of the {'fetch' if bit(esr, 20) else _data_access(esr)}"
    return None


def _data_access(esr: int) -> str:
    if bit(esr, 8):
        return "cache maintenance or address translation instruction"
    return "write" if bit(esr, 6) else "read"


def _intermediate_address(esr: int, registers: RegisterValues, el: int) -> Iterator[str]:
    hpfar = registers.get("HPFAR_EL2")
    if el != 2 or hpfar is None or ec_of(esr) not in ABORTS_OF_LOWER_EL:
        return
    page = bits(hpfar, 47, 4) << 12
    if bit(esr, 7):
        yield f"HPFAR_EL2 {hpfar:#x}: the stage 1 table walk stopped at IPA page {page:#x}."
        return
    hcr = registers.get("HCR_EL2")
    if hcr is not None and bit(hcr, _TGE) and effective_e2h(registers):
        yield f"HPFAR_EL2 {hpfar:#x}: left over, with HCR_EL2.{{E2H,TGE}}={{1,1}} there is no stage 2."
    elif bits(esr, 5, 0) not in _HPFAR_STATUS:
        status = fault_status_text(bits(esr, 5, 0))
        yield f"HPFAR_EL2 {hpfar:#x}: not valid, a {status} does not set it."
    else:
        far = registers.get("FAR_EL2")
        if far is None or bit(esr, 10):
            yield f"HPFAR_EL2 {hpfar:#x}: IPA page {page:#x}."
        else:
            yield f"HPFAR_EL2 {hpfar:#x}: IPA {page | bits(far, 11, 0):#x}."


def _return_address(registers: RegisterValues, el: int) -> Iterator[str]:
    address = registers.get(f"ELR_EL{el}")
    if address is not None:
        yield f"ELR_EL{el} {address:#x}: where the exception would return to."


def _last_translation(registers: RegisterValues) -> Iterator[str]:
    par = registers.get("PAR_EL1")
    if par is None:
        return
    if not bit(par, 0):
        page = bits(par, 51, 12) << 12
        yield f"PAR_EL1 {par:#x}: the last AT instruction succeeded, physical page {page:#x}."
        return
    stage = "stage 2" if bit(par, 9) else "stage 1"
    walk = " on the stage 1 table walk" if bit(par, 8) else ""
    yield f"PAR_EL1 {par:#x}: the last AT instruction failed in {stage}{walk}, {fault_status_text(bits(par, 6, 1))}."
