"""Random registers and random memory: a result or one of the package's own errors, and never a guess."""

from __future__ import annotations

import random
from functools import cache

from hypothesis import given, settings
from hypothesis import strategies as st

from kexecdbg.arm64.faults import Access, FaultKind
from kexecdbg.arm64.ranges import ScanLimits
from kexecdbg.arm64.regimes import Regime
from kexecdbg.arm64.scan import scan, scan_stage2
from kexecdbg.arm64.stage2 import walk_stage2
from kexecdbg.arm64.walk import Walk, walk
from kexecdbg.errors import ArchitectureError, RegisterUnknownError
from tests.unit.arm64.tables import DEFAULTS, MAX_CPU, RamOnly

U64 = st.integers(0, 2**64 - 1)
NAMES = [
    *DEFAULTS, *MAX_CPU, "SCTLR_EL3", "TCR_EL3", "TTBR0_EL3", "MAIR_EL3", "TCR2_EL1", "TCR2_EL2",
    "PIR_EL1", "PIRE0_EL1", "PIR_EL2", "PIRE0_EL2", "POR_EL0", "POR_EL1", "POR_EL2",
    "HCRX_EL2", "SCR_EL3", "MAIR2_EL1", "MAIR2_EL2",
]  # fmt: skip
RAM = 0x4000_0000
RAM_SIZE = 0x1_0000
SEEDS = st.integers(0, 11)
"""Of the memory, 64 KiB of random words each."""
SMALL = ScanLimits(entries=1 << 16, runs=1 << 12, problems=16)


@cache
def random_ram(seed: int) -> RamOnly:
    """Words that look like descriptors often enough to lead somewhere: half of the addresses are in the block."""
    source = random.Random(seed)
    words = []
    for _ in range(RAM_SIZE // 8):
        word = source.getrandbits(64)
        if word & 4:
            word = word & ~0x0003_FFFF_FFFF_F000 | RAM | source.randrange(RAM_SIZE) & ~0xFFF | 1
        words.append(word)
    return RamOnly(RAM, b"".join(word.to_bytes(8, "little") for word in words))


@st.composite
def register_sets(draw: st.DrawFn) -> dict[str, int]:
    """Any value for any register; or sound values with a few random ones, so that walks get beyond the first check."""
    values = {}
    sound = {**DEFAULTS, **MAX_CPU, "SCTLR_EL3": 0x30C5_1835, "TCR_EL3": 0x8085_3510, "TTBR0_EL3": RAM, "MAIR_EL3": 0}
    sound.update(dict.fromkeys(("TTBR0_EL1", "TTBR1_EL1", "TTBR0_EL2", "TTBR1_EL2", "VTTBR_EL2"), RAM))
    sound["VTCR_EL2"] = 0x8005_3558
    for name in NAMES:
        choice = draw(st.integers(0, 11))
        if choice == 0:
            continue
        if choice == 1:
            values[name] = draw(U64)
        elif name in sound:
            values[name] = sound[name]
    if draw(st.booleans()):
        values["HCR_EL2"] = values.get("HCR_EL2", 0) | 1
    return values


def check_consistency(result: Walk) -> None:
    """What must hold for every result, whatever the input."""
    for privileged, rights in ((True, result.privileged), (False, result.user)):
        if rights is None:
            continue
        for access in Access:
            right = rights.of(access)
            fault = result.fault_for(access, privileged)
            assert right.allowed == (fault is None), (access, privileged)
            assert right.because
            assert right.allowed or right.causes
            if fault is not None:
                assert 0 <= fault.fsc < 0x40
                assert fault.text
                assert fault.cause.text
            else:
                assert result.pa is not None
    assert (result.pa is None) == (result.fault is not None)
    if result.fault is not None and result.fault.kind is FaultKind.UNKNOWN:
        assert result.unknown
    assert isinstance(result.debugger_hides, tuple)


@settings(max_examples=400)
@given(values=register_sets(), seed=SEEDS, va=U64, regime=st.sampled_from(Regime))
def test_walk_of_anything(values: dict[str, int], seed: int, va: int, regime: Regime) -> None:
    for address in (va, va & 0x0000_FFFF_FFFF_FFFF, va | 0xFFFF_0000_0000_0000):
        try:
            result = walk(values, random_ram(seed), address, regime=regime)
        except (RegisterUnknownError, ArchitectureError):
            continue
        check_consistency(result)


@settings(max_examples=150)
@given(values=register_sets(), seed=SEEDS, ipa=U64)
def test_stage_2_walk_of_anything(values: dict[str, int], seed: int, ipa: int) -> None:
    for address in (ipa, ipa & 0xFF_FFFF_FFFF):
        try:
            result = walk_stage2(values, random_ram(seed), address)
        except (RegisterUnknownError, ArchitectureError):
            return
        assert (result.pa is None) == (result.fault is not None)


@settings(max_examples=100)
@given(values=register_sets(), seed=SEEDS, regime=st.sampled_from(Regime), ttbr=st.integers(0, 1))
def test_scan_of_anything(values: dict[str, int], seed: int, regime: Regime, ttbr: int) -> None:
    try:
        result = scan(values, random_ram(seed), regime, ttbr=ttbr, limits=SMALL)
        scan_stage2(values, random_ram(seed), limits=SMALL)
    except (RegisterUnknownError, ArchitectureError):
        return
    assert len(result.ranges) <= SMALL.runs
    assert all(one.end <= two.va for one, two in zip(result.ranges, result.ranges[1:], strict=False))
