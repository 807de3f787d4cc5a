"""Answers as QEMU gives them: the memory type under two stages (target/arm/ptw.c, combine_cacheattrs)."""

from __future__ import annotations

from dataclasses import dataclass

from kexecdbg.arm64.bits import bit, bits
from kexecdbg.arm64.memory_types import Shareability
from kexecdbg.arm64.regimes import HCR_CD, HCR_DC
from kexecdbg.arm64.stage2 import stage2_of
from kexecdbg.arm64.translation import stage1_of
from kexecdbg.lab.oracle.cases import Case
from kexecdbg.lab.oracle.deviation import Identity, in_upper_range
from kexecdbg.lab.oracle.predict import Observation, Prediction, machine_registers

_NOT_WB = (0b00, 0b10)


@dataclass(frozen=True)
class _TwoStages:
    """What the memory type under two stages is made of.

    Attributes:
        byte: stage 1's attributes as MAIR_ELx has them.
        mem_attr: stage 2's MemAttr[3:0].
        fwb, non_cacheable: HCR_EL2.FWB and CD.
        shareability: the descriptors' own, of both stages.
    """

    byte: int
    mem_attr: int
    fwb: bool
    non_cacheable: bool
    shareability: tuple[int, int]


def _two_stages(case: Case, identity: Identity, prediction: Prediction) -> _TwoStages | None:
    """The parts of a successful translation by two stages."""
    walk, fault = prediction.decisive
    if fault is not None or walk.stage2 is None or walk.stage2.mem_attr is None or case.operation.is_fetch:
        return None
    registers = machine_registers(case, identity)
    hcr = registers["HCR_EL2"]
    stage2 = stage2_of(registers)
    leaf2 = walk.stage2.levels[-1].descriptor or 0
    second = stage2.shareability.value if stage2.table.ds else bits(leaf2, 9, 8)
    byte, first = (0xFF, 0) if bit(hcr, HCR_DC) else (0, Shareability.OUTER.value)
    if walk.levels:
        leaf = walk.levels[-1].descriptor or 0
        stage1 = stage1_of(registers, case.regime, upper=in_upper_range(case))
        byte = stage1.mair[bits(leaf, 4, 2)] if stage1.mair else 0
        first = stage1.shareability.value if stage1.table.ds else bits(leaf, 9, 8)
    return _TwoStages(byte, walk.stage2.mem_attr, stage2.fwb, bool(bit(hcr, HCR_CD)), (first, second))


def _with_attributes(prediction: Prediction, attributes: int) -> Observation:
    found = {**prediction.observation, "ATTR": attributes}
    if attributes >> 4 == 0 or attributes in (0x40, 0x44):
        found["SH"] = Shareability.OUTER.value
    return found


def device_with_normal(case: Case, identity: Identity, prediction: Prediction) -> Observation:
    """combined_attrs_nofwb() compares the low nibbles even where one of them is of Normal memory."""
    parts = _two_stages(case, identity, prediction)
    if parts is None or parts.fwb:
        return prediction.observation
    first_is_device, second_is_device = parts.byte >> 4 == 0, parts.mem_attr >> 2 == 0
    if not first_is_device and not second_is_device:
        return prediction.observation
    nibbles = (parts.byte & 0xF, _low_nibble(parts))
    strictest = next((nibble for nibble in (0, 4, 8) if nibble in nibbles), 0xC)
    if prediction.observation.get("ATTR") in (None, strictest):
        return prediction.observation
    return _with_attributes(prediction, strictest)


def _low_nibble(parts: _TwoStages) -> int:
    """convert_stage2_attrs(), inner half."""
    high, low = parts.mem_attr >> 2, parts.mem_attr & 3
    if not high:
        return low << 2
    if parts.non_cacheable:
        low = 1
    return low << 2 | (0 if low == 1 else 3)


def forced_device(case: Case, identity: Identity, prediction: Prediction) -> Observation:
    """D20: stage 2's Device type."""
    parts = _two_stages(case, identity, prediction)
    if parts is None or not parts.fwb or parts.mem_attr >= 4 or parts.byte >> 4:
        return prediction.observation
    return _with_attributes(prediction, parts.mem_attr << 2)


def reserved_forced(case: Case, identity: Identity, prediction: Prediction) -> Observation:
    """D21: Device-nGnRnE."""
    parts = _two_stages(case, identity, prediction)
    if parts is None or not parts.fwb or parts.mem_attr < 8:
        return prediction.observation
    return _with_attributes(prediction, 0)


def transient_lost(case: Case, identity: Identity, prediction: Prediction) -> Observation:
    """Stage 2 Write-Through over stage 1 Write-Back transient."""
    parts = _two_stages(case, identity, prediction)
    attributes = prediction.observation.get("ATTR")
    if parts is None or parts.fwb or not isinstance(attributes, int) or not attributes >> 4:
        return prediction.observation
    changed = attributes
    for shift, wanted in ((0, parts.mem_attr & 3), (4, parts.mem_attr >> 2)):
        cacheable = attributes >> shift & 0xF != 4
        if cacheable and wanted == 2 and (parts.byte >> shift & 0xC) == 4 and parts.byte >> shift & 3:
            changed |= 8 << shift
    return prediction.observation if changed == attributes else _with_attributes(prediction, changed)


def descriptors_shareability(case: Case, identity: Identity, prediction: Prediction) -> Observation:
    """D23: the descriptors' shareability combined, whatever the memory types of the stages are."""
    parts = _two_stages(case, identity, prediction)
    return prediction.observation if parts is None else _with_shareability(prediction, *parts.shareability)


def not_outer_with_stage1_off(case: Case, identity: Identity, prediction: Prediction) -> Observation:
    """D8: a disabled stage 1 gives Non-shareable to the combination, not Outer Shareable."""
    parts = _two_stages(case, identity, prediction)
    if parts is None or prediction.decisive[0].levels:
        return prediction.observation
    return _with_shareability(prediction, 0, parts.shareability[1])


def _with_shareability(prediction: Prediction, first: int, second: int) -> Observation:
    attributes = prediction.observation.get("ATTR")
    if "SH" not in prediction.observation or not isinstance(attributes, int):
        return prediction.observation
    if attributes >> 4 == 0 or attributes in (0x40, 0x44):
        return prediction.observation
    combined = next((value for value in (2, 3) if value in (first, second)), 0)
    return {**prediction.observation, "SH": combined}


def _combined_nibble(first: int, second: int) -> int:
    """combine_cacheattr_nibble()"""
    if 4 in (first, second):
        return 4
    if first >> 2 in _NOT_WB or second >> 2 != 0b10:
        return first
    return 0b1000 | first & 3


def _xs_aside(byte: int) -> int:
    return {0x40: 0x44, 0xA0: 0xAA}.get(byte, byte if byte >> 4 else byte & 0xC)


def xs_not_modelled(case: Case, identity: Identity, prediction: Prediction) -> Observation:
    """What QEMU makes of the attribute bytes, where it differs in nothing but XS."""
    parts = _two_stages(case, identity, prediction)
    ours = prediction.observation.get("ATTR")
    if parts is None or not isinstance(ours, int):
        return prediction.observation
    if parts.fwb:
        theirs = parts.byte if parts.mem_attr == 7 or (parts.mem_attr == 5 and not parts.byte >> 4) else _xs_aside(ours)
    elif parts.byte >> 4 and parts.mem_attr >> 2:
        high, low = parts.mem_attr >> 2, parts.mem_attr & 3
        if parts.non_cacheable:
            high = low = 1
        halves = [half << 2 | (0 if half == 1 else 3) for half in (high, low)]
        theirs = _combined_nibble(parts.byte >> 4, halves[0]) << 4 | _combined_nibble(parts.byte & 0xF, halves[1])
    else:
        theirs = _xs_aside(ours)
    unknown_byte = parts.byte in (0x40, 0xA0)
    if theirs == ours or not (unknown_byte or _xs_aside(theirs) == _xs_aside(ours)):
        return prediction.observation
    return _with_attributes(prediction, theirs)
