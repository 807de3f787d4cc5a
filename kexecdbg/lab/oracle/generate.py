"""Random cases from a seed: a sound translation first, then none, one or two things damaged."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from kexecdbg.arm64.bits import mask
from kexecdbg.arm64.features import has_feature
from kexecdbg.arm64.geometry import LAST_LEVEL, TableFormat
from kexecdbg.arm64.regimes import HCR_TGE, Regime, mmu_enabled
from kexecdbg.arm64.stage2 import Stage2, stage2_enabled, stage2_of
from kexecdbg.arm64.translation import Stage1, stage1_of
from kexecdbg.lab.oracle.cases import (
    EL1_VECTORS,
    EL2_VECTORS,
    RAM_END,
    RESERVED_END,
    SCR_EL3,
    SMC_LANDING,
    SVC_LANDING,
    Case,
    NotAskableError,
    Operation,
)
from kexecdbg.lab.oracle.damage import damage
from kexecdbg.lab.oracle.judge import Expectation, Judge
from kexecdbg.lab.oracle.predict import regime_of_operation
from kexecdbg.lab.oracle.random_registers import (
    chance,
    random_hcr,
    random_mair,
    random_sctlr,
    random_tcr,
    random_vtcr,
)
from kexecdbg.lab.oracle.sparse_tables import ConflictError, Entry, Space, SparseTables, leaf_levels

GRANULES = ("4K", "16K", "64K")
_SCTLR_OFF = {"SCTLR_EL1": 0x30D0_0800, "SCTLR_EL2": 0x30C5_0830, "SCTLR_EL3": 0x30C5_0831}
_AF, _AP1, _AP2, _PXN, _UXN = 1 << 10, 1 << 6, 1 << 7, 1 << 53, 1 << 54
_VECTOR_SPACING = 0x1_0000
_ATTEMPTS = 50

_EL1_OPERATIONS = (
    Operation.S1E1R, Operation.S1E1W, Operation.S1E0R, Operation.S1E0W, Operation.S1E1RP, Operation.S1E1WP,
    Operation.S12E1R, Operation.S12E1W, Operation.S12E0R, Operation.S12E0W,
    Operation.FETCH_EL1, Operation.FETCH_EL1, Operation.FETCH_EL1, Operation.FETCH_EL0, Operation.FETCH_EL0,
)  # fmt: skip
_EL2_OPERATIONS = (Operation.S1E2R, Operation.S1E2W, Operation.FETCH_EL2)
_EL2_HOST_OPERATIONS = (
    *_EL2_OPERATIONS, Operation.S1E1R, Operation.S1E1W, Operation.S1E0R, Operation.S1E0W,
    Operation.S1E1RP, Operation.S1E1WP, Operation.FETCH_EL0, Operation.FETCH_EL2,
)  # fmt: skip
_EL3_OPERATIONS = (Operation.S1E3R, Operation.S1E3W, Operation.FETCH_EL3)


@dataclass(frozen=True)
class Question:
    """A case to be asked, with what we expect.

    Attributes:
        case: the case.
        expectation: what we expect.
        granule: of the tested range.
    """

    case: Case
    expectation: Expectation
    granule: str


@dataclass
class Draft:
    """A case in the making.

    Attributes:
        rng: source of all choices.
        identity: the CPU's ID registers.
        registers: by name.
        regime, operation, va, pan: as in the case.
        entries: descriptors by physical address; ``path`` those of the tested address, ``path2`` of its stage 2.
        instructions: words that are no descriptors.
    """

    rng: random.Random
    identity: Mapping[str, int]
    space: Space
    registers: dict[str, int]
    regime: Regime
    operation: Operation
    va: int = 0
    pan: bool = False
    entries: dict[int, Entry] = field(default_factory=dict)
    path: list[int] = field(default_factory=list)
    path2: list[int] = field(default_factory=list)
    instructions: dict[int, int] = field(default_factory=dict)

    @property
    def all_registers(self) -> dict[str, int]:
        """What a walk may ask for."""
        return {**self.identity, "SCR_EL3": SCR_EL3, **self.registers}

    def case(self, cpu: str, seed: str) -> Case:
        """The finished case.

        Raises:
            ConflictError: another case of the batch depends on one of its addresses.
        """
        memory = {address: entry.word for address, entry in self.entries.items()} | self.instructions
        if not self.space.taken.isdisjoint(memory):
            raise ConflictError
        if any(not RESERVED_END <= address < RAM_END for address in memory):
            raise ConflictError
        registers = dict(self.registers)
        return Case(cpu, self.regime, self.operation, self.va, registers, memory, self.pan, seed)


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


def random_above(rng: random.Random, unit: int, limit: int) -> int:
    """A random multiple of ``unit`` below ``1 << limit``; small ones and large ones alike."""
    width = limit if chance(rng, 0.6) else rng.randrange(unit.bit_length() - 1, limit + 1)
    return rng.getrandbits(width) // unit * unit if width else 0


def random_level(rng: random.Random, table: TableFormat, limit: int) -> int:
    """A level for a leaf that maps at most ``1 << limit`` bytes; pages more often than blocks."""
    levels = [level for level in leaf_levels(table) if table.shift(level) <= limit]
    if not levels:
        raise ConflictError
    return levels[-1] if chance(rng, 0.5) else rng.choice(levels)


class Generator:
    """Makes cases for one CPU.

    The same CPU, seed and deviations always give the same cases.
    """

    def __init__(self, cpu: str, judge: Judge, seed: str) -> None:
        self.cpu, self.judge, self.seed = cpu, judge, seed
        self.identity = identity = judge.identity
        regimes = [Regime.EL1_0, Regime.EL1_0, Regime.EL1_0, Regime.EL2, Regime.EL2, Regime.EL3]
        if has_feature(identity, "FEAT_VHE"):
            regimes += [Regime.EL2_0, Regime.EL2_0]
        self._regimes: Sequence[Regime] = regimes

    def question(self, number: int, space: Space) -> Question:
        """Case ``number``, whose memory goes into ``space`` (of the same batch)."""
        for attempt in range(_ATTEMPTS):
            seed = f"{self.seed}/{self.cpu}/{number}/{attempt}"
            rng = random.Random(seed)
            space.rng = rng
            try:
                return self.attempt(rng, space, seed)
            except (ConflictError, NotAskableError):
                continue
        raise AssertionError(f"no case for {self.seed}/{number} in {_ATTEMPTS} attempts")

    def attempt(self, rng: random.Random, space: Space, seed: str) -> Question:
        draft, granule = self._draft(rng, space)
        case = draft.case(self.cpu, seed)
        words = {**case.memory}
        overlay = _Overlay(words, space.words)
        expectation = self.judge.expect(case, overlay)
        reads = expectation.prediction.reads
        for address in reads:
            if address in space.words and address not in words:
                raise ConflictError  # it came across another case's tables
        space.words.update(words)
        space.taken.update(words)
        space.taken.update(reads)
        return Question(case, expectation, granule)

    def _draft(self, rng: random.Random, space: Space) -> tuple[Draft, str]:
        regime = rng.choice(self._regimes)
        granule = rng.choice(GRANULES)
        upper = regime.facts.two_ranges and chance(rng, 0.4)
        on = not chance(rng, 0.03)
        registers = dict(_SCTLR_OFF)
        registers["HCR_EL2"] = random_hcr(rng, regime, self.identity)
        registers[regime.facts.sctlr] = random_sctlr(rng, regime.facts.el, on=on or regime is Regime.EL3)
        registers[regime.facts.tcr] = random_tcr(rng, regime, self.identity, upper=upper, granule=granule)
        registers[regime.facts.mair] = random_mair(rng)
        registers["VTCR_EL2"] = random_vtcr(rng, self.identity, granule=rng.choice(GRANULES))
        if regime is Regime.EL1_0:
            registers["SCTLR_EL2"] |= chance(rng, 0.06) << 25  # EE, for stage 2
        for name in (regime.facts.ttbr0, regime.facts.ttbr1):
            if name is not None:
                registers[name] = rng.getrandbits(16) << 48
        registers["VTTBR_EL2"] = rng.getrandbits(16) << 48
        registers["VBAR_EL1"], registers["VBAR_EL2"] = EL1_VECTORS, EL2_VECTORS
        operation = _random_operation(rng, regime, registers, self.identity)
        draft = Draft(rng, self.identity, space, registers, regime, operation, pan=rng.random() < 0.5)
        if regime is not regime_of_operation(operation, draft.all_registers):
            raise ConflictError
        _build(draft, upper)
        damage(draft)
        if draft.operation.is_fetch and draft.va & 3:
            raise ConflictError
        if draft.regime is not regime_of_operation(operation, draft.all_registers):
            raise ConflictError
        return draft, granule


class _Overlay(dict[int, int]):
    """The words of a case, and under them those of the batch."""

    def __init__(self, words: Mapping[int, int], under: Mapping[int, int]) -> None:
        super().__init__(words)
        self._under = under

    def get(self, address: int, default: int = 0) -> int:  # type: ignore[override]
        found = super().get(address)
        return self._under.get(address, default) if found is None else found


def _random_operation(
    rng: random.Random, regime: Regime, registers: Mapping[str, int], identity: Mapping[str, int]
) -> Operation:
    hcr = registers["HCR_EL2"]
    tge = hcr >> HCR_TGE & 1
    if regime is Regime.EL3:
        choices: Sequence[Operation] = _EL3_OPERATIONS
    elif regime is Regime.EL2:
        choices = _EL2_OPERATIONS
    elif regime is Regime.EL2_0:
        choices = _EL2_HOST_OPERATIONS if tge else _EL2_OPERATIONS
    else:
        choices = _EL1_OPERATIONS
        if tge:  # no EL1 then; and EL0 runs with the MMU off
            choices = [choice for choice in choices if choice is not Operation.FETCH_EL1]
    if not has_feature(identity, "FEAT_PAN2"):
        choices = [choice for choice in choices if not choice.facts.pan]
    return rng.choice(choices)


def _build(draft: Draft, upper: bool) -> None:
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
