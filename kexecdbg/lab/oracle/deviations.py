"""Every known difference between QEMU's MMU and the architecture, one by one, with its source.

A deviation says which inputs QEMU behaves as if it had (``rewrite``), or which facts of the answer differ (``adjust``).
Whether a QEMU has it is decided by asking it the ``probe``, never by its version: what the probe does not show excuses
nothing. ``IMPLEMENTATION DEFINED`` choices of QEMU stand here as well: the architecture leaves them open, and our walk
says so by reporting a fault.

Sources: A is Arm's pseudocode (Arm ARM, shared/translation and aarch64/translation), Q is QEMU's target/arm/ptw.c and
helper.c.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from kexecdbg.arm64.bits import bit, bits, mask
from kexecdbg.arm64.descriptors import DescriptorKind
from kexecdbg.arm64.faults import Access, CauseKind, FaultKind
from kexecdbg.arm64.features import effective_e2h
from kexecdbg.arm64.geometry import GRANULE_4K, TG0_GRANULES, TG1_GRANULES, TableFormat
from kexecdbg.arm64.memory_types import Shareability
from kexecdbg.arm64.regimes import HCR_CD, HCR_DC, HCR_FWB, HCR_PTW, HCR_TGE, SCTLR_C, SCTLR_EE, Regime
from kexecdbg.arm64.stage2 import stage2_enabled, stage2_of, walk_stage2
from kexecdbg.arm64.translation import FeatureGuesses, stage1_of
from kexecdbg.lab.oracle.cases import SMC_LANDING, Case, CaseMemory, Operation
from kexecdbg.lab.oracle.predict import Observation, Prediction, machine_registers, stage1_is_on

Identity = Mapping[str, int]
Rewrite = Callable[[Case, Identity, Prediction], Case]
Adjust = Callable[[Case, Identity, Prediction], Observation]


def _same_case(case: Case, identity: Identity, prediction: Prediction) -> Case:
    return case


def _same_facts(case: Case, identity: Identity, prediction: Prediction) -> Observation:
    return prediction.observation


@dataclass(frozen=True)
class Deviation:
    """One difference.

    Attributes:
        id: stable; D1 to D11 are those of the research report, the rest was found by the oracle.
        text: what QEMU does and what the architecture says.
        source: where that is known from.
        probe: a case that shows it, or ``None`` on a CPU that cannot have it.
        rewrite: the case as QEMU understands it.
        adjust: the facts as QEMU gives them.
        kills: QEMU dies of such a case, or runs what nobody can foresee: it is not asked.
        choice: the architecture leaves it open.
        unpredictable: the architecture leaves everything open: never asked, nothing to probe.
    """

    id: str
    text: str
    source: str
    probe: Callable[[str, Identity], Case | None]
    rewrite: Rewrite = _same_case
    adjust: Adjust = _same_facts
    kills: Callable[[Case, Prediction], bool] = lambda case, prediction: False
    choice: bool = False
    unpredictable: bool = False


# Which deviations touch a case.


def _stage2_is_on(case: Case, identity: Identity) -> bool:
    return case.regime is Regime.EL1_0 and stage2_enabled(machine_registers(case, identity))


def _with(case: Case, name: str, value: int) -> Case:
    if case.registers.get(name, 0) == value:
        return case
    return replace(case, registers={**case.registers, name: value})


def _illegal_block(case: Case, prediction: Prediction) -> bool:
    return any(walk.fault is not None and walk.fault.cause.kind is CauseKind.ILLEGAL_BLOCK for walk in prediction.walks)


def _nothing_after_illegal_block(case: Case, identity: Identity, prediction: Prediction) -> Observation:
    return {} if _illegal_block(case, prediction) else prediction.observation


def _formats(case: Case, identity: Identity, upper: bool) -> dict[int, TableFormat]:
    """The table formats of a case by stage."""
    registers = machine_registers(case, identity)
    formats = {1: stage1_of(registers, case.regime, upper=upper and case.regime.facts.two_ranges).table}
    if _stage2_is_on(case, identity):
        formats[2] = stage2_of(registers).table
    return formats


def _ignored_address_bits(table: TableFormat) -> int:
    """Descriptor bits that QEMU takes into an address only when the output size is above 48 bits."""
    if table.output_bits > 48:
        return 0
    return (0x300 if table.ds else 0) | (0xF000 if table.lpa else 0)


def _without_high_address_bits(case: Case, identity: Identity, prediction: Prediction) -> Case:
    for walk in prediction.walks:
        fault = walk.fault
        if fault is None or fault.kind is not FaultKind.ADDRESS_SIZE:
            continue
        table = _formats(case, identity, upper=bool(bit(walk.va, 55))).get(fault.stage)
        if table is None:
            continue
        address = fault.cause.address
        if address is not None:
            ignored = _ignored_address_bits(table)
            if table.big_endian:
                ignored = int.from_bytes(ignored.to_bytes(8, "big"), "little")
            word = case.memory.get(address, 0)
            if word & ignored:
                return replace(case, memory={**case.memory, address: word & ~ignored})
        elif fault.cause.kind is CauseKind.TABLE_BASE_SIZE and table.ds and table.output_bits <= 48:
            register = fault.cause.register or ""
            if case.registers[register] & 0x3C:
                return _with(case, register, case.registers[register] & ~0x3C)
    return case


def _dirty_state_off(case: Case, identity: Identity, prediction: Prediction) -> Case:
    if case.operation.facts.access is Access.WRITE:
        return case
    facts = case.regime.facts
    registers = dict(case.registers)
    registers[facts.tcr] = registers.get(facts.tcr, 0) & ~(1 << facts.tcr_layout.hd)
    registers["VTCR_EL2"] = registers.get("VTCR_EL2", 0) & ~(1 << 22)
    return case if registers == case.registers else replace(case, registers=registers)


def _stage1_level_of_walk_fault(case: Case, identity: Identity, prediction: Prediction) -> Observation:
    walk, fault = prediction.decisive
    if fault is None or not fault.s1ptw:
        return prediction.observation
    upper = bool(bit(walk.va, 55)) and case.regime.facts.two_ranges
    table = stage1_of(machine_registers(case, identity), case.regime, upper=upper).table
    status = replace(fault, level=table.start_level + len(walk.levels)).fsc
    found = dict(prediction.observation)
    if "FST" in found:
        found["FST"] = status
    elif isinstance(found.get("ESR"), int):
        found["ESR"] = int(str(found["ESR"])) & ~0x3F | status
    return found


def _stage2_limited_by_ps(case: Case, identity: Identity, prediction: Prediction) -> Case:
    """An invalid T0SZ where QEMU 7.2 finds the input size or the start level beyond VTCR_EL2.PS."""
    if not _stage2_is_on(case, identity):
        return case
    stage2 = stage2_of(machine_registers(case, identity))
    if stage2.problem is not None:
        return case
    table = stage2.table
    limits = {("64K", 1): 42, ("16K", 1): 40, ("4K", 0): 42}
    refused = (
        table.input_bits > table.output_bits
        or table.output_bits <= limits.get((table.granule.name, table.start_level), 0)
        or (table.granule.name == "16K" and table.start_level == 0)
        or (table.start_level == -1 and table.input_bits != 52)
    )
    return _with(case, "VTCR_EL2", case.registers["VTCR_EL2"] | 0x3F) if refused else case


def _without_tge(case: Case, identity: Identity, prediction: Prediction) -> Case:
    hcr = case.registers.get("HCR_EL2", 0)
    if (
        case.regime is not Regime.EL1_0
        or not bit(hcr, HCR_TGE)
        or case.operation.is_fetch
        or effective_e2h(machine_registers(case, identity))
    ):
        return case
    return _with(case, "HCR_EL2", hcr & ~(1 << HCR_TGE))


def _fetch_under_tge(case: Case, prediction: Prediction) -> bool:
    hcr = case.registers.get("HCR_EL2", 0)
    return (
        case.operation is Operation.FETCH_EL0
        and case.regime is Regime.EL1_0
        and bool(bit(hcr, HCR_TGE))
        and bool(case.registers.get("SCTLR_EL1", 0) & 1)
    )


def _permission_or_flag_at_minus_one(case: Case, prediction: Prediction) -> bool:
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


def _may_start_at_minus_one(case: Case) -> bool:
    tcr = case.registers.get(case.regime.facts.tcr, 0)
    return bool(bit(tcr, case.regime.facts.tcr_layout.ds))


def _ptw_at_minus_one(case: Case, prediction: Prediction) -> bool:
    walk, _ = prediction.decisive
    return _ptw_counts(case) and bool(walk.levels) and walk.levels[0].level < 0


def _raw_shareability(case: Case, identity: Identity, prediction: Prediction) -> Observation:
    walk, _ = prediction.decisive
    if prediction.observation.get("SH") != Shareability.OUTER.value or walk.stage2 is not None:
        return prediction.observation
    raw = 0
    if walk.levels:
        stage1 = stage1_of(machine_registers(case, identity), case.regime, upper=_upper(case))
        raw = stage1.shareability.value if stage1.table.ds else bits(walk.levels[-1].descriptor or 0, 9, 8)
    return {**prediction.observation, "SH": raw}


def _upper(case: Case) -> bool:
    return case.regime.facts.two_ranges and bool(bit(case.va, 55))


def _cacheable(case: Case, identity: Identity, prediction: Prediction) -> Case:
    name = case.regime.facts.sctlr
    return _with(case, name, case.registers.get(name, 0) | 1 << SCTLR_C)


def _smallest_granule(case: Case, identity: Identity, prediction: Prediction) -> Case:
    """4K for a granule that is reserved or not implemented."""
    guesses = FeatureGuesses(identity)
    registers = dict(case.registers)
    facts = case.regime.facts
    for fields, codes, four in zip(facts.tcr_layout.ranges, (TG0_GRANULES, TG1_GRANULES), (0, 2), strict=False):
        granule = codes.get(bits(registers[facts.tcr], *fields.tg))
        if granule is None or not guesses.granule(granule, stage=1):
            registers[facts.tcr] = registers[facts.tcr] & ~(3 << fields.tg[1]) | four << fields.tg[1]
    granule = TG0_GRANULES.get(bits(registers.get("VTCR_EL2", 0), 15, 14))
    if granule is None or not guesses.granule(granule, stage=2):
        registers["VTCR_EL2"] = registers.get("VTCR_EL2", 0) & ~(3 << 14)
    return case if registers == case.registers else replace(case, registers=registers)


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
    byte, first = (0xFF if bit(hcr, HCR_DC) else 0), 0
    if walk.levels:
        leaf = walk.levels[-1].descriptor or 0
        stage1 = stage1_of(registers, case.regime, upper=_upper(case))
        byte = stage1.mair[bits(leaf, 4, 2)] if stage1.mair else 0
        first = stage1.shareability.value if stage1.table.ds else bits(leaf, 9, 8)
    return _TwoStages(byte, walk.stage2.mem_attr, stage2.fwb, bool(bit(hcr, HCR_CD)), (first, second))


def _with_attributes(prediction: Prediction, attributes: int) -> Observation:
    found = {**prediction.observation, "ATTR": attributes}
    if attributes >> 4 == 0 or attributes == 0x44:
        found["SH"] = Shareability.OUTER.value
    return found


def _device_with_normal(case: Case, identity: Identity, prediction: Prediction) -> Observation:
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


def _forced_device(case: Case, identity: Identity, prediction: Prediction) -> Observation:
    parts = _two_stages(case, identity, prediction)
    if parts is None or not parts.fwb or parts.mem_attr >= 4 or parts.byte >> 4:
        return prediction.observation
    return _with_attributes(prediction, parts.mem_attr << 2)


def _reserved_forced(case: Case, identity: Identity, prediction: Prediction) -> Observation:
    parts = _two_stages(case, identity, prediction)
    if parts is None or not parts.fwb or parts.mem_attr < 8:
        return prediction.observation
    return _with_attributes(prediction, 0)


def _transient_lost(case: Case, identity: Identity, prediction: Prediction) -> Observation:
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


def _descriptors_shareability(case: Case, identity: Identity, prediction: Prediction) -> Observation:
    """The descriptors' shareability combined, whatever the memory types of the stages are."""
    parts = _two_stages(case, identity, prediction)
    attributes = prediction.observation.get("ATTR")
    if parts is None or "SH" not in prediction.observation or not isinstance(attributes, int):
        return prediction.observation
    if attributes >> 4 == 0 or attributes in (0x40, 0x44):
        return prediction.observation
    combined = next((value for value in (2, 3) if value in parts.shareability), 0)
    return {**prediction.observation, "SH": combined}


_NOT_WB = (0b00, 0b10)


def _combined_nibble(first: int, second: int) -> int:
    """combine_cacheattr_nibble()"""
    if 4 in (first, second):
        return 4
    if first >> 2 in _NOT_WB or second >> 2 != 0b10:
        return first
    return 0b1000 | first & 3


def _xs_aside(byte: int) -> int:
    return {0x40: 0x44, 0xA0: 0xAA}.get(byte, byte if byte >> 4 else byte & 0xC)


def _xs_not_modelled(case: Case, identity: Identity, prediction: Prediction) -> Observation:
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
    if theirs == ours or _xs_aside(theirs) != _xs_aside(ours):
        return prediction.observation
    return {**prediction.observation, "ATTR": theirs}


def _cd_without_effect(case: Case, identity: Identity, prediction: Prediction) -> Case:
    hcr = case.registers.get("HCR_EL2", 0)
    if not bit(hcr, HCR_FWB) or not FeatureGuesses(identity).has("FEAT_S2FWB"):
        return case
    return _with(case, "HCR_EL2", hcr & ~(1 << HCR_CD))


def _level_0_of_ptw(case: Case, identity: Identity, prediction: Prediction) -> Observation:
    _, fault = prediction.decisive
    found = dict(prediction.observation)
    by_device = fault is not None and fault.cause.kind is CauseKind.STAGE2_DEVICE_WALK
    if not by_device and _ptw_without_stage2(case, identity, prediction) != prediction.observation:
        return prediction.observation
    if found.get("S") == 1 and found.get("PTW") == 1 and (by_device or _ptw_counts(case)):
        status = found.get("FST")
        if isinstance(status, int) and status >> 2 == 3:
            found["FST"] = 0x0C
    elif by_device and isinstance(found.get("ESR"), int):
        found["ESR"] = int(str(found["ESR"])) & ~3
    return found


def _ipa_beyond_physical_size(case: Case, prediction: Prediction) -> bool:
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


def _table_format_of(case: Case, identity: Identity, stage: int) -> tuple[TableFormat, int, int]:
    """Format, base address and base register's value of a stage's tables."""
    registers = machine_registers(case, identity)
    if stage == 2:
        stage2 = stage2_of(registers)
        return stage2.table, stage2.base, registers["VTTBR_EL2"]
    stage1 = stage1_of(registers, case.regime, upper=_upper(case))
    return stage1.table, stage1.base, registers.get(stage1.ttbr, 0)


def _small_first_table(case: Case, identity: Identity, prediction: Prediction) -> Case:
    """The entries of a first table below 64 bytes, moved from where QEMU looks to where they should be."""
    stages = [2, 1] if _stage2_is_on(case, identity) else [1]
    for stage in stages:
        if stage == 1 and not stage1_is_on(case, identity):
            continue
        table, base, register = _table_format_of(case, identity, stage)
        size = 8 << table.index_bits(table.start_level)
        offset = register & 0x3F & -size
        if size >= 64 or table.base_alignment < 64 or not offset:
            continue
        place = base & mask(48) if table.output_bits <= 48 else base
        if stage == 1 and len(stages) == 2:
            found = walk_stage2(machine_registers(case, identity), CaseMemory(case.memory), place).pa
            if found is None:
                continue
            place = found
        memory = dict(case.memory)
        for entry in range(0, size, 8):
            memory[place + entry] = case.memory.get(place + offset + entry, 0)
        if table.output_bits <= 48:  # the same bits are an address that is too large: D2
            name = "VTTBR_EL2" if stage == 2 else _ttbr_name(case)
            return _with(replace(case, memory=memory), name, register & ~0x3C)
        if memory != {**dict.fromkeys(range(place, place + size, 8), 0), **case.memory}:
            return replace(case, memory=memory)
    return case


def _ttbr_name(case: Case) -> str:
    facts = case.regime.facts
    return facts.ttbr1 if _upper(case) and facts.ttbr1 else facts.ttbr0


def _low_bits_of_block(case: Case, identity: Identity, prediction: Prediction) -> Case:
    """An output address out of range where QEMU finds one: in the RES0 bits of a block below its size."""
    registers = machine_registers(case, identity)
    for walk in prediction.walks:
        if walk.regime is not case.regime:
            continue
        places = [(1, walk.levels)] if walk.levels else []
        if _stage2_is_on(case, identity):
            ipas = [level.ipa for level in walk.levels if level.ipa is not None]
            ipas += [walk.ipa] if walk.ipa is not None else []
            ipas += [walk.fault.ipa] if walk.fault is not None and walk.fault.ipa is not None else []
            memory = CaseMemory(case.memory)
            places += [(2, walk_stage2(registers, memory, ipa).levels) for ipa in ipas]
        for stage, levels in places:
            if not levels or levels[-1].kind is not DescriptorKind.BLOCK or levels[-1].output is None:
                continue
            leaf = levels[-1]
            if stage == 2:
                table = stage2_of(registers).table
            else:
                upper = walk.regime.facts.two_ranges and bool(bit(walk.va, 55))
                table = stage1_of(registers, case.regime, upper=upper).table
            wanted = _too_large(table, leaf.level, leaf.descriptor or 0)
            if wanted:
                if table.big_endian:
                    wanted = int.from_bytes(wanted.to_bytes(8, "big"), "little")
                return replace(case, memory={**case.memory, leaf.address: case.memory.get(leaf.address, 0) | wanted})
    return case


def _too_large(table: TableFormat, level: int, descriptor: int) -> int:
    """A bit that makes the output address too large, if QEMU takes ``descriptor`` for such, and we do not."""
    width = 50 if table.ds else 48
    low = max(table.granule.shift, table.output_bits)
    if low >= width or not bits(descriptor, width - 1, low):
        return 0
    if bits(descriptor, width - 1, max(table.shift(level), low)):
        return 0  # it is too large
    return 1 << max(table.shift(level), low)


def _hpd_without_feature(case: Case, identity: Identity, prediction: Prediction) -> Case:
    """Table attributes cleared where TCR_ELx.HPDn is set on a CPU that does not have it."""
    if FeatureGuesses(identity).has("FEAT_HPDS"):
        return case
    memory = dict(case.memory)
    for walk in prediction.walks:
        facts = walk.regime.facts
        upper = facts.two_ranges and bool(bit(walk.va, 55))
        fields = facts.tcr_layout.ranges[1 if upper else 0]
        if not walk.enabled or not bit(case.registers.get(facts.tcr, 0), fields.hpd):
            continue
        for level in walk.levels[:-1]:
            word = memory.get(level.address, 0)
            big_endian = bit(case.registers.get(facts.sctlr, 0), SCTLR_EE)
            memory[level.address] = word & ~(0x78 if big_endian else 0x78 << 56)
    return case if memory == dict(case.memory) else replace(case, memory=memory)


def _ptw_without_stage2(case: Case, identity: Identity, prediction: Prediction) -> Observation:
    """A Permission fault at the first table that is read."""
    walk, fault = prediction.decisive
    before_walk = fault is not None and fault.cause.kind in (CauseKind.E0PD, CauseKind.VA_OUT_OF_RANGE)
    if not _ptw_counts(case) or _stage2_is_on(case, identity) or not walk.levels or before_walk:
        return prediction.observation
    return {"outcome": "PAR", "F": 1, "FST": 0x0C + walk.levels[0].level, "S": 1, "PTW": 1}


def _ptw_counts(case: Case) -> bool:
    hcr, facts = case.registers.get("HCR_EL2", 0), case.operation.facts
    single_stage = case.regime is Regime.EL1_0 and facts.instruction and not facts.both_stages
    return single_stage and bool(bit(hcr, HCR_PTW)) and not bit(hcr, HCR_TGE)


def _reserved_memory_type_of_table(case: Case, prediction: Prediction) -> bool:
    """HCR_EL2.PTW asks whether a table is Device memory, and its stage 2 MemAttr is a reserved value."""
    return any(
        walk.fault is not None
        and walk.fault.cause.kind is CauseKind.STAGE2_DEVICE_WALK
        and not _is_device(case, walk.fault.cause.address or 0)
        for walk in prediction.walks
    )


def _is_device(case: Case, address: int) -> bool:
    word = case.memory.get(address, 0)
    if bit(case.registers.get("SCTLR_EL2", 0), SCTLR_EE):
        word = int.from_bytes(word.to_bytes(8, "little"), "big")
    attributes = bits(word, 5, 2)
    fwb = bit(case.registers.get("HCR_EL2", 0), HCR_FWB)
    return attributes & (4 if fwb else 12) == 0


# Probes: the smallest machines that show each one.

_ROOT, _SECOND_ROOT, _NEXT = 0x5000_0000, 0x5010_0000, 0x5020_0000
_GIB = 1 << 30
_LEAF, _RO, _AF = 1, 1 << 7, 1 << 10
_TCR_EL2_39 = 1 << 31 | 1 << 23 | 5 << 16 | 25


def _el2(
    cpu: str,
    memory: dict[int, int],
    *,
    va: int = 0x8000_0000,
    operation: Operation = Operation.S1E2R,
    tcr: int = _TCR_EL2_39,
    sctlr: int = 1 | 1 << SCTLR_C,
    mair: int = 0xFF,
) -> Case:
    registers = {"HCR_EL2": 1 << 31, "SCTLR_EL2": 0x30C5_0830 | sctlr, "TCR_EL2": tcr, "TTBR0_EL2": _ROOT}
    return Case(cpu, Regime.EL2, operation, va, {**registers, "MAIR_EL2": mair}, memory, seed="probe")


def _el1(cpu: str, memory: dict[int, int], operation: Operation, va: int, **registers: int) -> Case:
    defaults = {
        "HCR_EL2": 1 << 31,
        "SCTLR_EL1": 0x30D0_0800 | 1 << SCTLR_C,
        "TCR_EL1": 5 << 32 | 16,
        "TTBR0_EL1": _ROOT,
        "VTTBR_EL2": _SECOND_ROOT,
        "MAIR_EL1": 0xFF,
        "SCTLR_EL2": 0x30C5_0830,
    }
    return Case(cpu, Regime.EL1_0, operation, va, {**defaults, **registers}, memory, seed="probe")


def _always(cpu: str, identity: Identity) -> Case | None:
    """Not a property of QEMU: there is nothing to probe."""
    return None


def _probe_d1(cpu: str, identity: Identity) -> Case | None:
    return _el2(cpu, {_ROOT: _AF | _LEAF}, va=0x1000, tcr=_TCR_EL2_39 & ~0x3F | 16)


def _probe_d2(cpu: str, identity: Identity) -> Case | None:
    if FeatureGuesses(identity).physical_bits() < 52:
        return None
    tcr = 1 << 31 | 1 << 23 | 5 << 16 | 1 << 14 | 25
    return _el2(cpu, {_ROOT: 1 << 12 | _AF | _LEAF}, va=0x1000, tcr=tcr)


def _probe_d3(cpu: str, identity: Identity) -> Case | None:
    if not FeatureGuesses(identity).has("FEAT_HAFDBS_dirty"):
        return None
    # RO with DBM under WXN: writable, so not executable. The vectors lie in the first block, read-only.
    memory = {_ROOT + 8: _GIB | _RO | _AF | _LEAF, _ROOT + 16: _GIB | 1 << 51 | _RO | _AF | _LEAF}
    return _el2(
        cpu,
        {**memory, 0x6000_0000: SMC_LANDING},
        va=0xA000_0000,
        operation=Operation.FETCH_EL2,
        tcr=_TCR_EL2_39 | 3 << 21,
        sctlr=1 | 1 << SCTLR_C | 1 << 19,
    )


def _probe_d4(cpu: str, identity: Identity) -> Case | None:
    # Stage 2 of 39 bits starts at level 1 and is empty; stage 1 of 48 bits starts at level 0.
    vtcr = 1 << 31 | 5 << 16 | 1 << 6 | 25
    on = 0x30D0_0801 | 1 << SCTLR_C
    return _el1(cpu, {}, Operation.S1E1R, 0x1000, HCR_EL2=1 << 31 | 1, SCTLR_EL1=on, VTCR_EL2=vtcr)


def _probe_d5(cpu: str, identity: Identity) -> Case | None:
    vtcr = 1 << 31 | 1 << 6 | 24  # 40 bits in, 32 bits out
    memory = {_SECOND_ROOT + 8: _GIB | _AF | 0xFC | _LEAF}
    return _el1(cpu, memory, Operation.S12E1R, _GIB, HCR_EL2=1 << 31 | 1, VTCR_EL2=vtcr)


def _probe_d6(cpu: str, identity: Identity) -> Case | None:
    on = 0x30D0_0801 | 1 << SCTLR_C
    return _el1(cpu, {}, Operation.S1E1R, 0x1000, HCR_EL2=1 << 31 | 1 << HCR_TGE, SCTLR_EL1=on)


def _probe_d7(cpu: str, identity: Identity) -> Case | None:
    if not FeatureGuesses(identity).lpa2(GRANULE_4K, stage=1):
        return None
    # Stage 1 of 52 bits starts at level -1, in a table that stage 2 does not let it read.
    vtcr = 1 << 31 | 5 << 16 | 1 << 6 | 25
    memory = {_SECOND_ROOT + 8: _GIB | _AF | 0x3C | _LEAF}
    on, tcr = 0x30D0_0801 | 1 << SCTLR_C, 1 << 59 | 5 << 32 | 12
    return _el1(cpu, memory, Operation.S1E1R, 0x1000, HCR_EL2=1 << 31 | 1, SCTLR_EL1=on, TCR_EL1=tcr, VTCR_EL2=vtcr)


def _probe_d8(cpu: str, identity: Identity) -> Case | None:
    return _el2(cpu, {_ROOT + 16: _AF | _LEAF}, mair=0)


def _probe_d9(cpu: str, identity: Identity) -> Case | None:
    return _el2(cpu, {_ROOT + 16: 3 << 8 | _AF | _LEAF}, sctlr=1)


_IDENTITY_VTCR = 1 << 31 | 5 << 16 | 1 << 6 | 25
_NORMAL_NC_AND_DEVICE = 0x4F  # outer Non-cacheable, inner Write-Back


def _two_stage_probe(cpu: str, mair: int, mem_attr: int, shareability: int = 3, *, fwb: bool = False) -> Case:
    """AT S12E1R of a stage 1 block with ``mair`` over a stage 2 block with ``mem_attr``."""
    leaf2 = _GIB | shareability << 8 | _AF | 0xC0 | mem_attr << 2 | _LEAF
    memory = {_ROOT: 3 << 8 & shareability << 8 | _GIB | _AF | _LEAF, _SECOND_ROOT + 8: leaf2}
    return _el1(
        cpu,
        memory,
        Operation.S12E1R,
        0x1000,
        HCR_EL2=1 << 31 | 1 | fwb << HCR_FWB,
        SCTLR_EL1=0x30D0_0801 | 1 << SCTLR_C,
        TCR_EL1=5 << 32 | 25,
        MAIR_EL1=mair,
        VTCR_EL2=_IDENTITY_VTCR,
    )


def _probe_d10(cpu: str, identity: Identity) -> Case | None:
    return _two_stage_probe(cpu, 0x44, 0b0011)  # Normal NC under GRE


def _probe_d20(cpu: str, identity: Identity) -> Case | None:
    if not FeatureGuesses(identity).has("FEAT_S2FWB"):
        return None
    return _two_stage_probe(cpu, 0x00, 0b0011, fwb=True)  # nGnRnE under GRE


def _probe_d21(cpu: str, identity: Identity) -> Case | None:
    if not FeatureGuesses(identity).has("FEAT_S2FWB"):
        return None
    return _two_stage_probe(cpu, 0xFF, 0b1110, fwb=True)


def _probe_d22(cpu: str, identity: Identity) -> Case | None:
    return _two_stage_probe(cpu, 0x77, 0b1010)


def _probe_d23(cpu: str, identity: Identity) -> Case | None:
    if not FeatureGuesses(identity).has("FEAT_S2FWB"):
        return None
    return _two_stage_probe(cpu, 0x00, 0b0110, shareability=0, fwb=True)  # Device forced to Write-Back


def _probe_d26(cpu: str, identity: Identity) -> Case | None:
    # Both stages start at level 1, and so does the fault.
    memory = {_SECOND_ROOT + 8: _GIB | _AF | 0xC0 | _LEAF}
    registers = {"HCR_EL2": 1 << 31 | 1 | 1 << HCR_PTW, "SCTLR_EL1": 0x30D0_0801 | 1 << SCTLR_C}
    return _el1(cpu, memory, Operation.S1E1R, 0x1000, **registers, TCR_EL1=5 << 32 | 25, VTCR_EL2=_IDENTITY_VTCR)


def _probe_d27(cpu: str, identity: Identity) -> Case | None:
    if not FeatureGuesses(identity).has("FEAT_XS"):
        return None
    return _two_stage_probe(cpu, 0xFF, 0b0101)  # Write-Back, so XS = 0, under Non-cacheable


def _probe_d28(cpu: str, identity: Identity) -> Case | None:
    if FeatureGuesses(identity).physical_bits() >= 48:
        return None
    vtcr = 1 << 31 | 5 << 16 | 2 << 6 | 16
    memory = {_SECOND_ROOT: _NEXT | 3, _NEXT: _AF | 0xFC | _LEAF}
    return _el1(cpu, memory, Operation.S12E1R, 0x1000, HCR_EL2=1 << 31 | 1, VTCR_EL2=vtcr)


def _probe_d29(cpu: str, identity: Identity) -> Case | None:
    case = _probe_d21(cpu, identity)
    if case is None:
        return None
    plain = _two_stage_probe(cpu, 0xFF, 0b0110, fwb=True)
    return _with(plain, "HCR_EL2", plain.registers["HCR_EL2"] | 1 << HCR_CD)


def _probe_d24(cpu: str, identity: Identity) -> Case | None:
    # A 1 GiB block with bit 29 set, output size 32 bits... so bit 37 would be too large if it counted: 512 GiB block.
    if not FeatureGuesses(identity).lpa2(GRANULE_4K, stage=1):
        return None
    tcr = 1 << 31 | 1 << 23 | 1 << 32 | 16
    return _el2(cpu, {_ROOT: 1 << 37 | _AF | _LEAF}, va=0x1000, tcr=tcr)


def _probe_d25(cpu: str, identity: Identity) -> Case | None:
    if not FeatureGuesses(identity).lpa2(GRANULE_4K, stage=1):
        return None
    # 33 bits of address in 4K granules: 8 entries, 64 bytes; 32 bits: 4 entries, 32 bytes. TTBR bit 5 is A[51].
    tcr = 1 << 31 | 1 << 23 | 1 << 32 | 5 << 16 | 32
    case = _el2(cpu, {_ROOT + 8: _GIB | _AF | _LEAF}, va=_GIB, tcr=tcr)
    return _with(case, "TTBR0_EL2", _ROOT | 1 << 5)


def _probe_d11(cpu: str, identity: Identity) -> Case | None:
    return _el2(cpu, {_ROOT + 16: 3 << 8 | _AF | _LEAF}, tcr=_TCR_EL2_39 | 3 << 14)


def _probe_d18(cpu: str, identity: Identity) -> Case | None:
    on = 0x30D0_0801 | 1 << SCTLR_C
    return _el1(cpu, {}, Operation.S1E1R, 0x1000, HCR_EL2=1 << 31 | 1 << HCR_PTW, SCTLR_EL1=on)


def _probe_d19(cpu: str, identity: Identity) -> Case | None:
    if FeatureGuesses(identity).has("FEAT_HPDS"):
        return None
    # XNTable or APTable[1] over a writable block, HPD set: a write is denied where HPD does not exist.
    memory = {_ROOT: _NEXT | 1 << 62 | 3, _NEXT + 16: _AF | _LEAF}
    tcr = _TCR_EL2_39 & ~0x3F | 16 | 1 << 24
    return _el2(cpu, memory, operation=Operation.S1E2W, tcr=tcr)


DEVIATIONS: tuple[Deviation, ...] = (
    Deviation(
        "U1",
        "stage 2 MemAttr reserved for a stage 1 table under HCR_EL2.PTW: UNPREDICTABLE, not asked",
        "Arm ARM D8.6.5, reserved MemAttr values",
        _always,
        kills=_reserved_memory_type_of_table,
        unpredictable=True,
    ),
    Deviation(
        "D19",
        "TCR_ELx.HPDn counts on a CPU without FEAT_HPDS (cortex-a57, cortex-a72), where it is RES0",
        "Q aa64_va_parameters() takes hpd out of TCR as it is; Arm ARM, TCR_EL2.HPD: RES0 without FEAT_HPDS",
        _probe_d19,
        rewrite=_hpd_without_feature,
    ),
    Deviation(
        "D11",
        "a granule that is reserved or not implemented is 4K; the architecture lets the CPU choose, our walk faults",
        "Q sanitize_gran_size(); A AArch64.S1DecodeTG0, IMPLEMENTATION DEFINED",
        _probe_d11,
        rewrite=_smallest_granule,
        choice=True,
    ),
    Deviation(
        "D6",
        "EL1&0 stage 1 stays on with HCR_EL2.TGE = 1 and E2H = 0; it must be off",
        "Q regime_translation_disabled() looks at TGE for E10 only after that was turned into Stage1; A AArch64.S1Enabled",
        _probe_d6,
        rewrite=_without_tge,
        kills=_fetch_under_tge,
    ),
    Deviation(
        "D5",
        "stage 2 input size and start level are held against VTCR_EL2.PS; only the implemented PARange counts",
        "Q check_s2_mmu_setup() before its rewrite for 8.0; A AArch64.S2InvalidTxSZ, S2InvalidSL",
        _probe_d5,
        rewrite=_stage2_limited_by_ps,
    ),
    Deviation(
        "D3",
        "with hardware dirty state, DBM makes a leaf writable for stores only; it counts for WXN and EL0-writable too",
        "Q get_phys_addr_lpae(), access_type == MMU_DATA_STORE; A AArch64.S1DirectBasePermissions",
        _probe_d3,
        rewrite=_dirty_state_off,
    ),
    Deviation(
        "D25",
        "with 52-bit addresses, TTBR bits [5:3] also count as address bits of a first table smaller than 64 bytes",
        "Q get_phys_addr_lpae(), descaddr &= ~indexmask; A AArch64.S1TTBaseAddress: at least 64-byte alignment",
        _probe_d25,
        rewrite=_small_first_table,
    ),
    Deviation(
        "D2",
        "address bits [51:48] or [51:50] of descriptors and TTBRs are ignored unless the output size exceeds 48 bits;"
        " they are part of the address, and then too large",
        "Q get_phys_addr_lpae(), outputsize > 48; A AArch64.LeafBase, NextTableBase, S1TTBaseAddress",
        _probe_d2,
        rewrite=_without_high_address_bits,
    ),
    Deviation(
        "D24",
        "the RES0 address bits of a block below its size are held against the output size",
        "Q get_phys_addr_lpae(), descaddr >> outputsize before page_size is known; A AArch64.LeafBase, OAOutOfRange",
        _probe_d24,
        rewrite=_low_bits_of_block,
    ),
    Deviation(
        "D9",
        "SCTLR_ELx.C = 0 leaves Normal memory cacheable in PAR_EL1.ATTR",
        "Q does not model caches; A AArch64.S1Translate, s1_enabled cacheability",
        _probe_d9,
        rewrite=_cacheable,
    ),
    Deviation(
        "D28",
        "stage 2 T0SZ from 16 on is taken on a CPU with a smaller physical address size, where the smallest is"
        " 64 - PARange; such a case is not asked",
        "Q aa64_va_parameters() since 8.0: the least T0SZ of stage 2 is stage 1's; A AArch64.S2MinTxSZ",
        _probe_d28,
        kills=_ipa_beyond_physical_size,
    ),
    Deviation(
        "D29",
        "HCR_EL2.CD has no effect together with FWB; it makes all Normal memory Non-cacheable",
        "Q combined_attrs_fwb() is not given it; A AArch64.S2Translate, S2DCacheEnabled",
        _probe_d29,
        rewrite=_cd_without_effect,
    ),
    Deviation(
        "D1",
        "a block descriptor is accepted at every level above 3; a Translation fault where the granule allows none",
        "fixed by QEMU commit 'target/arm: Implement lpae_block_desc_valid' of August 2023; A AArch64.BlockDescSupported",
        _probe_d1,
        adjust=_nothing_after_illegal_block,
        kills=lambda case, prediction: case.operation.is_fetch and _illegal_block(case, prediction),
    ),
    Deviation(
        "D7",
        "QEMU ends on an assertion when it finds an Access flag or Permission fault at level -1",
        "Q arm_fi_to_lfsc(), target/arm/internals.h; in the architecture no such fault exists, see D1, D4 and D18",
        _probe_d7,
        kills=_permission_or_flag_at_minus_one,
    ),
    Deviation(
        "D4",
        "a stage 2 fault of a stage 1 walk carries the stage 1 level; it must be the stage 2 descriptor's",
        "Q get_phys_addr_lpae(), do_fault, before 2023; A AArch64.S2Walk",
        _probe_d4,
        adjust=_stage1_level_of_walk_fault,
    ),
    Deviation(
        "D8",
        "PAR_EL1.SH is the descriptor's even for Device and Normal Non-cacheable memory, which are Outer Shareable",
        "Q do_ats_write() before 8.1; A PAREncodeShareability, EffectiveShareability",
        _probe_d8,
        adjust=_raw_shareability,
    ),
    Deviation(
        "D18",
        "with HCR_EL2.PTW = 1 and stage 2 off, AT S1E1* takes a stage 2 Permission fault at its first table",
        "Q S1_ptw_translate(): looks at the attributes of a disabled stage 2, which are 0, Device; A AArch64.S2Walk",
        _probe_d18,
        adjust=_ptw_without_stage2,
        kills=_ptw_at_minus_one,
    ),
    Deviation(
        "D26",
        "HCR_EL2.PTW: the Permission fault of a table in Device memory says level 0; it has the stage 2 leaf's level",
        "Q S1_ptw_translate() since the fix of D4 leaves fi->level alone; A AArch64.S2Translate",
        _probe_d26,
        adjust=_level_0_of_ptw,
    ),
    Deviation(
        "D10",
        "two stages, one of them Device: the Normal one's cacheability is taken for a Device type",
        "Q combined_attrs_nofwb(); A S2CombineS1MemAttrs: Device of the stricter type",
        _probe_d10,
        adjust=_device_with_normal,
    ),
    Deviation(
        "D20",
        "HCR_EL2.FWB = 1 and stage 2 Device: a stricter stage 1 Device type is lost",
        "Q combined_attrs_fwb(), case 0 ... 3; A AArch64.S2ApplyFWBMemAttrs, S2CombineS1Device",
        _probe_d20,
        adjust=_forced_device,
    ),
    Deviation(
        "D21",
        "HCR_EL2.FWB = 1 and MemAttr[3] = 1, which is RES0: Device-nGnRnE",
        "Q combined_attrs_fwb(), default; Arm ARM D8.6.5: reserved, no effect in our walk",
        _probe_d21,
        adjust=_reserved_forced,
        choice=True,
    ),
    Deviation(
        "D22",
        "stage 2 Write-Through over stage 1 Write-Back transient loses the transient hint",
        "Q combine_cacheattr_nibble(); A S2CombineS1AttrHints keeps stage 1's hints",
        _probe_d22,
        adjust=_transient_lost,
    ),
    Deviation(
        "D23",
        "two stages: stage 1's shareability is the descriptor's, also when its memory type would make it Outer",
        "A AArch64.S1Translate: IMPLEMENTATION DEFINED which of the two goes into the combination; Q the descriptor's",
        _probe_d23,
        adjust=_descriptors_shareability,
        choice=True,
    ),
    Deviation(
        "D27",
        "two stages: the XS attribute is lost or kept with the byte; stage 1's XS goes with what stage 2 makes of it",
        "Q combine_cacheattrs(), a TODO; A S2CombineS1MemAttrs, EncodePARAttrs",
        _probe_d27,
        adjust=_xs_not_modelled,
    ),
)
"""In the order in which they are applied: first what changes the question, then what changes the answer."""
