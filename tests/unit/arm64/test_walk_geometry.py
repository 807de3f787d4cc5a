"""Table shapes, address sizes, ranges and the order of the checks, for every granule and every size."""

from __future__ import annotations

import pytest

from kexecdbg.arm64.faults import Access, CauseKind, Fault, FaultKind
from kexecdbg.arm64.geometry import GRANULE_4K, GRANULE_16K, GRANULE_64K, Granule, stage1_start_level
from kexecdbg.arm64.regimes import Regime
from kexecdbg.arm64.translation import stage1_of
from kexecdbg.arm64.walk import DescriptorKind, Walk, walk
from kexecdbg.errors import ArchitectureError, RegisterUnknownError
from tests.unit.arm64.tables import Words, page_path, path_to_level, registers

TG0 = {GRANULE_4K: 0, GRANULE_64K: 1, GRANULE_16K: 2}
TG1 = {GRANULE_4K: 2, GRANULE_64K: 3, GRANULE_16K: 1}
BASE = 0x1_0000_0000
VA = 0x4030_1000
ROOT = 0x5000_0000
PAGE = 0x4030_1713

# Arm ARM tables: start level by T0SZ, as (first T0SZ, last T0SZ, level).
START_LEVELS = {
    GRANULE_4K: [(12, 15, -1), (16, 24, 0), (25, 33, 1), (34, 42, 2), (43, 48, 3)],
    GRANULE_16K: [(12, 16, 0), (17, 27, 1), (28, 38, 2), (39, 48, 3)],
    GRANULE_64K: [(12, 21, 1), (22, 34, 2), (35, 47, 3)],
}


def tcr_el2(granule: Granule, t0sz: int, ps: int = 6, more: int = 0) -> int:
    return 1 << 31 | 1 << 23 | ps << 16 | TG0[granule] << 14 | 0x3500 | t0sz | more


def fault_of(result: Walk, access: Access = Access.READ, privileged: bool = True) -> Fault:
    fault = result.fault_for(access, privileged)
    assert fault is not None
    return fault


@pytest.mark.parametrize(
    ("granule", "t0sz", "level"),
    [
        (granule, t0sz, level)
        for granule, rows in START_LEVELS.items()
        for first, last, level in rows
        for t0sz in range(first, last + 1)
    ],
    ids=lambda value: value.name if isinstance(value, Granule) else str(value),
)
def test_every_t0sz_maps_a_page(granule: Granule, t0sz: int, level: int) -> None:
    """A page near the top of the range, through a path that is built without the code under test."""
    assert stage1_start_level(granule, 64 - t0sz) == level
    ds = 1 << 32 if granule is not GRANULE_64K else 0
    values = registers(TCR_EL2=tcr_el2(granule, t0sz, more=ds), TTBR0_EL2=BASE)
    table = stage1_of(values, Regime.EL2).table
    assert table.start_level == level
    va = (1 << 64 - t0sz) - (1 << granule.shift) | 0x123
    leaf = 0x7_0000_0000 | 0x413
    result = walk(values, Words(path_to_level(table, BASE, va, 3, leaf)), va, regime=Regime.EL2)
    assert result.pa == 0x7_0000_0123
    assert (result.page_size, result.leaf_level, len(result.levels)) == (1 << granule.shift, 3, 4 - level)
    beyond = walk(values, Words(), va + (1 << 64 - t0sz), regime=Regime.EL2)
    assert fault_of(beyond).cause.kind is CauseKind.VA_OUT_OF_RANGE


@pytest.mark.parametrize(
    ("granule", "level", "ds", "legal"),
    [
        (GRANULE_4K, -1, 1, False),
        (GRANULE_4K, 0, 0, False),
        (GRANULE_4K, 0, 1, True),
        (GRANULE_4K, 1, 0, True),
        (GRANULE_4K, 2, 0, True),
        (GRANULE_16K, 0, 1, False),
        (GRANULE_16K, 1, 0, False),
        (GRANULE_16K, 1, 1, True),
        (GRANULE_16K, 2, 0, True),
        (GRANULE_64K, 1, 0, True),  # the CPU has 52-bit physical addresses
        (GRANULE_64K, 2, 0, True),
    ],
)
def test_block_levels(granule: Granule, level: int, ds: int, legal: bool) -> None:
    t0sz = 12 if level == -1 else 16
    values = registers(TCR_EL2=tcr_el2(granule, t0sz, more=ds << 32), TTBR0_EL2=BASE)
    table = stage1_of(values, Regime.EL2).table
    va = 0x12345
    result = walk(values, Words(path_to_level(table, BASE, va, level, 0x401)), va, regime=Regime.EL2)
    if legal:
        assert (result.pa, result.leaf_level) == (va, level)
        assert result.page_size == 1 << granule.level_shift(level)
        assert result.levels[-1].kind is DescriptorKind.BLOCK
    else:
        fault = fault_of(result)
        assert (fault.kind, fault.level, fault.cause.kind) == (FaultKind.TRANSLATION, level, CauseKind.ILLEGAL_BLOCK)
        assert fault.fsc == (0x2B if level == -1 else 0x04 + level)


def test_64k_level_1_block_needs_52_bit_physical_addresses() -> None:
    values = registers(TCR_EL2=tcr_el2(GRANULE_64K, 16, ps=5), TTBR0_EL2=BASE, ID_AA64MMFR0_EL1=5)
    assert fault_of(walk(values, Words({BASE: 0x401}), 0, regime=Regime.EL2)).cause.kind is CauseKind.ILLEGAL_BLOCK


@pytest.mark.parametrize(
    ("granule", "t0sz", "changes", "valid"),
    [
        (GRANULE_4K, 15, {}, False),
        (GRANULE_4K, 15, {"ID_AA64MMFR0_EL1": 5}, False),
        (GRANULE_4K, 48, {}, True),
        (GRANULE_4K, 49, {}, False),
        (GRANULE_4K, 40, {"ID_AA64MMFR2_EL1": 0}, False),
        (GRANULE_4K, 39, {"ID_AA64MMFR2_EL1": 0}, True),
        (GRANULE_64K, 48, {}, False),
        (GRANULE_64K, 12, {}, True),
        (GRANULE_64K, 12, {"ID_AA64MMFR2_EL1": 0}, False),
        (GRANULE_64K, 11, {}, False),
    ],
)
def test_txsz_limits(granule: Granule, t0sz: int, changes: dict[str, int], valid: bool) -> None:
    result = walk(registers(TCR_EL2=tcr_el2(granule, t0sz), **changes), Words(), 0, regime=Regime.EL2)
    fault = fault_of(result)
    assert (fault.kind, fault.cause.kind is CauseKind.TXSZ_OUT_OF_RANGE) == (FaultKind.TRANSLATION, not valid)
    if not valid:
        assert fault.level == 0
        assert fault.cause.field == "T0SZ"


@pytest.mark.parametrize(("ds_bit", "regime"), [(32, Regime.EL2), (59, Regime.EL2_0)])
def test_ds_alone_makes_52_bit_tables(ds_bit: int, regime: Regime) -> None:
    """A CPU with LPA2 decodes 48-bit descriptors while DS is 0: SH is not an address."""
    hcr = 0x4_8000_0000 if regime is Regime.EL2_0 else 0x8000_0000
    ps = 6 << (32 if regime is Regime.EL2_0 else 16)
    for ds, pa in ((0, 0x4030_1000), (1, 0xC_0000_4030_1000)):
        values = registers(TCR_EL2=ps | 16 | ds << ds_bit, TTBR0_EL2=ROOT, HCR_EL2=hcr)
        assert walk(values, Words(page_path(PAGE, VA, ROOT)), VA, regime=regime).pa == pa


def test_ds_is_ignored_without_lpa2_and_for_64k() -> None:
    without = registers(TCR_EL2=6 << 16 | 16 | 1 << 32, TTBR0_EL2=ROOT, ID_AA64MMFR0_EL1=6)
    assert stage1_of(without, Regime.EL2).table.ds is False
    with_64k = registers(TCR_EL2=tcr_el2(GRANULE_64K, 16, more=1 << 32), TTBR0_EL2=ROOT)
    assert stage1_of(with_64k, Regime.EL2).table.ds is False


@pytest.mark.parametrize("granule", list(TG1))
def test_tg1_has_its_own_coding(granule: Granule) -> None:
    values = registers(TCR_EL1=5 << 32 | TG1[granule] << 30 | 16 << 16 | 16)
    stage1 = stage1_of(values, Regime.EL1_0, upper=True)
    assert (stage1.table.granule, stage1.problem, stage1.ttbr) == (granule, None, "TTBR1_EL1")


@pytest.mark.parametrize(
    ("upper", "tcr", "id_value", "text"),
    [
        (False, 3 << 14, None, "TCR_EL1.TG0 (bits 15:14) has the reserved value 3"),
        (True, 0 << 30, None, "TCR_EL1.TG1 (bits 31:30) has the reserved value 0"),
        (False, 1 << 14, 0xF << 24, "TCR_EL1.TG0 (bits 15:14) selects 64K, which ID_AA64MMFR0_EL1 says"),
        (False, 2 << 14, 0, "TCR_EL1.TG0 (bits 15:14) selects 16K, which ID_AA64MMFR0_EL1 says"),
    ],
)
def test_reserved_or_missing_granule(upper: bool, tcr: int, id_value: int | None, text: str) -> None:
    changes = {} if id_value is None else {"ID_AA64MMFR0_EL1": id_value}
    values = registers(TCR_EL1=5 << 32 | 16 << 16 | 16 | tcr, **changes)
    va = 0xFFFF_8000_0000_0000 if upper else 0
    fault = fault_of(walk(values, Words(), va, regime=Regime.EL1_0))
    assert (fault.cause.kind, fault.cause.field) == (CauseKind.RESERVED_GRANULE, "TG1" if upper else "TG0")
    assert fault.cause.text.startswith(text)
    assert fault.cause.text.endswith(": which granule the CPU takes instead is IMPLEMENTATION DEFINED")


class TestBaseRegister:
    def test_cnp_and_asid_are_not_part_of_the_base(self) -> None:
        stage1 = stage1_of(registers(TTBR0_EL1=0xABCD << 48 | ROOT | 1), Regime.EL1_0)
        assert (stage1.base, stage1.warnings) == (ROOT, ())

    def test_misaligned_base_is_masked_and_reported(self) -> None:
        stage1 = stage1_of(registers(TTBR0_EL2=ROOT | 0x840), Regime.EL2)
        assert stage1.base == ROOT
        assert [warning.kind for warning in stage1.warnings] == [CauseKind.BASE_MISALIGNED]
        assert "0x50000840" in stage1.warnings[0].text

    def test_small_table_needs_less_alignment(self) -> None:
        stage1 = stage1_of(registers(TTBR0_EL2=ROOT | 0x10, TCR_EL2=0x8085_3521), Regime.EL2)
        assert (stage1.base, stage1.warnings) == (ROOT | 0x10, ()), "T0SZ = 33: two entries, 16 bytes"

    def test_small_table_with_52_bit_addresses_is_64_byte_aligned(self) -> None:
        values = registers(TTBR0_EL2=ROOT | 0x40 | 0xC << 2, TCR_EL2=tcr_el2(GRANULE_4K, 33, more=1 << 32))
        assert stage1_of(values, Regime.EL2).base == 0xC_0000_5000_0040

    @pytest.mark.parametrize(("ps", "base"), [(6, 0xF_0000_0001_0000), (5, 0x1_0000)])
    def test_64k_takes_high_bits_with_ps_6_only(self, ps: int, base: int) -> None:
        values = registers(TTBR0_EL2=0x1_0000 | 0xF << 2, TCR_EL2=tcr_el2(GRANULE_64K, 12, ps=ps))
        assert stage1_of(values, Regime.EL2).base == base

    def test_base_beyond_the_output_size(self) -> None:
        values = registers(TCR_EL2=tcr_el2(GRANULE_4K, 12, ps=0, more=1 << 32), TTBR0_EL2=BASE)
        fault = fault_of(walk(values, Words(), 0, regime=Regime.EL2))
        assert (fault.kind, fault.level, fault.fsc) == (FaultKind.ADDRESS_SIZE, 0, 0), "0 although the start is -1"
        assert fault.cause.kind is CauseKind.TABLE_BASE_SIZE


@pytest.mark.parametrize(("level", "fsc"), [(-1, 0x29), (0, 0x00), (1, 0x01), (2, 0x02)])
def test_next_table_beyond_the_output_size(level: int, fsc: int) -> None:
    values = registers(TCR_EL2=tcr_el2(GRANULE_4K, 12, ps=1, more=1 << 32), TTBR0_EL2=BASE)
    table = stage1_of(values, Regime.EL2).table
    result = walk(values, Words(path_to_level(table, BASE, 0, level, 1 << 40 | 3)), 0, regime=Regime.EL2)
    fault = fault_of(result)
    assert (fault.kind, fault.level, fault.fsc) == (FaultKind.ADDRESS_SIZE, level, fsc)
    assert fault.cause.kind is CauseKind.NEXT_TABLE_SIZE


def test_parange_limits_the_output_size() -> None:
    values = registers(TTBR0_EL2=ROOT, ID_AA64MMFR0_EL1=1)  # 36 bits, TCR says 48
    leaf = 1 << 40 | 0x713
    fault = fault_of(walk(values, Words(page_path(leaf, VA, ROOT)), VA, regime=Regime.EL2))
    assert (fault.kind, fault.cause.kind) == (FaultKind.ADDRESS_SIZE, CauseKind.OUTPUT_SIZE)


class TestRanges:
    def test_tbi_and_tbid(self) -> None:
        tagged = 0x5A << 56 | VA
        memory = Words(page_path(PAGE, VA, ROOT))
        with_tbi = registers(TTBR0_EL2=ROOT, TCR_EL2=0x8095_3510)
        assert walk(with_tbi, memory, tagged, regime=Regime.EL2).pa == 0x4030_1000
        with_tbid = registers(TTBR0_EL2=ROOT, TCR_EL2=0x8095_3510 | 1 << 29)
        result = walk(with_tbid, memory, tagged, regime=Regime.EL2)
        assert result.fault_for(Access.READ) is None
        assert (fault_of(result, Access.FETCH).text, result.privileged.text) == ("Translation fault, level 0", "rw-")

    def test_bit_55_picks_the_range_even_without_tbi(self) -> None:
        values = registers(TTBR0_EL1=ROOT, TTBR1_EL1=0x6000_0000)
        result = walk(values, Words(page_path(PAGE, VA, 0x6000_0000)), 0xFFFF_0000_0000_0000 | VA, regime=Regime.EL1_0)
        assert (result.pa, result.levels[0].address) == (0x4030_1000, 0x6000_0000)

    def test_e0pd_is_for_el0_only(self) -> None:
        values = registers(TTBR0_EL1=ROOT, TCR_EL1=0x5_B510_3510 | 1 << 55)
        result = walk(values, Words(page_path(PAGE | 1 << 6, VA, ROOT)), VA, regime=Regime.EL1_0)
        assert result.fault_for(Access.READ) is None
        fault = fault_of(result, privileged=False)
        assert (fault.kind, fault.level, fault.cause.kind) == (FaultKind.TRANSLATION, 0, CauseKind.E0PD)
        assert result.user is not None
        assert result.user.text == "---"

    def test_epd_comes_before_the_base_check(self) -> None:
        values = registers(TTBR0_EL1=1 << 47, TCR_EL1=16 | 1 << 7)
        fault = fault_of(walk(values, Words(), VA, regime=Regime.EL1_0))
        assert (fault.kind, fault.cause.kind) == (FaultKind.TRANSLATION, CauseKind.EPD)


class TestPriority:
    def test_output_size_before_access_flag(self) -> None:
        values = registers(TTBR0_EL2=ROOT, TCR_EL2=0x8081_3510)
        leaf = (1 << 40 | 0x713) & ~(1 << 10)
        assert (
            fault_of(walk(values, Words(page_path(leaf, VA, ROOT)), VA, regime=Regime.EL2)).kind
            is FaultKind.ADDRESS_SIZE
        )

    def test_access_flag_before_permission(self) -> None:
        leaf = (PAGE | 1 << 54) & ~(1 << 10)
        result = walk(registers(TTBR0_EL2=ROOT), Words(page_path(leaf, VA, ROOT)), VA, regime=Regime.EL2)
        assert fault_of(result, Access.FETCH).kind is FaultKind.ACCESS_FLAG
        assert result.debugger_hides[0].startswith("every access faults: the level 3 descriptor")


class TestMemory:
    def test_unreadable_table_is_unknown_not_unmapped(self) -> None:
        memory = Words(page_path(PAGE, VA, ROOT), holes=frozenset({0x50020}))
        result = walk(registers(TTBR0_EL2=ROOT), memory, VA, regime=Regime.EL2)
        assert (result.pa, result.unknown) == (None, True)
        assert [step.kind for step in result.levels] == [
            DescriptorKind.TABLE,
            DescriptorKind.TABLE,
            DescriptorKind.UNREADABLE,
        ]
        assert result.levels[-1].descriptor is None
        fault = fault_of(result)
        assert (fault.kind, fault.level, fault.fsc) == (FaultKind.UNKNOWN, 2, 0x16)
        assert fault.cause.kind is CauseKind.UNREADABLE_TABLE
        assert "0x50020008 cannot be read (a hole)" in fault.cause.text

    def test_big_endian_tables(self) -> None:
        memory = Words(page_path(PAGE, VA, ROOT)).big_endian()
        values = registers(TTBR0_EL2=ROOT)
        assert fault_of(walk(values, memory, VA, regime=Regime.EL2)).cause.kind is CauseKind.INVALID_DESCRIPTOR
        values["SCTLR_EL2"] |= 1 << 25
        assert walk(values, memory, VA, regime=Regime.EL2).pa == 0x4030_1000


class TestContiguous:
    LEAF = 0x4030_0713 | 1 << 52

    def run(self, words: dict[int, int]) -> Walk:
        memory = Words({**page_path(self.LEAF, 0x4030_0000, ROOT), **words})
        return walk(registers(TTBR0_EL2=ROOT), memory, 0x4030_0000, regime=Regime.EL2)

    def test_correct_run(self) -> None:
        table = 0x5003_0800
        result = self.run({table + 8 * index: self.LEAF + (index << 12) for index in range(16)})
        assert (result.contiguous, result.warnings) == (True, ())

    @pytest.mark.parametrize(
        ("index", "change"), [(5, 1 << 54), (5, 1 << 16), (15, 1 << 7)], ids=["attribute", "address", "read-only"]
    )
    def test_misprogrammed_run(self, index: int, change: int) -> None:
        words = {0x5003_0800 + 8 * number: self.LEAF + (number << 12) for number in range(16)}
        words[0x5003_0800 + 8 * index] ^= change
        result = self.run(words)
        assert result.pa == 0x4030_0000, "the architecture leaves the result open; the entry itself is used"
        assert [warning.kind for warning in result.warnings] == [CauseKind.CONTIGUOUS_MISPROGRAMMED]
        assert f"{0x5003_0800 + 8 * index:#x}" in result.warnings[0].text


class TestStage1Off:
    def test_identity_types_and_rights(self) -> None:
        values = registers(SCTLR_EL2=0x30C5_0830)
        result = walk(values, Words(), 0x1234_5678, regime=Regime.EL2)
        assert (result.enabled, result.pa, result.levels, result.leaf_level) == (False, 0x1234_5678, (), None)
        assert result.privileged.text == "rwx"
        assert result.memory_type is not None
        assert result.fetch_type is not None
        assert (result.memory_type.text, result.fetch_type.text) == ("Device-nGnRnE", "Normal Non-cacheable")
        values["SCTLR_EL2"] |= 1 << 12
        cached = walk(values, Words(), 0x1234_5678, regime=Regime.EL2)
        assert cached.fetch_type is not None
        assert cached.fetch_type.text == "Normal Write-Through RA"

    def test_dc(self) -> None:
        values = registers(HCR_EL2=0x8000_0000 | 1 << 12, VTCR_EL2=0x8005_3558, VTTBR_EL2=0x5430_0000)
        result = walk(values, Words({0x5430_0008: 0x4000_07FD}), 0x5123_4567, regime=Regime.EL1_0)
        assert (result.enabled, result.pa) == (False, 0x5123_4567)
        assert result.memory_type is not None
        assert result.memory_type.text == "Normal Write-Back RA WA"

    def test_beyond_the_physical_size(self) -> None:
        values = registers(SCTLR_EL2=0x30C5_0830, ID_AA64MMFR0_EL1=2)
        fault = fault_of(walk(values, Words(), 1 << 40, regime=Regime.EL2))
        assert (fault.kind, fault.level, fault.cause.kind) == (FaultKind.ADDRESS_SIZE, 0, CauseKind.MMU_OFF_SIZE)

    def test_a_tag_that_only_data_accesses_may_have(self) -> None:
        """TBI with TBID: the top byte counts for fetches, with stage 1 off too (pseudocode EffectiveTBI)."""
        tagged, tbi, tbid = 0xAB00_0000_4000_0000, 1 << 20, 1 << 29
        values = registers(SCTLR_EL2=0x30C5_0830)
        with_tbi = walk(values | {"TCR_EL2": tbi}, Words(), tagged, regime=Regime.EL2)
        assert (with_tbi.pa, with_tbi.privileged.text) == (0x4000_0000, "rwx")
        data_only = walk(values | {"TCR_EL2": tbi | tbid}, Words(), tagged, regime=Regime.EL2)
        assert (data_only.pa, data_only.fault, data_only.privileged.text) == (0x4000_0000, None, "rw-")
        fault = data_only.fault_for(Access.FETCH)
        assert fault is not None and (fault.kind, fault.level) == (FaultKind.ADDRESS_SIZE, 0)


class TestUnknownRegisters:
    @pytest.mark.parametrize("name", ["SCTLR_EL2", "TCR_EL2", "TTBR0_EL2"])
    def test_deciding_registers_raise(self, name: str) -> None:
        values = registers()
        del values[name]
        with pytest.raises(RegisterUnknownError, match=name) as caught:
            walk(values, Words(), VA, regime=Regime.EL2)
        assert caught.value.name == name

    def test_hcr_for_el1(self) -> None:
        values = registers(TTBR0_EL1=ROOT)
        del values["HCR_EL2"]
        with pytest.raises(RegisterUnknownError, match="HCR_EL2"):
            walk(values, Words(), VA, regime=Regime.EL1_0)
        values["ID_AA64PFR0_EL1"] = 0x11  # no EL2
        assert walk(values, Words(page_path(PAGE, VA, ROOT)), VA, regime=Regime.EL1_0).pa == 0x4030_1000

    def test_pstate_only_when_pan_decides(self) -> None:
        values = registers(TTBR0_EL1=ROOT)
        del values["PSTATE"]
        assert walk(values, Words(page_path(PAGE, VA, ROOT)), VA, regime=Regime.EL1_0).privileged.text == "rwx"
        with pytest.raises(RegisterUnknownError, match="PSTATE"):
            walk(values, Words(page_path(PAGE | 1 << 6, VA, ROOT)), VA, regime=Regime.EL1_0)

    def test_mair_leaves_the_type_unknown(self) -> None:
        values = registers(TTBR0_EL2=ROOT)
        del values["MAIR_EL2"]
        result = walk(values, Words(page_path(PAGE, VA, ROOT)), VA, regime=Regime.EL2)
        assert (result.memory_type, result.privileged.text) == (None, "rwx")
        assert "MAIR_EL2 is unknown: so is the memory type" in result.assumptions

    def test_id_registers_are_assumed_and_said(self) -> None:
        values = registers(TTBR0_EL2=ROOT)
        del values["ID_AA64MMFR0_EL1"]
        result = walk(values, Words(page_path(PAGE, VA, ROOT)), VA, regime=Regime.EL2)
        assert result.pa == 0x4030_1000
        assert "ID_AA64MMFR0_EL1 is unknown: 52-bit physical addresses assumed" in result.assumptions


def test_128_bit_descriptors_are_refused() -> None:
    values = registers(TCR2_EL2=1 << 5, ID_AA64MMFR3_EL1=1 << 32 | 1)
    with pytest.raises(ArchitectureError, match="D128"):
        walk(values, Words(), VA, regime=Regime.EL2)


def test_one_range_regime_has_no_ttbr1() -> None:
    with pytest.raises(ArchitectureError, match="no TTBR1"):
        stage1_of(registers(), Regime.EL2, upper=True)
