"""Whole tables: merged ranges agree with single walks; cycles, holes and hostile tables are reported and bounded."""

from __future__ import annotations

import random
import subprocess
import sys
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kexecdbg.arm64.faults import FaultKind
from kexecdbg.arm64.geometry import GRANULE_4K, GRANULE_16K, GRANULE_64K, Granule
from kexecdbg.arm64.ranges import ProblemKind, ScanLimits
from kexecdbg.arm64.regimes import Regime
from kexecdbg.arm64.scan import MappedRange, scan, scan_stage2, select_ranges
from kexecdbg.arm64.stage2 import walk_stage2
from kexecdbg.arm64.table_arrays import MAX_VISITS_OF_ONE_TABLE
from kexecdbg.arm64.walk import Walk, walk
from tests.unit.arm64.tables import RamOnly, Words, registers

RAM = 0x5000_0000
TCR_TG0 = {GRANULE_4K: 0, GRANULE_64K: 1, GRANULE_16K: 2}


class Builder:
    """Tables in one block of RAM."""

    def __init__(self, granule: Granule = GRANULE_4K) -> None:
        self.size = 1 << granule.shift
        self.tables: list[list[int]] = []

    def table(self) -> int:
        """The address of a new, empty table."""
        self.tables.append([0] * (self.size // 8))
        return RAM + (len(self.tables) - 1) * self.size

    def put(self, table: int, index: int, descriptor: int) -> None:
        self.tables[(table - RAM) // self.size][index] = descriptor

    def memory(self) -> RamOnly:
        words = (word for table in self.tables for word in table)
        return RamOnly(RAM, b"".join(word.to_bytes(8, "little") for word in words))


def random_tables(seed: int, granule: Granule, start_level: int) -> RamOnly:
    """A few tables of each level with leaves, tables, reserved and invalid entries, some of them in rows.

    At most three entries of a table point to tables, so that none is reached too often to be shown.
    """
    source = random.Random(seed)
    build = Builder(granule)
    attributes = [source.getrandbits(64) & 0x7FF0_0000_0000_0FFC | 0x400 for _ in range(4)] + [0x3]
    level_tables = [build.table()]
    for level in range(start_level, 4):
        shift = granule.level_shift(level)
        below = [build.table() for _ in range(3)] if level < 3 else []
        for table in level_tables:
            links = source.sample(range(300), 3) if below else []
            index = 0
            while index < 300:
                run = source.choice([1, 1, 2, 5, 17])
                pa = source.getrandbits(48) >> shift << shift
                look = source.choice(attributes)
                kind = source.choice(["leaf", "leaf", "invalid", "reserved"])
                for offset in range(run):
                    if kind == "leaf":
                        entry = (pa + (offset << shift)) % (1 << 48) | look & ~3 | (3 if level == 3 else 1)
                    else:
                        entry = look & ~3 | (1 if kind == "reserved" else 2)
                    build.put(table, index + offset, entry)
                index += run
            for link in links:
                build.put(table, link, source.choice(below) | source.getrandbits(64) & (0xF << 59) | 3)
        level_tables = below
    return build.memory()


def compare_with_walks(values: dict[str, int], memory: RamOnly, regime: Regime, seed: int) -> None:
    """Every sampled address of a range, and every sampled address between ranges, must agree with a single walk."""
    result = scan(values, memory, regime)
    assert len(result.ranges) > 20
    assert not {problem.kind for problem in result.problems} & {ProblemKind.SHARED, ProblemKind.LIMIT}
    source = random.Random(seed)
    for item in source.sample(result.ranges, min(60, len(result.ranges))):
        for va in (item.va, item.end - 1, source.randrange(item.va, item.end)):
            one = walk(values, memory, va, regime=regime, pan=False)
            compare_address(item, va, one)
            for level in one.levels:
                assert any(place <= level.address < place + size for place, size in result.table_places)
    gaps = [(one.end, two.va) for one, two in pairwise(result.ranges) if one.end < two.va]
    assert gaps
    for start, end in source.sample(gaps, min(60, len(gaps))):
        unmapped = walk(values, memory, source.randrange(start, end), regime=regime, pan=False)
        assert unmapped.pa is None
        assert unmapped.fault is not None
        assert unmapped.fault.kind in (FaultKind.TRANSLATION, FaultKind.ADDRESS_SIZE)


def compare_address(item: MappedRange, va: int, one: Walk) -> None:
    attributes = item.attributes
    assert one.leaf_level == item.level
    if one.fault is not None:
        assert (one.fault.kind, attributes.access_flag, item.privileged.text) == (FaultKind.ACCESS_FLAG, False, "---")
        return
    assert one.pa == item.pa + va - item.va
    assert one.page_size == item.page_size
    assert one.privileged.text == item.privileged.text
    assert (one.user.text if one.user else None) == (item.user.text if item.user else None)
    assert one.memory_type == item.memory_type
    assert one.shareability is attributes.shareability
    assert one.guarded == attributes.guarded


@settings(max_examples=30)
@given(seed=st.integers(0, 10**6), regime=st.sampled_from([Regime.EL1_0, Regime.EL2, Regime.EL2_0]))
def test_ranges_agree_with_walks_4k(seed: int, regime: Regime) -> None:
    values = registers(TTBR0_EL1=RAM, TTBR0_EL2=RAM, HCR_EL2=0x4_8000_0000 if regime is Regime.EL2_0 else 0x8000_0000)
    values["TCR_EL2"] = 0x5_B510_3510 if regime is Regime.EL2_0 else 0x8085_3510
    values["TCR_EL1"] |= seed % 2 << 41 | seed % 3 << 39
    values["SCTLR_EL2"] |= seed % 2 << 19
    compare_with_walks(values, random_tables(seed, GRANULE_4K, 0), regime, seed)


@settings(max_examples=8)
@given(seed=st.integers(0, 10**6), granule=st.sampled_from([GRANULE_16K, GRANULE_64K]), ds=st.booleans())
def test_ranges_agree_with_walks_large_granules(seed: int, granule: Granule, ds: bool) -> None:
    tcr = 6 << 16 | TCR_TG0[granule] << 14 | 1 << 32 if ds else 5 << 16 | TCR_TG0[granule] << 14
    values = registers(TTBR0_EL2=RAM, TCR_EL2=tcr | (17 if granule is GRANULE_16K else 12))
    compare_with_walks(values, random_tables(seed, granule, 1), Regime.EL2, seed)


def test_upper_range() -> None:
    build = Builder()
    tables = [build.table() for _ in range(4)]
    for above, below in pairwise(tables):
        build.put(above, 511, below | 3)
    for index in range(508, 512):
        build.put(tables[3], index, 0x4000_0000 | index << 12 | 0x0068_0000_0000_0713)
    result = scan(registers(TTBR1_EL1=RAM), build.memory(), Regime.EL1_0, ttbr=1)
    (only,) = result.ranges
    assert (only.va, only.end, only.pa) == (2**64 - 4 * 4096, 2**64, 0x401F_C000)
    assert (only.privileged.text, only.user.text if only.user else "") == ("rw-", "---")
    assert (result.entries, result.tables, result.register, result.root) == (7, 4, "TTBR1_EL1", RAM)


class TestMerging:
    @staticmethod
    def ranges(leaves: dict[int, int], second_table: dict[int, int] | None = None) -> tuple[MappedRange, ...]:
        build = Builder()
        root, one, two, three, four = (build.table() for _ in range(5))
        build.put(root, 0, one | 3)
        build.put(one, 0, two | 3)
        build.put(two, 0, three | 3)
        build.put(two, 1, four | 3)
        for index, leaf in leaves.items():
            build.put(three, index, leaf)
        for index, leaf in (second_table or {}).items():
            build.put(four, index, leaf)
        return scan(registers(TTBR0_EL2=RAM), build.memory(), Regime.EL2).ranges

    def test_across_tables(self) -> None:
        leaf = 0x4000_0000 | 0x713
        (only,) = self.ranges(
            {index: leaf + (index << 12) for index in range(500, 512)},
            {index: leaf + (index + 512 << 12) for index in range(3)},
        )
        assert (only.va, only.end, only.pa, only.page_size) == (500 << 12, 515 << 12, 0x401F_4000, 4096)

    def test_attributes_split(self) -> None:
        leaf = 0x4000_0713
        result = self.ranges({0: leaf, 1: leaf + 0x1000, 2: (leaf + 0x2000) | 1 << 54, 3: leaf + 0x3000})
        assert [(item.va >> 12, item.end >> 12, item.privileged.text) for item in result] == [
            (0, 2, "rwx"),
            (2, 3, "rw-"),
            (3, 4, "rwx"),
        ]

    def test_physical_gap_splits(self) -> None:
        assert len(self.ranges({0: 0x4000_0713, 1: 0x4000_2713})) == 2

    def test_software_bits_do_not_split(self) -> None:
        (only,) = self.ranges({0: 0x4000_0713 | 1 << 55, 1: 0x4000_1713 | 1 << 58})
        assert only.size == 0x2000


def two_levels_down(entry: int) -> RamOnly:
    build = Builder()
    root, one = build.table(), build.table()
    build.put(root, 0, one | 3)
    build.put(one, 7, entry)
    build.put(one, 8, 0x4000_0000 | 0x711)
    return build.memory()


@pytest.mark.parametrize(
    ("entry", "kind", "words"),
    [
        (RAM | 3, ProblemKind.CYCLE, "points to 0x50000000, a table above itself"),
        (RAM + 0x1003, ProblemKind.CYCLE, "points to 0x50001000, a table above itself"),
        (0x9000_0003, ProblemKind.UNREADABLE, "points to a table at 0x90000000 that cannot be read: outside RAM"),
    ],
)
def test_table_that_cannot_be_followed(entry: int, kind: ProblemKind, words: str) -> None:
    result = scan(registers(TTBR0_EL2=RAM), two_levels_down(entry), Regime.EL2)
    (problem,) = result.problems
    assert (problem.kind, problem.level, problem.address, problem.descriptor, problem.va) == (
        kind,
        1,
        0x5000_1038,
        entry,
        7 << 30,
    )
    assert problem.text == f"the level 1 descriptor at 0x50001038, {entry:#x}, {words}"
    assert [item.va for item in result.ranges] == [8 << 30], "the rest of the table is still there"


def test_addresses_beyond_the_output_size() -> None:
    values = registers(TTBR0_EL2=RAM, TCR_EL2=0x8081_3510)
    table = scan(values, two_levels_down(1 << 40 | 3), Regime.EL2).problems
    block = scan(values, two_levels_down(1 << 40 | 0x711), Regime.EL2).problems
    assert [problem.kind for problem in table] == [ProblemKind.TABLE_SIZE]
    assert [problem.kind for problem in block] == [ProblemKind.OUTPUT_SIZE]


def test_reserved_entry_is_a_problem() -> None:
    build = Builder()
    root = build.table()
    build.put(root, 3, 0x711)
    (problem,) = scan(registers(TTBR0_EL2=RAM), build.memory(), Regime.EL2).problems
    assert (problem.kind, problem.level, problem.address) == (ProblemKind.RESERVED, 0, RAM + 24)


def test_unreadable_root() -> None:
    result = scan(registers(TTBR0_EL2=0x7000_0000), RamOnly(RAM, bytes(4096)), Regime.EL2)
    (problem,) = result.problems
    assert problem.text == "TTBR0_EL2 points to a table at 0x70000000 that cannot be read: outside RAM"


@pytest.mark.parametrize(
    ("tcr", "ttbr", "words"),
    [
        (0x5_B510_3510 | 1 << 7, RAM, "TCR_EL1.EPD0 is set"),
        (0x0_0010_0010, 1 << 47, "TTBR0_EL1 points to 0x800000000000, beyond the 32-bit output size"),
        (
            0x5_B510_3510 | 3 << 14,
            RAM,
            f"the table at {RAM:#x} is not walked: TCR_EL1.TG0 (bits 15:14) has the reserved value 3",
        ),
    ],
)
def test_registers_that_allow_no_walk(tcr: int, ttbr: int, words: str) -> None:
    result = scan(registers(TCR_EL1=tcr, TTBR0_EL1=ttbr), RamOnly(RAM, bytes(4096)), Regime.EL1_0)
    assert result.ranges == ()
    (problem,) = result.problems
    assert problem.kind is ProblemKind.CONFIGURATION
    assert words in problem.text


class TestHostile:
    def test_every_entry_points_to_one_table(self) -> None:
        """512^3 paths: as in a kernel with KASAN, whose shadow of nothing is one shared table."""
        build = Builder()
        tables = [build.table() for _ in range(4)]
        for above, below in pairwise(tables):
            for index in range(512):
                build.put(above, index, below | 3)
        for index in range(512):
            build.put(tables[3], index, 0x4000_0713)
        result = scan(registers(TTBR0_EL2=RAM), build.memory(), Regime.EL2)
        assert (result.tables, result.entries) == (4, 4 * 512)
        assert {problem.kind for problem in result.problems} == {ProblemKind.SHARED}
        assert len(result.ranges) == MAX_VISITS_OF_ONE_TABLE * 512

    def test_limits(self) -> None:
        source = random.Random(1)
        build = Builder()
        root = build.table()
        for index in range(512):
            build.put(root, index, source.choice([0x711, RAM + 4096 * index & ~0xFFF | 3]))
        for _ in range(511):
            build.table()
        limits = ScanLimits(entries=4096, runs=2, problems=3)
        result = scan(registers(TTBR0_EL2=RAM), build.memory(), Regime.EL2, limits=limits)
        assert len(result.problems) == 3
        assert result.problems_left_out > 0


def test_el1_tables_under_stage_2_are_read_through_it() -> None:
    """Stage 2 moves the stage 1 tables up by 1 GiB, in 4K pages."""
    words = {0x9000_0000: 0x9000_1003 - (1 << 30), 0x9000_1000: 0x4000_0711}
    stage2 = {0x5300_0000 + 8: 0x5310_0003, 0x5310_0000 + 8 * 128: 0x5320_0003}
    pages = {0x5320_0000 + 8 * index: 0x9000_07FF + (index << 12) for index in range(512)}
    values = registers(HCR_EL2=0x8000_0001, TTBR0_EL1=RAM, VTCR_EL2=0x8005_3558, VTTBR_EL2=0x5300_0000)
    memory = Words({**words, **stage2, **pages})
    result = scan(values, memory, Regime.EL1_0)
    assert [(item.va, item.pa, item.page_size) for item in result.ranges] == [(0, 0x4000_0000, 1 << 30)]
    assert result.output_is_ipa
    assert result.problems == ()


@settings(max_examples=15)
@given(seed=st.integers(0, 10**6))
def test_stage_2_ranges_agree_with_walks(seed: int) -> None:
    values = registers(VTCR_EL2=0x8005_3510 | 2 << 6, VTTBR_EL2=RAM)  # 48 bits, level 0
    memory = random_tables(seed, GRANULE_4K, 0)
    result = scan_stage2(values, memory)
    source = random.Random(seed)
    for item in source.sample(result.ranges, min(40, len(result.ranges))):
        ipa = source.randrange(item.va, item.end)
        one = walk_stage2(values, memory, ipa)
        if one.fault is not None:
            assert item.privileged.text == "---"
            continue
        assert one.pa == item.pa + ipa - item.va
        assert item.user is not None
        assert (one.privileged.text, one.user.text) == (item.privileged.text, item.user.text)
        assert (one.memory_type, one.shareability) == (item.memory_type, item.attributes.shareability)


class TestSelection:
    RANGES = TestMerging.ranges(
        {0: 0x4000_0713, 1: 0x4800_0713 | 1 << 54, 2: 0x5000_0793, 3: 0x900_0703 | 1 << 54, 9: 0x6000_0713}
    )

    @pytest.mark.parametrize(
        ("conditions", "pages"),
        [
            ({}, [0, 1, 2, 3, 9]),
            ({"within": (0x1000, 0x3000)}, [1, 2]),
            ({"within": (0x1FFF, 0x2000)}, [1]),
            ({"maps": (0x4800_0000, 0x5000_0001)}, [1, 2]),
            ({"privileged": "??x"}, [0, 2, 9]),
            ({"privileged": "r-x"}, [2]),
            ({"privileged": "?w?", "memory_type": "device"}, [3]),
            ({"memory_type": "write-back"}, [0, 1, 2, 9]),
            ({"user": "---"}, [0, 1, 2, 3, 9]),
            ({"user": "r??"}, []),
        ],
    )
    def test_conditions(self, conditions: dict[str, object], pages: list[int]) -> None:
        assert [item.va >> 12 for item in select_ranges(self.RANGES, **conditions)] == pages  # type: ignore[arg-type]


def test_numpy_is_imported_for_a_scan_only() -> None:
    code = "import sys, kexecdbg.arm64.walk, kexecdbg.arm64.scan; print('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"
