"""Exceptions: ESR, FAR, HPFAR, ELR, VBAR, PAR and their relatives (Arm ARM D23.2, registers of those names)."""

from __future__ import annotations

from kexecdbg.arm64.interfaces import RegisterValues
from kexecdbg.arm64.registers.conditions import not_judged
from kexecdbg.arm64.registers.declare import IMPLEMENTATION_DEFINED, flag, plain, register, whole, wide
from kexecdbg.arm64.registers.meanings import SHAREABILITY, memory_attribute
from kexecdbg.arm64.registers.model import Layout, Register, Selection
from kexecdbg.arm64.registers.select import by_fault_bit
from kexecdbg.arm64.syndromes.classes import esr_fields
from kexecdbg.arm64.syndromes.fault_status import fault_status_text


def _by_exception_class(_: Register, value: int, context: RegisterValues) -> Selection:
    return Selection(plain(*esr_fields(value)))


_ESR = plain(*esr_fields(0))

_PAR_SUCCESS = Layout(
    "F=0",
    (
        wide("ATTR", 63, 56, memory_attribute),
        wide("PA_51_48", 51, 48, lambda value: f"PA[51:48] = {value:#x}", "FEAT_LPA"),
        wide("PA_47_12", 47, 12, lambda value: f"physical page {value << 12:#x}"),
        flag("NSE", 11, "with NS: the physical address space; reads 1 without FEAT_RME", "with NS: the address space"),
        flag("NS", 9, "Non-secure address space", "Secure address space"),
        wide("SH", 8, 7, SHAREABILITY),
        flag("F", 0, "translation failed", "translation succeeded"),
    ),
    unchecked=1 << 10,
)
_PAR_FAULT = Layout(
    "F=1",
    (
        flag("DirtyBit", 15, "Permission fault because of the dirty state", needs="FEAT_S1PIE"),
        flag("Overlay", 14, "Permission fault because of an overlay", needs="FEAT_S1POE"),
        flag("TopLevel", 13, "Permission fault because of TopLevel", needs="FEAT_THE"),
        flag("AssuredOnly", 12, "Permission fault because of AssuredOnly", needs="FEAT_THE"),
        flag("S", 9, "fault in stage 2", "fault in stage 1"),
        flag("PTW", 8, "stage 2 fault on a stage 1 table walk", "not a stage 2 fault on a stage 1 table walk"),
        wide("FST", 6, 1, fault_status_text),
        flag("F", 0, "translation failed", "translation succeeded"),
    ),
    res1=(11,),
    unchecked=0xFFFF << 48,
)

_VBAR = plain(
    wide("VBA", 63, 11, lambda value: f"vectors at {value << 11:#x}"),
    flag("UT", 0, "2024 extension", needs=not_judged("a 2024 extension")),
)
_DISR = plain(
    flag("A", 31, "an SError was deferred", "no SError deferred"),
    flag("IDS", 24, "IMPLEMENTATION DEFINED syndrome", "architected syndrome"),
    wide("ISS", 23, 0),
)

REGISTERS = (
    *(
        register(f"ESR_EL{el}", f"Exception Syndrome Register (EL{el})", _ESR, select=_by_exception_class)
        for el in (1, 2, 3)
    ),
    *(register(f"FAR_EL{el}", f"Fault Address Register (EL{el})", whole("VA")) for el in (1, 2, 3)),
    register(
        "HPFAR_EL2",
        "Hypervisor IPA Fault Address Register",
        plain(
            flag("NS", 63, "Non-secure IPA space", "Secure IPA space", "FEAT_SEL2"),
            wide("FIPA", 47, 4, lambda value: f"IPA page {value << 12:#x}"),
        ),
    ),
    *(register(f"ELR_EL{el}", f"Exception Link Register (EL{el})", whole("RA")) for el in (1, 2, 3)),
    *(register(f"VBAR_EL{el}", f"Vector Base Address Register (EL{el})", _VBAR) for el in (1, 2, 3)),
    register("PAR_EL1", "Physical Address Register", _PAR_SUCCESS, _PAR_FAULT, select=by_fault_bit),
    *(
        register(f"AFSR{n}_EL{el}", f"Auxiliary Fault Status Register {n} (EL{el})", IMPLEMENTATION_DEFINED)
        for n in (0, 1)
        for el in (1, 2, 3)
    ),
    register("DISR_EL1", "Deferred Interrupt Status Register", _DISR),
    register("VDISR_EL2", "Virtual Deferred Interrupt Status Register", _DISR),
    register(
        "ISR_EL1",
        "Interrupt Status Register",
        plain(
            flag("IS", 10, "the pending IRQ has superpriority", needs="FEAT_NMI"),
            flag("FS", 9, "the pending FIQ has superpriority", needs="FEAT_NMI"),
            flag("A", 8, "SError pending", "no SError pending"),
            flag("I", 7, "IRQ pending", "no IRQ pending"),
            flag("F", 6, "FIQ pending", "no FIQ pending"),
        ),
    ),
)
