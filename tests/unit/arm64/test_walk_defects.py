"""Seven defects that were found in another page table viewer, each as a regression test."""

from __future__ import annotations

from kexecdbg.arm64.faults import Access, CauseKind, FaultKind
from kexecdbg.arm64.regimes import Regime
from kexecdbg.arm64.scan import scan
from kexecdbg.arm64.walk import DescriptorKind, walk
from tests.unit.arm64.tables import Words, page_path, registers

VA, ROOT = 0x4030_1000, 0x5000_0000
PAGE = 0x4030_1713


def test_pxn_table_at_level_0_reaches_level_3() -> None:
    memory = Words(page_path(PAGE, VA, ROOT, table_bits=1 << 59))
    assert walk(registers(TTBR0_EL1=ROOT), memory, VA, regime=Regime.EL1_0).privileged.text == "rw-"
    assert scan(registers(TTBR0_EL1=ROOT), memory, Regime.EL1_0).ranges[0].privileged.text == "rw-"


def test_ap_table_is_applied() -> None:
    memory = Words(page_path(PAGE, VA, ROOT, table_bits=1 << 62))
    assert walk(registers(TTBR0_EL1=ROOT), memory, VA, regime=Regime.EL1_0).privileged.text == "r-x"
    assert scan(registers(TTBR0_EL1=ROOT), memory, Regime.EL1_0).ranges[0].privileged.text == "r-x"


def test_first_table_of_two_entries_is_a_table() -> None:
    """T0SZ = 24: 40 bits, level 0 with two entries."""
    values = registers(TTBR0_EL1=ROOT, TCR_EL1=0x5_B510_3518)
    va = 0x80_4030_1000
    memory = Words(page_path(PAGE, va, ROOT))
    result = walk(values, memory, va, regime=Regime.EL1_0)
    assert [(step.level, step.kind) for step in result.levels] == [
        (0, DescriptorKind.TABLE),
        (1, DescriptorKind.TABLE),
        (2, DescriptorKind.TABLE),
        (3, DescriptorKind.PAGE),
    ]
    assert result.levels[0].address == ROOT + 8
    assert (result.pa, result.page_size) == (0x4030_1000, 4096)
    assert [(item.va, item.pa) for item in scan(values, memory, Regime.EL1_0).ranges] == [(va, 0x4030_1000)]


def test_page_without_access_flag_and_reserved_page_are_not_accessible() -> None:
    no_af = Words(page_path(PAGE & ~(1 << 10), VA, ROOT))
    result = walk(registers(TTBR0_EL1=ROOT), no_af, VA, regime=Regime.EL1_0)
    assert result.fault is not None
    assert (result.fault.kind, result.fault.level, result.pa) == (FaultKind.ACCESS_FLAG, 3, None)
    assert result.privileged.text == "---"
    assert scan(registers(TTBR0_EL1=ROOT), no_af, Regime.EL1_0).ranges[0].privileged.text == "---"

    reserved = Words(page_path(PAGE & ~2, VA, ROOT))
    result = walk(registers(TTBR0_EL1=ROOT), reserved, VA, regime=Regime.EL1_0)
    assert result.fault is not None
    assert (result.fault.kind, result.fault.cause.kind) == (FaultKind.TRANSLATION, CauseKind.RESERVED_DESCRIPTOR)
    assert scan(registers(TTBR0_EL1=ROOT), reserved, Regime.EL1_0).ranges == ()


def test_ttbr0_needs_no_ttbr1() -> None:
    values = registers(TTBR0_EL1=ROOT)
    del values["TTBR1_EL1"]
    memory = Words(page_path(PAGE, VA, ROOT))
    assert walk(values, memory, VA, regime=Regime.EL1_0).pa == 0x4030_1000
    assert len(scan(values, memory, Regime.EL1_0).ranges) == 1


def test_bits_10_is_invalid() -> None:
    memory = Words(page_path(PAGE & ~1, VA, ROOT))
    result = walk(registers(TTBR0_EL1=ROOT), memory, VA, regime=Regime.EL1_0)
    assert result.levels[-1].kind is DescriptorKind.INVALID
    fault = result.fault_for(Access.READ)
    assert fault is not None
    assert (fault.text, fault.fsc) == ("Translation fault, level 3", 0x07)


def test_el0_writable_page_is_not_privileged_executable() -> None:
    memory = Words(page_path(PAGE | 1 << 6, VA, ROOT))
    result = walk(registers(TTBR0_EL1=ROOT), memory, VA, regime=Regime.EL1_0)
    assert result.privileged.text == "rw-"
    assert result.privileged.execute.causes[0].kind is CauseKind.EL0_WRITABLE
