"""Exceptions as their syndrome registers show them, made from the fault of an access."""

from __future__ import annotations

from kexecdbg.arm64.evaluation import Stop, StopReason
from kexecdbg.arm64.evaluation.loads_and_stores import load_store, syndrome_of
from kexecdbg.arm64.faults import Access, Fault
from kexecdbg.arm64.instructions import Instruction
from kexecdbg.arm64.syndromes import data_abort_esr, instruction_abort_esr
from kexecdbg.arm64.syndromes.ec import SP_ALIGNMENT, UNKNOWN_REASON
from kexecdbg.checks.prediction import ExceptionRecord

_ALIGNMENT_FAULT = 0x21
_ESR_UNKNOWN_REASON = UNKNOWN_REASON << 26 | 1 << 25
_ESR_SP_ALIGNMENT = SP_ALIGNMENT << 26 | 1 << 25
_ISV = 1 << 24


def fetch_abort(fault: Fault, address: int, el: int) -> ExceptionRecord:
    """The exception of code at EL ``el`` whose fetch from ``address`` takes ``fault``."""
    same_el = not _goes_to_el2(fault, el)
    esr = instruction_abort_esr(fault.fsc, same_el, fault.s1ptw)
    return ExceptionRecord(esr, address, address, None if same_el else 2)


def data_abort(fault: Fault, instruction: Instruction, address: int, access: Access, el: int) -> ExceptionRecord:
    """The exception of ``instruction``, at EL ``el``, whose access to ``address`` takes ``fault``."""
    same_el = not _goes_to_el2(fault, el)
    moved = load_store(instruction.word)
    esr = data_abort_esr(fault.fsc, same_el, access is Access.WRITE, fault.s1ptw, cm=moved is None)
    if not same_el and not fault.s1ptw and moved is not None:
        # ISV and what comes with it are only given for stage 2 (Arm ARM D24.2.42, ISS encoding for a Data Abort).
        iss = syndrome_of(moved, instruction.word)
        esr |= 0 if iss is None else _ISV | iss
    return ExceptionRecord(esr, address, instruction.address, None if same_el else 2)


def _goes_to_el2(fault: Fault, el: int) -> bool:
    return fault.stage == 2 and el < 2


def stop_exception(stop: Stop) -> ExceptionRecord | None:
    """The exception that ended an evaluation, of those that are no translation fault."""
    if stop.reason is StopReason.UNDEFINED:
        return undefined_instruction(stop.address)
    if stop.reason is StopReason.STACK_MISALIGNED:
        return ExceptionRecord(_ESR_SP_ALIGNMENT, None, stop.address)
    if stop.reason is StopReason.MISALIGNED:
        esr = data_abort_esr(_ALIGNMENT_FAULT, True, stop.access is Access.WRITE)
        return ExceptionRecord(esr, stop.target, stop.address)
    return None


def undefined_instruction(address: int) -> ExceptionRecord:
    """The exception of an undefined instruction at ``address``."""
    return ExceptionRecord(_ESR_UNKNOWN_REASON, None, address)
