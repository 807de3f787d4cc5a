"""Compares what QEMU answered with what we predicted, fact by fact."""

from __future__ import annotations

from kexecdbg.arm64.bits import bit, bits
from kexecdbg.arm64.syndromes.ec import SMC, ec_of
from kexecdbg.lab.oracle.cases import LANDING, UNTOUCHED, Answer, Case, Status
from kexecdbg.lab.oracle.predict import Observation, uncompared_esr_bits

_EL1_SLOTS, _EL2_SLOTS = 0x100, 0x200


def observed(case: Case, answer: Answer) -> Observation:
    """The answer in the terms of a prediction."""
    if answer.status is Status.PAR:
        return _par(answer.par)
    if answer.status is Status.FROM_EL3:
        if _smc(answer) == LANDING:
            return {"outcome": "executed", "PC": answer.elr_el3 - 4}
        found = {"ESR": answer.esr_el3, "FAR": answer.far_el3, "ELR": answer.elr_el3}
        return {"outcome": "exception", "to": 3, **found}
    if answer.status is Status.FROM_LOWER:
        return _told_by_smc(answer)
    if answer.status is Status.NEVER_ENDED:
        for to, esr, elr in ((1, answer.esr_el1, answer.elr_el1), (2, answer.esr_el2, answer.elr_el2)):
            if esr != UNTOUCHED and elr == answer.elr_el3:
                return {"outcome": "stuck", "to": to, **_syndrome(answer, to)}
        return {"outcome": "never ended", "PC": answer.elr_el3}
    return {"outcome": answer.status.name.lower(), "ESR": answer.esr_el3, "ELR": answer.elr_el3}


def differences(expected: Observation, actual: Observation) -> dict[str, tuple[object, object]]:
    """The facts that differ: ours and QEMU's."""
    found: dict[str, tuple[object, object]] = {}
    for name, value in expected.items():
        other = actual.get(name)
        if name == "ESR" and isinstance(value, int) and isinstance(other, int):
            ignored = uncompared_esr_bits(value)
            if value & ~ignored == other & ~ignored:
                continue
        if other != value:
            found[name] = (value, other)
    return found


def _par(par: int) -> Observation:
    if bit(par, 0):
        return {"outcome": "PAR", "F": 1, "FST": bits(par, 6, 1), "S": bit(par, 9), "PTW": bit(par, 8)}
    return {
        "outcome": "PAR",
        "F": 0,
        "PA": bits(par, 51, 12) << 12,
        "ATTR": bits(par, 63, 56),
        "SH": bits(par, 8, 7),
    }


def _smc(answer: Answer) -> int | None:
    """The immediate of the SMC that came to EL3, if one did."""
    return bits(answer.esr_el3, 15, 0) if ec_of(answer.esr_el3) == SMC else None


def _told_by_smc(answer: Answer) -> Observation:
    number = _smc(answer)
    if number == LANDING:
        return {"outcome": "executed", "PC": answer.elr_el3 - 4}
    if number is None or number >> 8 not in (1, 2):
        return {"outcome": "went astray", "ESR": answer.esr_el3, "ELR": answer.elr_el3}
    to = number >> 8
    return {"outcome": "exception", "to": to, "slot": number & 0xFF, **_syndrome(answer, to)}


def _syndrome(answer: Answer, el: int) -> dict[str, int]:
    if el == 1:
        return {"ESR": answer.esr_el1, "FAR": answer.far_el1, "ELR": answer.elr_el1}
    return {
        "ESR": answer.esr_el2,
        "FAR": answer.far_el2,
        "ELR": answer.elr_el2,
        "HPFAR": answer.hpfar_el2,
    }
