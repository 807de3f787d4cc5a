"""Exception syndromes: ESR_ELx decoded to the last field, built, and read together with FAR, HPFAR and PAR."""

from __future__ import annotations

from dataclasses import dataclass

from kexecdbg.arm64.bits import bit, bits
from kexecdbg.arm64.faults import Access, Fault
from kexecdbg.arm64.interfaces import RegisterValues
from kexecdbg.arm64.registers.model import DecodedField
from kexecdbg.arm64.syndromes.classes import esr_fields, exception_class, summary_of
from kexecdbg.arm64.syndromes.ec import (
    DATA_ABORT_LOWER,
    DATA_ABORT_SAME,
    DATA_ABORTS,
    INSTRUCTION_ABORT_LOWER,
    INSTRUCTION_ABORT_SAME,
    ec_of,
)
from kexecdbg.arm64.syndromes.fault_status import fault_status_text
from kexecdbg.arm64.syndromes.read_along import read_along

__all__ = [
    "Syndrome",
    "abort_esr",
    "data_abort_esr",
    "decode_syndrome",
    "fault_status_text",
    "instruction_abort_esr",
    "is_as_predicted",
    "read_along",
]

_IL = 1 << 25
_ISV = 24
_INSTRUCTION_SYNDROME = 0x7FF << 14
"""ESR_ELx.ISS[24:14] of a Data Abort: ISV and what it makes valid."""


@dataclass(frozen=True)
class Syndrome:
    """An ESR_ELx value, decoded (Arm ARM D24.2.42).

    Attributes:
        value: the register value.
        ec: exception class, bits 31:26.
        ec_text: its name.
        il: instruction length, bit 25.
        iss: bits 24:0.
        fields: every field with its meaning from the highest bit down, the fields within ISS and ISS2 included.
        summary: one line, ``Instruction Abort, same EL: Permission fault, level 3``.
    """

    value: int
    ec: int
    ec_text: str
    il: int
    iss: int
    fields: tuple[DecodedField, ...]
    summary: str

    def field(self, name: str) -> DecodedField:
        """The field called ``name``.

        Raises:
            KeyError: the exception class has no such field.
        """
        for field in self.fields:
            if field.name == name:
                return field
        raise KeyError(name)


def decode_syndrome(esr: int, context: RegisterValues | None = None) -> Syndrome:
    """Decode an ESR_ELx value; never raises, whatever the value.

    Args:
        esr: the register value.
        context: other registers; nothing in the syndrome depends on them today.
    """
    fields = sorted(esr_fields(esr), key=lambda field: (-field.msb, field.lsb))
    decoded = tuple(
        DecodedField(field.name, field.msb, field.lsb, field.value_in(esr), field.meaning(field.value_in(esr)))
        for field in fields
    )
    ec = ec_of(esr)
    return Syndrome(esr, ec, exception_class(ec).text, bit(esr, 25), bits(esr, 24, 0), decoded, summary_of(esr))


def instruction_abort_esr(fsc: int, same_el: bool, s1ptw: bool = False) -> int:
    """The ESR_ELx value of an Instruction Abort with fault status ``fsc``."""
    ec = INSTRUCTION_ABORT_SAME if same_el else INSTRUCTION_ABORT_LOWER
    return ec << 26 | _IL | s1ptw << 7 | fsc


def data_abort_esr(fsc: int, same_el: bool, write: bool, s1ptw: bool = False, cm: bool = False) -> int:
    """The ESR_ELx value of a Data Abort with fault status ``fsc`` and ISV=0.

    A cache maintenance or address translation instruction (``cm``) reports WnR=1 whatever it does.
    """
    ec = DATA_ABORT_SAME if same_el else DATA_ABORT_LOWER
    return ec << 26 | _IL | cm << 8 | s1ptw << 7 | (write or cm) << 6 | fsc


def abort_esr(fault: Fault, access: Access) -> int:
    """The ESR_ELx value of an access, from the regime's own exception level, that takes ``fault``.

    A stage 2 fault goes up to EL2: its class is that of a lower exception level. ISV is 0.
    """
    same_el = fault.stage == 1
    if access is Access.FETCH:
        return instruction_abort_esr(fault.fsc, same_el, fault.s1ptw)
    return data_abort_esr(fault.fsc, same_el, access is Access.WRITE, fault.s1ptw)


def is_as_predicted(predicted: int, observed: int) -> bool:
    """Whether the ESR_ELx value ``observed`` is the ``predicted`` one, for all that the architecture says.

    QEMU gives ISV and ISS[23:14] for every Data Abort that is taken to EL2 (target/arm, merge_syn_data_abort), the
    architecture only for those of stage 2 (Arm ARM D24.2.42, "ISV"); that difference is let pass.
    """
    is_data_abort = ec_of(predicted) in DATA_ABORTS
    ignored = _INSTRUCTION_SYNDROME if is_data_abort and not bit(predicted, _ISV) else 0
    return predicted & ~ignored == observed & ~ignored
