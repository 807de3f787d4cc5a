"""The tables of a random case, sound before anything is damaged: stage 1, and stage 2 where it is on."""

from __future__ import annotations

import random

from kexecdbg.arm64.bits import mask
from kexecdbg.arm64.geometry import LAST_LEVEL, TableFormat
from kexecdbg.arm64.regimes import Regime, mmu_enabled
from kexecdbg.arm64.stage2 import Stage2, stage2_enabled, stage2_of
from kexecdbg.arm64.translation import Stage1, stage1_of
from kexecdbg.lab.oracle.cases import EL1_VECTORS, EL2_VECTORS, SMC_LANDING, SVC_LANDING, Operation
from kexecdbg.lab.oracle.draft import Draft, random_above, random_level
from kexecdbg.lab.oracle.random_registers import chance
from kexecdbg.lab.oracle.sparse_tables import ConflictError, SparseTables

_AF, _AP2 = 1 << 10, 1 << 7
_VECTOR_SPACING = 0x1_0000


class _Physical:
    """Places for tables at physical addresses."""

    def __init__(self, draft: Draft, output_bits: int) -> None:
        self._draft, self._output_bits = draft, output_bits

    def new_table(self, alignment: int) -> int:
        return self._draft.space.table_address(alignment, self._output_bits)

    def physical(self, address: int) -> int:
        return address


class _UnderStage2:
    """Places for stage 1 tables at intermediate physical addresses, mapped by stage 2 as they are used."""

    def __init__(self, draft: Draft, second: _SecondStage, output_bits: int) -> None:
        self._draft, self._second = draft, second
        self._limit = min(output_bits, second.tables.table.input_bits)
        self._offsets: dict[int, tuple[int, int]] = {}

    def new_table(self, alignment: int) -> int:
        table = self._second.tables.table
        level = self._second.random_level(self._limit)
        physical = self._draft.space.table_address(max(alignment, 8), table.output_bits)
        unit = max(1 << table.shift(level), alignment)
        if unit >> self._limit:
            raise ConflictError
        address = random_above(self._draft.rng, unit, self._limit) | physical & (unit - 1)
        self._offsets[address] = (physical - address, level)
        return address

    def physical(self, address: int) -> int:
        known = self._second.tables.translation(address)
        if known is not None:
            return known
        base = max((start for start in self._offsets if start <= address), default=None)
        if base is None:
            raise ConflictError
        offset, level = self._offsets[base]
        self._second.map(address, address + offset, level, kind="table")
        return address + offset


class _SecondStage:
    """The stage 2 tables of a draft."""

    def __init__(self, draft: Draft, stage2: Stage2) -> None:
        self._draft = draft
        self.tables = SparseTables(stage2.table, _Physical(draft, stage2.table.output_bits), draft.entries)

    def random_level(self, limit: int) -> int:
        """A level whose leaves fit into ``limit`` address bits."""
        return random_level(self._draft.rng, self.tables.table, limit)

    def map(self, ipa: int, pa: int, level: int, kind: str) -> list[int]:
        """Map ``ipa``; ``kind`` says what for: ``table``, ``target`` or ``vector``."""
        return self.tables.map(ipa, pa, level, self._leaf_bits(kind), 0)

    def _leaf_bits(self, kind: str) -> int:
        rng = self._draft.rng
        bits = _AF | 3 << 6  # S2AP read and write
        if kind == "vector":
            return bits | 0xF << 2
        bits |= rng.choice((0xF, 0xF, 0x5, 0x6, 0x7, 0xA, 0xB, rng.getrandbits(4))) << 2
        if kind == "target":
            bits &= ~(chance(rng, 0.12) << 6 | chance(rng, 0.15) << 7)
            bits |= chance(rng, 0.15) << 53 | chance(rng, 0.15) << 54 | chance(rng, 0.1) << 51
        if not self.tables.table.ds:
            bits |= rng.choice((0, 2, 3)) << 8
        return bits | rng.getrandbits(1) << 11 | chance(rng, 0.03) << 52


def build_tables(draft: Draft, *, upper: bool) -> None:
    """Tables that map a random address, and for a fetch the vectors too."""
    registers = draft.all_registers
    regime, rng = draft.regime, draft.rng
    second: _SecondStage | None = None
    if regime is Regime.EL1_0 and stage2_enabled(registers):
        stage2 = stage2_of(registers)
        if stage2.problem is None:
            second = _SecondStage(draft, stage2)
            _set_base(draft, "VTTBR_EL2", stage2.table, second.tables.root)
    if not mmu_enabled(regime, registers):
        _build_mmu_off(draft, second)
        return
    stage1 = stage1_of(registers, regime, upper=upper)
    if stage1.problem is not None:
        draft.va = rng.getrandbits(64) & -4
        return
    table = stage1.table
    limit = min(table.output_bits, second.tables.table.input_bits if second else 64)
    places = _UnderStage2(draft, second, table.output_bits) if second else _Physical(draft, table.output_bits)
    tables = SparseTables(table, places, draft.entries)
    _set_base(draft, stage1.ttbr, table, tables.root)
    ipa = _target(draft, second, limit)
    level = random_level(rng, table, table.input_bits - 1)
    shift = table.shift(level)
    input_bits = table.input_bits
    va = random_above(rng, 1 << shift, input_bits) | ipa & mask(shift)
    draft.va = _with_upper_bits(rng, stage1, va)
    draft.path = tables.map(draft.va, ipa, level, _leaf_bits(draft, stage1), _table_bits(rng))
    if draft.operation.is_fetch and draft.operation is not Operation.FETCH_EL3:
        _map_vectors(draft, stage1, tables, second, limit)


def _build_mmu_off(draft: Draft, second: _SecondStage | None) -> None:
    limit = second.tables.table.input_bits if second else 48
    draft.va = _target(draft, second, limit)
    if chance(draft.rng, 0.2):
        draft.va |= draft.rng.getrandbits(8) << 56


def _target(draft: Draft, second: _SecondStage | None, limit: int) -> int:
    """A place for the tested address to end at; its (intermediate) physical address."""
    rng = draft.rng
    if draft.operation.is_fetch:
        output_bits = min(limit, 48) if second is None else second.tables.table.output_bits
        pa = draft.space.landing_address(output_bits)
        instruction = SMC_LANDING if draft.operation.facts.el else SVC_LANDING
        draft.instructions[pa & -8] = instruction << 8 * (pa & 4)
    else:
        pa = random_above(rng, 1, second.tables.table.output_bits if second else limit)
    if second is None:
        return pa
    level = second.random_level(limit)
    shift = second.tables.table.shift(level)
    ipa = random_above(rng, 1 << shift, limit) | pa & mask(shift)
    draft.path2 = second.map(ipa, pa, level, "target")
    return ipa


def _map_vectors(draft: Draft, stage1: Stage1, tables: SparseTables, second: _SecondStage | None, limit: int) -> None:
    """Map the vectors of the regime somewhere in the same range, executable and not writable."""
    rng, table = draft.rng, stage1.table
    el = stage1.regime.facts.el
    output = EL1_VECTORS if el == 1 else EL2_VECTORS
    if second is not None:
        shift = second.tables.table.shift(LAST_LEVEL)
        ipa = random_above(rng, max(1 << shift, _VECTOR_SPACING), limit)
        second.map(ipa, output, LAST_LEVEL, "vector")
        output = ipa
    va = random_above(rng, max(1 << table.shift(LAST_LEVEL), _VECTOR_SPACING), table.input_bits)
    if stage1.upper:
        va |= mask(64) & ~mask(table.input_bits)
    tables.map(va, output, LAST_LEVEL, _AF | _AP2, 0)
    draft.registers[f"VBAR_EL{el}"] = va


def _with_upper_bits(rng: random.Random, stage1: Stage1, va: int) -> int:
    """The bits above the input size: all equal, but for a tag where one is ignored."""
    if stage1.upper:
        va |= mask(64) & ~mask(stage1.table.input_bits)
    if chance(rng, 0.35 if stage1.tbi else 0.03):
        va = va & mask(56) | rng.getrandbits(8) << 56
    return va


def _leaf_bits(draft: Draft, stage1: Stage1) -> int:
    rng = draft.rng
    bits = _AF | rng.getrandbits(3) << 2 | rng.getrandbits(2) << 6 | rng.getrandbits(1) << 11
    bits |= chance(rng, 0.2) << 53 | chance(rng, 0.2) << 54
    bits |= chance(rng, 0.12) << 51 | chance(rng, 0.1) << 50 | chance(rng, 0.04) << 52
    bits |= rng.getrandbits(1) << 5 | chance(rng, 0.2) << 55
    if not stage1.table.ds:
        bits |= rng.choice((0, 2, 3, 3)) << 8
    return bits


def _table_bits(rng: random.Random) -> int:
    """Hierarchical attributes: mostly none."""
    return rng.getrandbits(5) << 59 if chance(rng, 0.15) else 0


def _set_base(draft: Draft, register: str, table: TableFormat, base: int) -> None:
    value = draft.registers.get(register, 0) & ~mask(48)
    high = base >> 48
    assert base & (table.base_alignment - 1) == 0 and (not high or table.output_bits > 48)
    draft.registers[register] = value | base & mask(48) | high << 2 | (draft.rng.random() < 0.3)  # CnP
