"""What our walk says that the guest will write down: PAR_EL1 after an AT, or the exceptions after a fetch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from kexecdbg.arm64.bits import bit, bits, mask
from kexecdbg.arm64.faults import Access, Fault, FaultKind
from kexecdbg.arm64.features import effective_e2h, has_feature
from kexecdbg.arm64.interfaces import PhysicalMemory, RegisterValues
from kexecdbg.arm64.memory_types import (
    DEVICE_TYPES,
    Cacheability,
    CachePolicy,
    MemoryType,
    Shareability,
    memory_type_of_mair_byte,
)
from kexecdbg.arm64.regimes import HCR_TGE, Regime, mmu_enabled, regime_of
from kexecdbg.arm64.walk import Walk, walk
from kexecdbg.lab.oracle.cases import (
    EL1_VECTORS,
    EL2_VECTORS,
    LANDING,
    SCR_EL3,
    SMC_LANDING,
    SVC_LANDING,
    Case,
    CaseMemory,
    NotAskableError,
    Operation,
)

Observation = Mapping[str, object]
"""Named facts that a prediction and an answer are compared by; a fact the prediction leaves out is not compared."""

WalkFunction = Callable[..., Walk]

_IL = 1 << 25
_EC_LOWER, _EC_SAME, _EC_SVC, _EC_DATA_SAME = 0x20, 0x21, 0x15, 0x25
_ESR_EA, _ESR_S1PTW, _ESR_CM, _ESR_WNR = 1 << 9, 1 << 7, 1 << 8, 1 << 6
_SLOT_SAME_SPX, _SLOT_LOWER = 4, 8
_SLOT_SIZE = 0x80
_VECTORS = {1: EL1_VECTORS, 2: EL2_VECTORS}
_UNCOMPARED_ESR = _ESR_EA  # ESR.EA, the external abort's type, is IMPLEMENTATION DEFINED
_BYTE_WITHOUT_XS = {0x44: 0x40, 0xAA: 0xA0}
_EXTERNAL = frozenset({FaultKind.EXTERNAL_ON_WALK, FaultKind.UNKNOWN})


@dataclass(frozen=True)
class Prediction:
    """What we expect of a case.

    Attributes:
        observation: the facts.
        walks: the walks it rests on, the tested address's first.
        fault: the fault of the tested address.
        decisive: the walk that the facts come from, and its fault: after an exception the last one's.
        reads: physical addresses of the descriptors that were read.
    """

    observation: Observation
    walks: tuple[Walk, ...]
    fault: Fault | None
    decisive: tuple[Walk, Fault | None]
    reads: tuple[int, ...] = ()


@dataclass
class _Machine:
    """The state a prediction is made for."""

    case: Case
    registers: RegisterValues
    memory: PhysicalMemory
    walk: WalkFunction
    walks: list[Walk] = field(default_factory=list)
    decisive: tuple[Walk, Fault | None] | None = None

    def translate(self, va: int, regime: Regime, both_stages: bool, pan: bool = False) -> Walk:
        result = self.walk(self.registers, self.memory, va, regime=regime, pan=pan, through_stage2=both_stages)
        self.walks.append(result)
        return result


def machine_registers(case: Case, identity: Mapping[str, int]) -> dict[str, int]:
    """All that a walk may ask for: the case's registers and what the CPU and the guest program add."""
    return {**identity, "SCR_EL3": SCR_EL3, **case.registers}


def predict(
    case: Case, identity: Mapping[str, int], words: Mapping[int, int] | None = None, walk_function: WalkFunction = walk
) -> Prediction:
    """The prediction for ``case`` on a CPU whose identification registers are ``identity``.

    Args:
        case: the question.
        identity: ID registers by name.
        words: all memory of the batch, when there is more than the case's own.
        walk_function: the walk under test.

    Raises:
        NotAskableError: a live machine would touch a device, or run something that is not ours.
    """
    memory = CaseMemory(case.memory if words is None else words)
    machine = _Machine(case, machine_registers(case, identity), memory, walk_function)
    if case.operation.is_fetch:
        observation, fault = _fetch(machine, case.memory if words is None else words)
    else:
        observation, fault = _translation(machine)
    decisive = machine.decisive or (machine.walks[0], fault)
    return Prediction(observation, tuple(machine.walks), fault, decisive, tuple(memory.reads))


def _translation(machine: _Machine) -> tuple[Observation, Fault | None]:
    case = machine.case
    facts = case.operation.facts
    result = machine.translate(case.va, case.regime, facts.both_stages, case.pan and facts.pan)
    fault = result.fault_for(facts.access, privileged=facts.el > 0)
    if fault is None:
        return _par_success(result, machine.registers), None
    if fault.kind in _EXTERNAL:
        esr = _EC_DATA_SAME << 26 | _IL | _ESR_CM | _ESR_WNR | fault.s1ptw * _ESR_S1PTW | fault.fsc
        return {"outcome": "exception", "to": 3, "ESR": esr, "FAR": case.va}, fault
    stage2 = fault.stage == 2
    return {"outcome": "PAR", "F": 1, "FST": fault.fsc, "S": int(stage2), "PTW": int(fault.s1ptw)}, fault


def _par_success(result: Walk, registers: RegisterValues) -> Observation:
    assert result.pa is not None
    found: dict[str, object] = {"outcome": "PAR", "F": 0, "PA": result.pa >> 12 << 12}
    if result.memory_type is not None and not _reserved_byte(result, registers):
        attributes = par_attributes(result.memory_type, registers)
        if attributes is not None:
            found["ATTR"] = attributes
            if result.shareability not in (None, Shareability.RESERVED):
                found["SH"] = result.shareability.value if result.shareability else 0
    return found


def _reserved_byte(result: Walk, registers: RegisterValues) -> bool:
    """Whether the leaf selects a MAIR byte that is UNPREDICTABLE, in general or on this CPU (Arm ARM, MAIR_EL1)."""
    if not result.levels:
        return False
    index = bits(result.levels[-1].descriptor or 0, 4, 2)
    byte = bits(registers.get(result.regime.facts.mair) or 0, 8 * index + 7, 8 * index)
    if not memory_type_of_mair_byte(byte).predictable:
        return True
    if byte == 0xF0:
        return not has_feature(registers, "FEAT_MTE2")
    return (byte in (0x40, 0xA0) or (byte >> 4 == 0 and byte & 3 == 1)) and not has_feature(registers, "FEAT_XS")


def par_attributes(memory_type: MemoryType, registers: RegisterValues) -> int | None:
    """PAR_EL1.ATTR for a memory type, or ``None`` where the architecture or the CPU leaves it open.

    The encoding is MAIR_ELx's (pseudocode ``PAREncodeShareability``, ``EncodePARAttrs``).
    """
    if not memory_type.predictable:
        return None
    if memory_type.device is not None:
        if not memory_type.xs:  # 0b0000dd01 needs FEAT_XS
            return DEVICE_TYPES.index(memory_type.device) << 2 | 1 if has_feature(registers, "FEAT_XS") else None
        return DEVICE_TYPES.index(memory_type.device) << 2
    assert memory_type.inner is not None and memory_type.outer is not None
    if memory_type.tagged:
        return 0xF0 if has_feature(registers, "FEAT_MTE2") else None
    byte = _half(memory_type.outer) << 4 | _half(memory_type.inner)
    if not memory_type.xs and byte in _BYTE_WITHOUT_XS:
        return _BYTE_WITHOUT_XS[byte] if has_feature(registers, "FEAT_XS") else None
    return byte


def _half(half: Cacheability) -> int:
    if half.policy is CachePolicy.NON_CACHEABLE:
        return 0b0100
    kind = 0b0100 if half.policy is CachePolicy.WRITE_BACK else 0
    return (0 if half.transient else 0b1000) | kind | half.read_allocate << 1 | int(half.write_allocate)


def _fetch(machine: _Machine, words: Mapping[int, int]) -> tuple[Observation, Fault | None]:
    case = machine.case
    el = case.operation.facts.el
    va = branch_target(case.va, case.regime, machine.registers)
    result = machine.translate(va, case.regime, both_stages=True)
    fault = result.fault_for(Access.FETCH, privileged=el > 0)
    if fault is not None:
        return _taken(machine, el, va, fault), fault
    assert result.pa is not None
    instruction = words.get(result.pa & -8, 0) >> 8 * (result.pa & 4) & 0xFFFF_FFFF
    if instruction != (SMC_LANDING if el else SVC_LANDING):
        raise NotAskableError(f"what lies at {result.pa:#x} is not ours to run")
    if el:
        return {"outcome": "executed", "PC": va}, None
    to = 2 if bit(machine.registers.get("HCR_EL2") or 0, HCR_TGE) else 1
    esr = _EC_SVC << 26 | _IL | LANDING
    return _at_vector(machine, to, _SLOT_LOWER, {"ESR": esr, "ELR": va + 4}), None


def branch_target(va: int, regime: Regime, registers: RegisterValues) -> int:
    """The PC after a branch to ``va``: without the tag, if the top byte is ignored for fetches.

    Pseudocode ``AArch64.BranchAddr``.
    """
    facts = regime.facts
    upper = facts.is_upper(va)
    fields = facts.tcr_layout.ranges[upper]
    tcr = registers.get(facts.tcr) or 0
    if not bit(tcr, fields.tbi) or bit(tcr, fields.tbid):
        return va
    return va & mask(56) | (0xFF << 56 if upper else 0)


def _taken(machine: _Machine, el: int, pc: int, fault: Fault) -> Observation:
    """The exception that the fetch of ``pc`` at ``el`` takes, and whether its vector can be fetched."""
    machine.decisive = machine.walks[-1], fault
    if el == 3:
        return {"outcome": "exception", "to": 3, **_syndrome(_EC_SAME, pc, fault)}
    tge = bit(machine.registers.get("HCR_EL2") or 0, HCR_TGE)
    to = 2 if fault.stage == 2 or (el == 0 and tge) else max(el, 1)
    lower = to > el
    found = _syndrome(_EC_LOWER if lower else _EC_SAME, pc, fault)
    return _at_vector(machine, to, _SLOT_LOWER if lower else _SLOT_SAME_SPX, found)


def _syndrome(exception_class: int, pc: int, fault: Fault) -> dict[str, object]:
    esr = exception_class << 26 | _IL | fault.s1ptw * _ESR_S1PTW | fault.fsc
    found: dict[str, object] = {"ESR": esr, "FAR": pc, "ELR": pc}
    if fault.stage == 2 and fault.hpfar is not None:
        found["HPFAR"] = fault.hpfar
    return found


def _at_vector(machine: _Machine, el: int, slot: int, found: dict[str, object]) -> Observation:
    """What becomes of an exception to ``el``: its vector tells us, or cannot be fetched either."""
    base = machine.registers.get(f"VBAR_EL{el}") or 0
    pc = base + slot * _SLOT_SIZE
    regime = regime_of(el, machine.registers)
    pc = branch_target(pc, regime, machine.registers)
    result = machine.translate(pc, regime, both_stages=True)
    fault = result.fault_for(Access.FETCH)
    if fault is None:
        if result.pa != _VECTORS[el] + slot * _SLOT_SIZE:
            raise NotAskableError(f"the vector at {pc:#x} is at {result.pa:#x}, not where ours are")
        return {"outcome": "exception", "to": el, "slot": slot, **found}
    if fault.stage == 1 and slot == _SLOT_SAME_SPX and found.get("ELR") == pc:
        return {"outcome": "stuck", "to": el, **found}
    return _taken(machine, el, pc, fault)


def regime_of_operation(operation: Operation, registers: RegisterValues) -> Regime:
    """The stage 1 regime that ``operation`` translates in (Arm ARM C6.2, AT; D8.1.2)."""
    el = operation.facts.el
    if operation.is_fetch or el == 3:
        return regime_of(el, registers)
    if el == 2:
        return Regime.EL2_0 if effective_e2h(registers) else Regime.EL2
    if operation.facts.both_stages:
        return Regime.EL1_0
    return regime_of(0, registers)


def stage1_is_on(case: Case, identity: Mapping[str, int]) -> bool:
    """Whether the MMU is on in the case's regime."""
    return mmu_enabled(case.regime, machine_registers(case, identity))


def uncompared_esr_bits(esr: int) -> int:
    """Bits of ESR_ELx that are not compared: EA of an External abort."""
    status = bits(esr, 5, 0)
    return _UNCOMPARED_ESR if 0x13 <= status <= 0x17 or status == 0x10 else 0
