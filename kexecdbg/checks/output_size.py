"""The output size field of TCR_ELx (PS, or IPS in the layout with two ranges), held against what the CPU has."""

from __future__ import annotations

from dataclasses import dataclass

from kexecdbg.arm64.bits import bit, bits
from kexecdbg.arm64.feature_guesses import FeatureGuesses
from kexecdbg.arm64.features import has_feature
from kexecdbg.arm64.geometry import ADDRESS_SIZES, GRANULE_64K, TG0_GRANULES, TG1_GRANULES
from kexecdbg.arm64.interfaces import RegisterValues
from kexecdbg.arm64.regimes import Regime, RegimeFacts

LARGEST_WITHOUT_52_BITS = 5
"""48 bits: what every granule's ordinary descriptors can hold."""
_52_BITS, _RESERVED = 6, 7
_MMFR0 = "ID_AA64MMFR0_EL1"


@dataclass(frozen=True)
class OutputSizeProblem:
    """A value of the field that the architecture does not permit here.

    Attributes:
        field: ``PS`` or ``IPS``.
        value: its value.
        limit: the largest value that is permitted.
        parange: ID_AA64MMFR0_EL1.PARange, or ``None`` when it is unknown.
        text: what is wrong, as a clause.
    """

    field: str
    value: int
    limit: int
    parange: int | None
    text: str


def implemented_size(registers: RegisterValues) -> int:
    """The largest value of the field that is right without 52-bit descriptors; the largest of all when unknown."""
    mmfr0 = registers.get(_MMFR0)
    return LARGEST_WITHOUT_52_BITS if mmfr0 is None else min(bits(mmfr0, 3, 0), LARGEST_WITHOUT_52_BITS)


def output_size_problem(registers: RegisterValues, regime: Regime, tcr: int) -> OutputSizeProblem | None:
    """What is wrong with the output size in ``tcr``, a value of ``regime``'s TCR_ELx; ``None`` when nothing is.

    Source: Arm ARM D23.2.167, TCR_EL1.IPS: values above the implemented size must not be relied upon; 0b110 is
    permitted with FEAT_LPA and the 64 KB granule, or with DS = 1 (FEAT_LPA2).
    """
    facts = regime.facts
    name, value = "IPS" if facts.two_ranges else "PS", bits(tcr, *facts.tcr_layout.ps)
    mmfr0 = registers.get(_MMFR0)
    parange = None if mmfr0 is None else bits(mmfr0, 3, 0)
    limit = _52_BITS if _permits_52_bits(registers, facts, tcr) else LARGEST_WITHOUT_52_BITS
    if parange is not None:
        limit = min(limit, parange)
    size = f"{value} ({ADDRESS_SIZES[value]} bits)"
    if value == _RESERVED and has_feature(registers, "FEAT_D128") is not True:
        text = "7, a reserved value"
    elif value <= limit:
        return None
    elif parange is not None and value > parange:
        text = f"{size}, more than the CPU has: {_MMFR0}.PARange is {parange}"
    else:
        text = f"{size}, which needs the 64 KB granule or DS = 1"
    return OutputSizeProblem(name, value, limit, parange, f"{facts.tcr}.{name} is {text}")


def _permits_52_bits(registers: RegisterValues, facts: RegimeFacts, tcr: int) -> bool:
    """Whether a range that is walked has descriptors for 52-bit addresses; features that are unknown count as there."""
    guesses = FeatureGuesses(registers)
    for fields, granules in zip(facts.tcr_layout.ranges, (TG0_GRANULES, TG1_GRANULES), strict=False):
        granule = granules.get(bits(tcr, *fields.tg))
        walked = fields.epd is None or not bit(tcr, fields.epd)
        if not walked or granule is None:
            continue
        if granule is GRANULE_64K or (bit(tcr, facts.tcr_layout.ds) and guesses.lpa2(granule, stage=1)):
            return True
    return False
