"""Cases as QEMU understands them: tables it finds elsewhere, and blocks it finds too large."""

from __future__ import annotations

from dataclasses import replace

from kexecdbg.arm64.bits import bits, mask
from kexecdbg.arm64.descriptors import DescriptorKind
from kexecdbg.arm64.geometry import TableFormat
from kexecdbg.arm64.stage2 import stage2_of, walk_stage2
from kexecdbg.arm64.translation import stage1_of
from kexecdbg.lab.oracle.cases import Case, CaseMemory
from kexecdbg.lab.oracle.deviation import Identity, in_upper_range, stage2_is_on, with_register
from kexecdbg.lab.oracle.predict import Prediction, machine_registers, stage1_is_on


def _table_format_of(case: Case, identity: Identity, stage: int) -> tuple[TableFormat, int, int]:
    """Format, base address and base register's value of a stage's tables."""
    registers = machine_registers(case, identity)
    if stage == 2:
        stage2 = stage2_of(registers)
        return stage2.table, stage2.base, registers["VTTBR_EL2"]
    stage1 = stage1_of(registers, case.regime, upper=in_upper_range(case))
    return stage1.table, stage1.base, registers.get(stage1.ttbr, 0)


def small_first_table(case: Case, identity: Identity, prediction: Prediction) -> Case:
    """The entries of a first table below 64 bytes, moved from where QEMU looks to where they should be."""
    stages = [2, 1] if stage2_is_on(case, identity) else [1]
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
            return with_register(replace(case, memory=memory), name, register & ~0x3C)
        if memory != {**dict.fromkeys(range(place, place + size, 8), 0), **case.memory}:
            return replace(case, memory=memory)
    return case


def _ttbr_name(case: Case) -> str:
    facts = case.regime.facts
    return facts.ttbr1 if in_upper_range(case) and facts.ttbr1 else facts.ttbr0


def low_bits_of_block(case: Case, identity: Identity, prediction: Prediction) -> Case:
    """An output address out of range where QEMU finds one: in the RES0 bits of a block below its size."""
    registers = machine_registers(case, identity)
    for walk in prediction.walks:
        if walk.regime is not case.regime:
            continue
        places = [(1, walk.levels)] if walk.levels else []
        if stage2_is_on(case, identity):
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
                upper = walk.regime.facts.is_upper(walk.va)
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
