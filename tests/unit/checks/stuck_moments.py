"""Moments after the fact: the registers and memory of a CPU that stopped somewhere after the switch."""

from __future__ import annotations

from collections.abc import Mapping

from kexecdbg.checks.prediction import ExceptionRecord
from kexecdbg.checks.stuck.diagnosis import Diagnosis, diagnose
from kexecdbg.machine.state import CpuState
from tests.unit.checks.moments import VECTORS, Moment

VECTOR = VECTORS + 0x200
B_SELF, B_BACK_4, NOP, WFI, WFE, ERET, SMC, UDF = (
    0x1400_0000, 0x17FF_FFFF, 0xD503_201F, 0xD503_207F, 0xD503_205F, 0xD69F_03E0, 0xD400_0003, 0,
)  # fmt: skip
STP_X0_X1_PUSH = 0xA9BF_07E0
"""``stp x0, x1, [sp, #-16]!``"""
ADD_X0_1 = 0x9100_0400
"""``add x0, x0, #1``"""


def frozen(moment: Moment, exception: ExceptionRecord, **registers: int) -> dict[str, int]:
    """The registers of ``moment``'s CPU with the MMU on, right after it took ``exception`` from its own level."""
    values = moment.values()
    el = values["PSTATE"] >> 2 & 3
    values |= {
        f"SCTLR_EL{el}": values["X14"],
        f"ESR_EL{el}": exception.esr,
        f"ELR_EL{el}": exception.elr,
        f"SPSR_EL{el}": values["PSTATE"],
        "PC": VECTOR,
    }
    if exception.far is not None:
        values[f"FAR_EL{el}"] = exception.far
    return {**values, **registers}


def spinning(moment: Moment, **registers: int) -> dict[str, int]:
    """The registers of ``moment``'s CPU once it faults on its own vector for ever."""
    then = moment.verdict().prediction.then
    assert then is not None
    return frozen(moment, then, **registers)


def diagnosis(moment: Moment, values: Mapping[str, int], halted: bool | None = None) -> Diagnosis:
    """What is said about a CPU with these registers and the memory of ``moment``."""
    return diagnose(CpuState(dict(values)), moment.memory(), halted)


def vector_page(*instructions: int, at: int = 0x200, address: int = VECTORS) -> dict[int, bytes]:
    """A page of vectors with ``instructions`` at one entry; the rest are undefined words that are not zeros."""
    page = bytearray((0xDEAD).to_bytes(4, "little") * 1024)
    for number, word in enumerate(instructions):
        page[at + 4 * number : at + 4 * number + 4] = word.to_bytes(4, "little")
    return {address: bytes(page)}
