"""Answers as QEMU gives them: faults and their levels, shareability."""

from __future__ import annotations

from dataclasses import replace

from kexecdbg.arm64.bits import bits
from kexecdbg.arm64.faults import CauseKind
from kexecdbg.arm64.memory_types import Shareability
from kexecdbg.arm64.translation import stage1_of
from kexecdbg.lab.oracle.cases import Case
from kexecdbg.lab.oracle.deviation import Identity, in_upper_range, stage2_is_on
from kexecdbg.lab.oracle.memory_type_answers import not_outer_with_stage1_off
from kexecdbg.lab.oracle.not_asked import illegal_block, ptw_counts
from kexecdbg.lab.oracle.predict import Observation, Prediction, machine_registers


def nothing_after_illegal_block(case: Case, identity: Identity, prediction: Prediction) -> Observation:
    """D1: whatever comes of a block at an illegal level is not compared."""
    return {} if illegal_block(case, prediction) else prediction.observation


def stage1_level_of_walk_fault(case: Case, identity: Identity, prediction: Prediction) -> Observation:
    """D4: the level of the stage 1 table that was being read."""
    walk, fault = prediction.decisive
    if fault is None or not fault.s1ptw:
        return prediction.observation
    upper = case.regime.facts.is_upper(walk.va)
    table = stage1_of(machine_registers(case, identity), case.regime, upper=upper).table
    status = replace(fault, level=table.start_level + len(walk.levels)).fsc
    found = dict(prediction.observation)
    if "FST" in found:
        found["FST"] = status
    elif isinstance(found.get("ESR"), int):
        found["ESR"] = int(str(found["ESR"])) & ~0x3F | status
    return found


def raw_shareability(case: Case, identity: Identity, prediction: Prediction) -> Observation:
    """D8: the shareability of the descriptor, or 0 with the MMU off."""
    walk, _ = prediction.decisive
    if walk.stage2 is not None:
        return not_outer_with_stage1_off(case, identity, prediction)
    if prediction.observation.get("SH") != Shareability.OUTER.value:
        return prediction.observation
    raw = 0
    if walk.levels:
        stage1 = stage1_of(machine_registers(case, identity), case.regime, upper=in_upper_range(case))
        raw = stage1.shareability.value if stage1.table.ds else bits(walk.levels[-1].descriptor or 0, 9, 8)
    return {**prediction.observation, "SH": raw}


def ptw_without_stage2(case: Case, identity: Identity, prediction: Prediction) -> Observation:
    """A Permission fault at the first table that is read."""
    walk, fault = prediction.decisive
    before_walk = fault is not None and fault.cause.kind in (CauseKind.E0PD, CauseKind.VA_OUT_OF_RANGE)
    if not ptw_counts(case) or stage2_is_on(case, identity) or not walk.levels or before_walk:
        return prediction.observation
    return {"outcome": "PAR", "F": 1, "FST": 0x0C + walk.levels[0].level, "S": 1, "PTW": 1}


def level_0_of_ptw(case: Case, identity: Identity, prediction: Prediction) -> Observation:
    """D26: level 0 in the Permission fault of a table in Device memory."""
    _, fault = prediction.decisive
    found = dict(prediction.observation)
    by_device = fault is not None and fault.cause.kind is CauseKind.STAGE2_DEVICE_WALK
    if not by_device and ptw_without_stage2(case, identity, prediction) != prediction.observation:
        return prediction.observation
    if found.get("S") == 1 and found.get("PTW") == 1 and (by_device or ptw_counts(case)):
        status = found.get("FST")
        if isinstance(status, int) and status >> 2 == 3:
            found["FST"] = 0x0C
    elif by_device and isinstance(found.get("ESR"), int):
        found["ESR"] = int(str(found["ESR"])) & ~3
    return found
