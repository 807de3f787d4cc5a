"""Cases that QEMU would not survive, would run away with, or that the architecture leaves wholly open."""

from __future__ import annotations

from kexecdbg.arm64.bits import bit, bits
from kexecdbg.arm64.faults import CauseKind, FaultKind
from kexecdbg.arm64.features import has_feature
from kexecdbg.arm64.regimes import HCR_FWB, HCR_PTW, HCR_TGE, SCTLR_EE, Regime
from kexecdbg.lab.oracle.cases import Case, Operation
from kexecdbg.lab.oracle.deviation import Identity
from kexecdbg.lab.oracle.predict import Prediction


def illegal_block(case: Case, prediction: Prediction) -> bool:
    """Whether a walk ends at a block where the granule allows none."""
    return any(walk.fault is not None and walk.fault.cause.kind is CauseKind.ILLEGAL_BLOCK for walk in prediction.walks)


def fetch_by_illegal_block(case: Case, identity: Identity, prediction: Prediction) -> bool:
    """D1: a fetch that QEMU carries out."""
    return case.operation.is_fetch and illegal_block(case, prediction)


def fetch_under_tge(case: Case, identity: Identity, prediction: Prediction) -> bool:
    """D6: a fetch at EL0 with TGE that QEMU translates; it has no equal without TGE."""
    hcr = case.registers.get("HCR_EL2", 0)
    return (
        case.operation is Operation.FETCH_EL0
        and case.regime is Regime.EL1_0
        and bool(bit(hcr, HCR_TGE))
        and bool(case.registers.get("SCTLR_EL1", 0) & 1)
    )


def permission_or_flag_at_minus_one(case: Case, identity: Identity, prediction: Prediction) -> bool:
    """Whether QEMU would find an Access flag or Permission fault at level -1, for which there is no code.

    The architecture never does; QEMU takes a block there for legal (D1), or gives the stage 1 level to a stage 2 fault
    of the walk (D4, D18).
    """
    for walk in prediction.walks:
        fault = walk.fault
        if fault is None or walk.regime is not case.regime:
            continue
        if fault.cause.kind is CauseKind.ILLEGAL_BLOCK and fault.level < 0:
            return True
        reads = len(walk.levels)
        if fault.s1ptw and fault.kind in (FaultKind.ACCESS_FLAG, FaultKind.PERMISSION) and reads == 0:
            return _may_start_at_minus_one(case)
    return False


def stage2_permission_fault_of_at(case: Case, identity: Identity, prediction: Prediction) -> bool:
    """D30: an AT of both stages whose own access, not its table walk, stage 2 denies."""
    fault = prediction.fault
    facts = case.operation.facts
    denied = fault is not None and fault.stage == 2 and not fault.s1ptw and fault.kind is FaultKind.PERMISSION
    return facts.instruction and facts.both_stages and denied


def _may_start_at_minus_one(case: Case) -> bool:
    tcr = case.registers.get(case.regime.facts.tcr, 0)
    return bool(bit(tcr, case.regime.facts.tcr_layout.ds))


def ptw_at_minus_one(case: Case, identity: Identity, prediction: Prediction) -> bool:
    """D18 at level -1, for which QEMU has no code."""
    walk, _ = prediction.decisive
    return ptw_counts(case) and bool(walk.levels) and walk.levels[0].level < 0


def ipa_beyond_physical_size(case: Case, identity: Identity, prediction: Prediction) -> bool:
    """A stage 2 T0SZ that QEMU takes, and the architecture does not because of PARange."""
    t0sz = case.registers.get("VTCR_EL2", 0) & 0x3F
    return (
        case.regime is Regime.EL1_0
        and 16 <= t0sz < 24
        and any(
            walk.fault is not None and walk.fault.stage == 2 and walk.fault.cause.kind is CauseKind.TXSZ_OUT_OF_RANGE
            for walk in prediction.walks
        )
    )


def ptw_counts(case: Case) -> bool:
    """Whether the operation is one that QEMU holds against HCR_EL2.PTW with stage 2 off."""
    hcr, facts = case.registers.get("HCR_EL2", 0), case.operation.facts
    single_stage = case.regime is Regime.EL1_0 and facts.instruction and not facts.both_stages
    return single_stage and bool(bit(hcr, HCR_PTW)) and not bit(hcr, HCR_TGE)


def reserved_memory_type_of_table(case: Case, identity: Identity, prediction: Prediction) -> bool:
    """HCR_EL2.PTW asks whether a table is Device memory, and its stage 2 MemAttr is a reserved value."""
    return any(
        walk.fault is not None
        and walk.fault.cause.kind is CauseKind.STAGE2_DEVICE_WALK
        and not _is_device(case, identity, walk.fault.cause.address or 0)
        for walk in prediction.walks
    )


def _is_device(case: Case, identity: Identity, address: int) -> bool:
    word = case.memory.get(address, 0)
    if bit(case.registers.get("SCTLR_EL2", 0), SCTLR_EE):
        word = int.from_bytes(word.to_bytes(8, "little"), "big")
    attributes = bits(word, 5, 2)
    fwb = bit(case.registers.get("HCR_EL2", 0), HCR_FWB) and has_feature(identity, "FEAT_S2FWB")
    return attributes & (4 if fwb else 12) == 0
