"""Stage 2: start levels, IPA faults, walks of stage 1 tables, rights and memory types of both stages together."""

from __future__ import annotations

import pytest

from kexecdbg.arm64.faults import Access, CauseKind, Fault, FaultKind
from kexecdbg.arm64.geometry import GRANULE_4K, GRANULE_16K, GRANULE_64K, Granule
from kexecdbg.arm64.memory_types import Shareability
from kexecdbg.arm64.regimes import Regime
from kexecdbg.arm64.stage2 import Stage2Walk, stage2_of, walk_stage2
from kexecdbg.arm64.walk import Walk, walk
from kexecdbg.errors import ArchitectureError
from tests.unit.arm64.tables import Words, page_path, path_to_level, registers

TG0 = {GRANULE_4K: 0, GRANULE_64K: 1, GRANULE_16K: 2}
BASE = 0x2_0000_0000
S1_ROOT, VA, IPA = 0x5000_0000, 0xAAAA_1234_5678, 0x5123_4678
S2_ROOT = 0x53C0_0000
# VTCR: 4K, T0SZ 24, SL0 1: level 1, two tables side by side; PS 48 bits.
VTCR = 0x8005_3558
BLOCK = 0x7FD  # valid block, MemAttr 1111, S2AP 11, inner shareable, AF
IDENTITY = {S2_ROOT + 8 * giga: giga << 30 | BLOCK for giga in range(8)}


def two_stages(
    s1_leaf: int = IPA & ~0xFFF | 0xF53, s2: dict[int, int] | None = None, through_stage2: bool = True, **changes: int
) -> Walk:
    """A walk of ``VA`` to ``IPA`` by stage 1 tables in memory that stage 2 maps one to one, unless ``s2`` differs."""
    values = registers(
        **{"HCR_EL2": 0x8000_0001, "TTBR0_EL1": S1_ROOT, "VTCR_EL2": VTCR, "VTTBR_EL2": S2_ROOT, **changes}
    )
    words = {**page_path(s1_leaf, VA, S1_ROOT), **IDENTITY, **(s2 or {})}
    return walk(values, Words(words), VA, regime=Regime.EL1_0, through_stage2=through_stage2)


def fault_of(result: Walk | Stage2Walk, access: Access = Access.READ) -> Fault:
    fault = result.fault if isinstance(result, Stage2Walk) else result.fault_for(access)
    assert fault is not None
    return fault


def vtcr(granule: Granule, t0sz: int, sl0: int, more: int = 0) -> int:
    return 1 << 31 | 6 << 16 | TG0[granule] << 14 | sl0 << 6 | t0sz | more


DS, SL2 = 1 << 32, 1 << 33


@pytest.mark.parametrize(
    ("granule", "sl0", "more", "level", "shortest", "longest"),
    [
        (GRANULE_4K, 3, 0, 3, 16, 25),
        (GRANULE_4K, 0, 0, 2, 22, 34),
        (GRANULE_4K, 1, 0, 1, 31, 43),
        (GRANULE_4K, 2, 0, 0, 40, 48),
        (GRANULE_4K, 0, DS | SL2, -1, 49, 52),
        (GRANULE_16K, 0, 0, 3, 16, 29),
        (GRANULE_16K, 1, 0, 2, 26, 40),
        (GRANULE_16K, 2, 0, 1, 37, 48),
        (GRANULE_16K, 3, DS, 0, 48, 52),
        (GRANULE_64K, 0, 0, 3, 17, 33),
        (GRANULE_64K, 1, 0, 2, 30, 46),
        (GRANULE_64K, 2, 0, 1, 43, 52),
    ],
    ids=lambda value: value.name if isinstance(value, Granule) else str(value),
)
def test_start_levels_and_concatenation(
    granule: Granule, sl0: int, more: int, level: int, shortest: int, longest: int
) -> None:
    """Every IPA size that a start level allows maps a page near its top; one bit more or less is inconsistent."""
    for input_bits in range(shortest, longest + 1):
        values = registers(VTCR_EL2=vtcr(granule, 64 - input_bits, sl0, more), VTTBR_EL2=BASE)
        stage2 = stage2_of(values)
        assert stage2.problem is None, input_bits
        assert stage2.table.start_level == level
        ipa = (1 << input_bits) - (1 << granule.shift) | 0x10
        words = path_to_level(stage2.table, BASE, ipa, 3, 0x7_0000_0000 | 0x4FF)
        result = walk_stage2(values, Words(words), ipa)
        assert (result.pa, result.leaf_level, len(result.levels)) == (0x7_0000_0010, 3, 4 - level)
    for input_bits in (shortest - 1, longest + 1):
        if 16 <= input_bits <= 48 or (more and 64 - input_bits >= 12):
            values = registers(VTCR_EL2=vtcr(granule, 64 - input_bits, sl0, more), VTTBR_EL2=BASE)
            fault = fault_of(walk_stage2(values, Words(), 0))
            assert (fault.kind, fault.level, fault.stage) == (FaultKind.TRANSLATION, 0, 2)


@pytest.mark.parametrize(
    ("granule", "sl0", "t0sz", "pa_range"), [(GRANULE_4K, 2, 22, 3), (GRANULE_16K, 2, 25, 2), (GRANULE_64K, 2, 21, 3)]
)
def test_start_level_needs_physical_bits(granule: Granule, sl0: int, t0sz: int, pa_range: int) -> None:
    id_value = 0x0323_1020_0000 | pa_range
    values = registers(VTCR_EL2=vtcr(granule, t0sz, sl0), ID_AA64MMFR0_EL1=id_value)
    problem = stage2_of(values).problem
    assert problem is not None


def test_level_3_start_with_4k_needs_ttst() -> None:
    values = registers(VTCR_EL2=vtcr(GRANULE_4K, 39, 3), ID_AA64MMFR2_EL1=0)
    problem = stage2_of(values).problem
    assert problem is not None
    assert problem.text == "VTCR_EL2.SL0 = 3 is not a start level for T0SZ = 39 with the 4K granule"
    assert stage2_of(registers(VTCR_EL2=vtcr(GRANULE_4K, 39, 3))).problem is None


class TestIpaFaults:
    def test_translation(self) -> None:
        result = two_stages(s2={S2_ROOT + 8: 0}, s1_leaf=0x6123_4F53)
        fault = fault_of(result)
        assert fault.s1ptw, "the stage 1 tables are in the same gigabyte"
        result = two_stages(s1_leaf=0x9_0000_0F53)
        fault = fault_of(result)
        assert (fault.kind, fault.level, fault.stage, fault.s1ptw) == (FaultKind.TRANSLATION, 1, 2, False)
        assert (fault.ipa, fault.hpfar) == (0x9_0000_0678, 0x90_0000_0)
        assert (result.pa, result.ipa) == (None, 0x9_0000_0678)

    def test_s1ptw_carries_the_table_address(self) -> None:
        result = two_stages(s2={S2_ROOT + 8: 0})
        fault = fault_of(result)
        assert (fault.kind, fault.level, fault.stage, fault.s1ptw) == (FaultKind.TRANSLATION, 1, 2, True)
        assert (fault.ipa, fault.hpfar) == (S1_ROOT + 8 * 341, S1_ROOT >> 12 << 4)
        assert fault.text == "Translation fault, level 1, stage 2, on a stage 1 table walk"

    def test_permission_fault_has_no_hpfar(self) -> None:
        result = two_stages(s2={S2_ROOT + 8: 0x4000_077D})
        fault = fault_of(result, Access.WRITE)
        assert (fault.kind, fault.level, fault.stage, fault.fsc) == (FaultKind.PERMISSION, 1, 2, 0x0D)
        assert (fault.cause.kind, fault.cause.bit, fault.hpfar) == (CauseKind.STAGE2_NO_WRITE, 7, None)

    def test_beyond_the_ipa_space(self) -> None:
        fault = fault_of(walk_stage2(registers(VTCR_EL2=VTCR, VTTBR_EL2=S2_ROOT), Words(), 1 << 40))
        assert (fault.kind, fault.level, fault.cause.kind) == (FaultKind.TRANSLATION, 0, CauseKind.VA_OUT_OF_RANGE)

    def test_stage_1_permission_comes_first(self) -> None:
        """A write that stage 1 denies never gets as far as stage 2, where the page is not mapped."""
        result = two_stages(s1_leaf=0x9_0000_0FD3)
        assert (fault_of(result, Access.WRITE).stage, fault_of(result, Access.WRITE).kind) == (1, FaultKind.PERMISSION)
        assert (fault_of(result, Access.READ).stage, fault_of(result, Access.READ).kind) == (2, FaultKind.TRANSLATION)


class TestTableWalk:
    def test_tables_are_read_where_stage_2_puts_them(self) -> None:
        moved = {S2_ROOT + 8: 0x1_4000_0000 | BLOCK, S2_ROOT + 8 * 2: 0x8000_0000 | BLOCK}
        words = {address + 0x1_0000_0000: value for address, value in page_path(0x8123_4F53, VA, S1_ROOT).items()}
        values = registers(HCR_EL2=0x8000_0001, TTBR0_EL1=S1_ROOT, VTCR_EL2=VTCR, VTTBR_EL2=S2_ROOT)
        result = walk(values, Words({**words, **moved}), VA, regime=Regime.EL1_0)
        assert result.pa == 0x8123_4678
        assert (result.levels[0].ipa, result.levels[0].address) == (S1_ROOT + 8 * 341, S1_ROOT + 8 * 341 + (4 << 30))

    def test_needs_read_permission(self) -> None:
        fault = fault_of(two_stages(s2={S2_ROOT + 8: 0x4000_07BD}))
        assert (fault.kind, fault.s1ptw, fault.cause.kind) == (FaultKind.PERMISSION, True, CauseKind.STAGE2_NO_READ)
        assert fault.hpfar == S1_ROOT >> 12 << 4

    @pytest.mark.parametrize("ptw", [0, 1])
    def test_ptw_forbids_tables_in_device_memory(self, ptw: int) -> None:
        device = 0x4000_07C1  # MemAttr 0000
        result = two_stages(s1_leaf=0x8123_4F53, s2={S2_ROOT + 8: device}, HCR_EL2=0x8000_0001 | ptw << 2)
        if not ptw:
            assert result.pa == 0x8123_4678
            return
        fault = fault_of(result)
        assert (fault.kind, fault.level, fault.s1ptw) == (FaultKind.PERMISSION, 1, True)
        assert fault.cause.kind is CauseKind.STAGE2_DEVICE_WALK


@pytest.mark.parametrize(("xn", "el1", "el0"), [(0, True, True), (1, False, True), (2, False, False), (3, True, False)])
def test_xn_with_and_without_xnx(xn: int, el1: bool, el0: bool) -> None:
    block = {S2_ROOT + 8: 0x4000_0000 | BLOCK | xn << 53}
    values = registers(VTCR_EL2=VTCR, VTTBR_EL2=S2_ROOT)
    result = walk_stage2(values, Words(block), IPA)
    assert (result.privileged.execute.allowed, result.user.execute.allowed) == (el1, el0)
    values["ID_AA64MMFR1_EL1"] = 0
    result = walk_stage2(values, Words(block), IPA)
    assert (result.privileged.execute.allowed, result.user.execute.allowed) == (xn < 2, xn < 2)


def test_rights_are_those_that_both_stages_grant() -> None:
    result = two_stages(s1_leaf=0x5123_4713, s2={S2_ROOT + 8: 0x4000_077D | 2 << 53})
    assert result.privileged.text == "r--"
    assert [cause.kind for cause in result.privileged.execute.causes] == [CauseKind.STAGE2_XN]
    assert "stage 2 level 1 descriptor at 0x53c00008" in result.privileged.write.because


def test_dirty_state_makes_a_dbm_page_writable() -> None:
    block = {S2_ROOT + 8: 0x4000_077D | 1 << 51}
    assert two_stages(s2=block).privileged.write.allowed is False
    assert two_stages(s2=block, VTCR_EL2=VTCR | 3 << 21).privileged.write.allowed is True


def test_stage_2_needs_no_access_flag_with_ha() -> None:
    block = {S2_ROOT + 8 * 2: 0x8000_03FD}
    leaf = 0x8123_4F53
    fault = fault_of(two_stages(s1_leaf=leaf, s2=block))
    assert (fault.kind, fault.stage, fault.level) == (FaultKind.ACCESS_FLAG, 2, 1)
    assert two_stages(s1_leaf=leaf, s2=block, VTCR_EL2=VTCR | 1 << 21).pa == 0x8123_4678


# MAIR index of the stage 1 leaf -> type, with MAIR_EL1 = 0xbbff440c0400:
# 0 nGnRnE, 1 nGnRE, 2 GRE, 3 Normal NC, 4 Normal WB RA WA, 5 WT RA WA.
TYPES = ["Device-nGnRnE", "Device-nGnRE", "Device-GRE", "Normal Non-cacheable", "Normal Write-Back RA WA"]


class TestMemoryTypes:
    @pytest.mark.parametrize(
        ("index", "mem_attr", "wanted"),
        [
            (4, 0b1111, "Normal Write-Back RA WA"),
            (4, 0b1010, "Normal Write-Through RA WA"),
            (4, 0b0101, "Normal Non-cacheable"),
            (4, 0b0111, "Normal inner Write-Back RA WA, outer Non-cacheable"),
            (4, 0b0001, "Device-nGnRE"),
            (3, 0b1111, "Normal Non-cacheable"),
            (3, 0b0011, "Device-GRE"),
            (0, 0b1111, "Device-nGnRnE"),
            (1, 0b0000, "Device-nGnRnE"),
            (2, 0b0001, "Device-nGnRE"),
            (0, 0b0011, "Device-nGnRnE"),
            (4, 0b1100, "reserved memory type"),
        ],
    )
    def test_without_fwb(self, index: int, mem_attr: int, wanted: str) -> None:
        self.check(index, mem_attr, wanted, 0x8000_0001)

    @pytest.mark.parametrize(
        ("index", "mem_attr", "wanted"),
        [
            (4, 0b0110, "Normal Write-Back RA WA"),
            (3, 0b0110, "Normal Write-Back RA WA"),
            (0, 0b0110, "Normal Write-Back RA WA"),
            (5, 0b0110, "Normal Write-Back RA WA"),
            (4, 0b0111, "Normal Write-Back RA WA"),
            (1, 0b0111, "Device-nGnRE"),
            (4, 0b0101, "Normal Non-cacheable"),
            (1, 0b0101, "Device-nGnRE"),
            (4, 0b0010, "Device-nGRE"),
            (1, 0b0010, "Device-nGnRE"),
            (4, 0b0100, "reserved memory type"),
        ],
    )
    def test_with_fwb(self, index: int, mem_attr: int, wanted: str) -> None:
        self.check(index, mem_attr, wanted, 0x8000_0001 | 1 << 46)

    @staticmethod
    def check(index: int, mem_attr: int, wanted: str, hcr: int) -> None:
        result = two_stages(
            s1_leaf=0x8123_4F43 | index << 2, s2={S2_ROOT + 16: 0x8000_07C1 | mem_attr << 2}, HCR_EL2=hcr
        )
        assert result.memory_type is not None
        assert result.memory_type.text == wanted

    def test_cd_and_id(self) -> None:
        result = two_stages(HCR_EL2=0x8000_0001 | 1 << 32)
        assert result.memory_type is not None
        assert result.fetch_type is not None
        assert (result.memory_type.text, result.fetch_type.text) == ("Normal Non-cacheable", "Normal Write-Back RA WA")

    def test_shareability_is_the_wider(self) -> None:
        assert two_stages().shareability is Shareability.INNER
        assert two_stages(s2={S2_ROOT + 8: 0x4000_06FD}).shareability is Shareability.OUTER


def test_tge_alone_leaves_stage_2_on() -> None:
    """Only {E2H, TGE} = {1, 1} makes VM count as 0; the pseudocode, KVM's walker and QEMU agree."""
    result = two_stages(HCR_EL2=0x8800_0001)
    assert result.enabled is False and result.stage2 is not None
    assert fault_of(result) == Fault(FaultKind.TRANSLATION, 0, fault_of(result).cause, stage=2, ipa=VA)
    host = two_stages(HCR_EL2=0x4_8800_0001)
    assert (host.enabled, host.stage2, host.pa) == (False, None, VA)


@pytest.mark.parametrize(("bit", "name"), [(38, "D128"), (36, "S2PIE"), (37, "S2POE")])
def test_formats_that_are_not_decoded(bit: int, name: str) -> None:
    mmfr3 = 1 << 32 | 1 << 20 | 1 << 12
    with pytest.raises(ArchitectureError, match=name):
        stage2_of(registers(VTCR_EL2=VTCR | 1 << bit, ID_AA64MMFR3_EL1=mmfr3))
    assert stage2_of(registers(VTCR_EL2=VTCR | 1 << bit)).problem is None, "the CPU does not have it: RES0"
