"""Values that other people's machines printed in public threads, decoded: register values, and faults with their leaf.

Each case names the thread it comes from; the expectation is what the thread reports, not what this code says.
"""

from __future__ import annotations

import struct

import pytest

from kexecdbg.arm64.faults import Access
from kexecdbg.arm64.regimes import Regime
from kexecdbg.arm64.registers import decode
from kexecdbg.arm64.syndromes import decode_syndrome
from kexecdbg.arm64.walk import walk
from kexecdbg.machine.memory import BytesMemory

_ROOT = 0x4000_0000
_EL1 = {"HCR_EL2": 0x8000_0000, "PSTATE": 0x3C5, "ID_AA64MMFR1_EL1": 0x1021_2122, "ID_AA64MMFR2_EL1": 0x11}


@pytest.mark.parametrize(
    ("register", "value", "expected"),
    [
        # liyafe1997/kernel_xiaomi_sm8250_mod issue 51: a phone's register dump.
        (
            "TCR_EL1",
            0xB2_B559_3519,
            {"T0SZ": 25, "T1SZ": 25, "TG0": 0, "TG1": 2, "SH0": 3, "SH1": 3, "IPS": 2, "A1": 1, "AS": 1, "TBI0": 1},
        ),
        ("ID_AA64MMFR0_EL1", 0x101122, {"PARange": 2, "ASIDBits": 2, "TGran16": 1, "TGran4": 0, "TGran64": 0}),
        ("SCTLR_EL1", 0x34F5_D91D, {"M": 1, "C": 1, "I": 1, "WXN": 0, "EE": 0, "SPAN": 1}),
        # volatilityfoundation/volatility3 issue 161: Windows on Arm, a 47-bit upper range.
        ("TCR_EL1", 0x605_B551_3511, {"T0SZ": 17, "T1SZ": 17, "TG0": 0, "TG1": 2, "IPS": 5}),
        # The seed mail: PS is 44 bits; one peer prints 48.
        ("TCR_EL2", 0x8084_3510, {"PS": 4, "T0SZ": 16, "TG0": 0, "SH0": 3}),
    ],
)
def test_register_values(register: str, value: int, expected: dict[str, int]) -> None:
    context = {"HCR_EL2": 0x8000_0000}
    fields = {field.name: field.value for field in decode(register, value, context).fields}
    assert {name: fields[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("va", "upper_bits", "leaf", "level", "status_code"),
    [
        # meta-qcom PR 875: fetch of a page with PXN, under tables with PXNTable and UXNTable; IFSC 0x0f.
        (0xFFFF_6B23_00AB_D400, 0x1800_0000_0000_0403, 0x0068_0001_00AB_DF07, 3, 0x0F),
        # ubicloud issue 1113: fetch of a 2 MiB block with PXN; IFSC 0x0e.
        (0xFFFF_BD2F_E97A_3BA0, 0x1000_0000_0000_0003, 0x0068_0007_F8E0_0F01, 2, 0x0E),
    ],
)
def test_fetch_faults(va: int, upper_bits: int, leaf: int, level: int, status_code: int) -> None:
    state = _EL1 | {
        "SCTLR_EL1": 0x34F4_D91D,
        "TCR_EL1": 0x5_B510_3510,
        "MAIR_EL1": 0x04_0044_FFFF,
        "TTBR1_EL1": _ROOT,
        "ID_AA64MMFR0_EL1": 0x1125,
    }
    result = walk(state, _tables(va, upper_bits, leaf, level), va, regime=Regime.EL1_0)
    fault = result.fault_for(Access.FETCH)
    assert fault is not None
    assert (fault.level, fault.fsc) == (level, status_code)
    assert result.fault_for(Access.READ) is None
    assert result.pa == (leaf & 0xFFFF_FFFF_F000) + va % (1 << (39 - 9 * level))


@pytest.mark.parametrize(
    ("esr", "summary"),
    [
        # HEAPLab/ASPIS issue 13; arm-software/arm-systemready issue 252; raspberrypi/linux issue 6792 (16K granule).
        (0x9600_0040, "Data Abort, same EL: Address size fault, level 0, on a write"),
        (0x9600_0007, "Data Abort, same EL: Translation fault, level 3, on a read"),
        (0x9600_0005, "Data Abort, same EL: Translation fault, level 1, on a read"),
        # CTSRD-CHERI/cheribsd issue 2390: an exclusive load of memory that does not support it.
        (
            0x9600_0035,
            "Data Abort, same EL: IMPLEMENTATION DEFINED fault (Unsupported Exclusive or Atomic access), on a read",
        ),
        # The same thread: a code that only FEAT_D128 gives a meaning (Arm ARM D24.2.40), CHERI machines their own.
        (0x9200_006C, "Data Abort, lower EL: Address size fault, level -2, on a write"),
        # Solo5/solo5 PR 301.
        (0x9600_0047, "Data Abort, same EL: Translation fault, level 3, on a write"),
    ],
)
def test_syndromes(esr: int, summary: str) -> None:
    assert decode_syndrome(esr).summary == summary


def test_zephyr_walk() -> None:
    """zephyrproject-rtos/zephyr PR 107274: T0SZ 32, L1[2], L2[0], L3[179], leaf AP = EL0 RW, nG, AF."""
    va = 0x800B_3F7C
    state = _EL1 | {
        "SCTLR_EL1": 0x30D0_1805,
        "TCR_EL1": 0x5_B510_3520,
        "MAIR_EL1": 0xBBFF_440C_0400,
        "TTBR0_EL1": 1 << 48 | 0x8003_1000,
        "ID_AA64MMFR0_EL1": 0x1125,
    }
    tables = {0x8003_1000: {2: 0x8003_2003}, 0x8003_2000: {0: 0x8003_3003}, 0x8003_3000: {179: 0x60_0000_800B_3F53}}
    memory = BytesMemory({address: _page(entries) for address, entries in tables.items()})
    result = walk(state, memory, va, regime=Regime.EL1_0)
    assert [level.level for level in result.levels] == [1, 2, 3]
    assert result.pa == va
    assert (result.privileged.text, result.user.text if result.user else None) == ("rw-", "rw-")


def test_islet_walk_that_is_aborted() -> None:
    """islet-project/islet PR 56, a Tarmac trace of EL2's MMU going on: the first fetch's walk is aborted at its start.

    The granule protection table gave the table's memory to another world, so nobody reads a descriptor of level 0.
    """
    state = {
        "HCR_EL2": 0x8000_0000,
        "PSTATE": 0x2000_03C9,
        "SCTLR_EL2": 0x30C5_1835,
        "TCR_EL2": 0x8080_3510 | 2 << 16,
        "MAIR_EL2": 0xFF,
        "TTBR0_EL2": 0x1_FB82_8000,
        "ID_AA64MMFR0_EL1": 0x1122,
        "ID_AA64MMFR1_EL1": 0,
        "ID_AA64MMFR2_EL1": 0,
    }
    result = walk(state, BytesMemory({0xFDC0_0000: bytes(0x2000)}), 0xFDC0_1200, regime=Regime.EL2)
    (level,) = result.levels
    assert (level.level, level.address, level.descriptor) == (0, 0x1_FB82_8000, None)
    assert result.pa is None


def _tables(va: int, upper_bits: int, leaf: int, level: int) -> BytesMemory:
    pages = {}
    for depth in range(level + 1):
        table = _ROOT + depth * 0x1000
        entry = leaf if depth == level else table + 0x1000 | upper_bits
        pages[table] = _page({va >> (39 - 9 * depth) & 511: entry})
    return BytesMemory(pages)


def _page(entries: dict[int, int]) -> bytes:
    return struct.pack("<512Q", *(entries.get(index, 0) for index in range(512)))
