"""Cases as QEMU understands them: registers and descriptors changed to what it takes them for."""

from __future__ import annotations

from dataclasses import replace

from kexecdbg.arm64.bits import bit, bits
from kexecdbg.arm64.faults import Access, CauseKind, FaultKind
from kexecdbg.arm64.feature_guesses import FeatureGuesses
from kexecdbg.arm64.features import effective_e2h
from kexecdbg.arm64.geometry import TG0_GRANULES, TG1_GRANULES, TableFormat
from kexecdbg.arm64.regimes import HCR_CD, HCR_FWB, HCR_TGE, SCTLR_C, SCTLR_EE, Regime
from kexecdbg.arm64.stage2 import stage2_of
from kexecdbg.arm64.translation import stage1_of
from kexecdbg.lab.oracle.cases import Case
from kexecdbg.lab.oracle.deviation import Identity, stage2_is_on, with_register
from kexecdbg.lab.oracle.predict import Prediction, machine_registers


def _formats(case: Case, identity: Identity, upper: bool) -> dict[int, TableFormat]:
    """The table formats of a case by stage."""
    registers = machine_registers(case, identity)
    formats = {1: stage1_of(registers, case.regime, upper=upper).table}
    if stage2_is_on(case, identity):
        formats[2] = stage2_of(registers).table
    return formats


def _ignored_address_bits(table: TableFormat) -> int:
    """Descriptor bits that QEMU takes into an address only when the output size is above 48 bits."""
    if table.output_bits > 48:
        return 0
    return (0x300 if table.ds else 0) | (0xF000 if table.lpa else 0)


def without_high_address_bits(case: Case, identity: Identity, prediction: Prediction) -> Case:
    """D2: the address bits above 47 (or 49) cleared in a descriptor or base register that is too large."""
    for walk in prediction.walks:
        fault = walk.fault
        if fault is None or fault.kind is not FaultKind.ADDRESS_SIZE:
            continue
        table = _formats(case, identity, case.regime.facts.is_upper(walk.va)).get(fault.stage)
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
                return with_register(case, register, case.registers[register] & ~0x3C)
    return case


def dirty_state_off(case: Case, identity: Identity, prediction: Prediction) -> Case:
    """D3: no hardware dirty state, unless for a store."""
    if case.operation.facts.access is Access.WRITE:
        return case
    facts = case.regime.facts
    registers = dict(case.registers)
    registers[facts.tcr] = registers.get(facts.tcr, 0) & ~(1 << facts.tcr_layout.hd)
    registers["VTCR_EL2"] = registers.get("VTCR_EL2", 0) & ~(1 << 22)
    return case if registers == case.registers else replace(case, registers=registers)


def stage2_limited_by_ps(case: Case, identity: Identity, prediction: Prediction) -> Case:
    """An invalid T0SZ where QEMU 7.2 finds the input size or the start level beyond VTCR_EL2.PS."""
    if not stage2_is_on(case, identity):
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
    return with_register(case, "VTCR_EL2", case.registers["VTCR_EL2"] | 0x3F) if refused else case


def without_tge(case: Case, identity: Identity, prediction: Prediction) -> Case:
    """D6: TGE cleared."""
    hcr = case.registers.get("HCR_EL2", 0)
    if (
        case.regime is not Regime.EL1_0
        or not bit(hcr, HCR_TGE)
        or case.operation.is_fetch
        or effective_e2h(machine_registers(case, identity))
    ):
        return case
    return with_register(case, "HCR_EL2", hcr & ~(1 << HCR_TGE))


def cacheable(case: Case, identity: Identity, prediction: Prediction) -> Case:
    """D9: SCTLR_ELx.C set."""
    name = case.regime.facts.sctlr
    return with_register(case, name, case.registers.get(name, 0) | 1 << SCTLR_C)


def smallest_granule(case: Case, identity: Identity, prediction: Prediction) -> Case:
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


def cd_without_effect(case: Case, identity: Identity, prediction: Prediction) -> Case:
    """D29: HCR_EL2.CD cleared where FWB is set."""
    hcr = case.registers.get("HCR_EL2", 0)
    if not bit(hcr, HCR_FWB) or not FeatureGuesses(identity).has("FEAT_S2FWB"):
        return case
    return with_register(case, "HCR_EL2", hcr & ~(1 << HCR_CD))


def hpd_without_feature(case: Case, identity: Identity, prediction: Prediction) -> Case:
    """Table attributes cleared where TCR_ELx.HPDn is set on a CPU that does not have it."""
    if FeatureGuesses(identity).has("FEAT_HPDS"):
        return case
    memory = dict(case.memory)
    for walk in prediction.walks:
        facts = walk.regime.facts
        upper = facts.is_upper(walk.va)
        fields = facts.tcr_layout.ranges[1 if upper else 0]
        if not walk.enabled or not bit(case.registers.get(facts.tcr, 0), fields.hpd):
            continue
        for level in walk.levels[:-1]:
            word = memory.get(level.address, 0)
            big_endian = bit(case.registers.get(facts.sctlr, 0), SCTLR_EE)
            memory[level.address] = word & ~(0x78 if big_endian else 0x78 << 56)
    return case if memory == dict(case.memory) else replace(case, memory=memory)
