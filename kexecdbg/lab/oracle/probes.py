"""The smallest machines that show whether a QEMU has a deviation, one for each."""

from __future__ import annotations

from kexecdbg.arm64.feature_guesses import FeatureGuesses
from kexecdbg.arm64.geometry import GRANULE_4K
from kexecdbg.arm64.regimes import HCR_CD, HCR_FWB, HCR_PTW, HCR_TGE, SCTLR_C, Regime
from kexecdbg.lab.oracle.cases import SMC_LANDING, Case, Operation
from kexecdbg.lab.oracle.deviation import Identity, with_register

_ROOT, _SECOND_ROOT, _NEXT = 0x5000_0000, 0x5010_0000, 0x5020_0000
_GIB = 1 << 30
_LEAF, _RO, _AF = 1, 1 << 7, 1 << 10
_TCR_EL2_39 = 1 << 31 | 1 << 23 | 5 << 16 | 25
_IDENTITY_VTCR = 1 << 31 | 5 << 16 | 1 << 6 | 25


def _el2(
    cpu: str,
    memory: dict[int, int],
    *,
    va: int = 0x8000_0000,
    operation: Operation = Operation.S1E2R,
    tcr: int = _TCR_EL2_39,
    sctlr: int = 1 | 1 << SCTLR_C,
    mair: int = 0xFF,
) -> Case:
    registers = {"HCR_EL2": 1 << 31, "SCTLR_EL2": 0x30C5_0830 | sctlr, "TCR_EL2": tcr, "TTBR0_EL2": _ROOT}
    return Case(cpu, Regime.EL2, operation, va, {**registers, "MAIR_EL2": mair}, memory, seed="probe")


def _el1(cpu: str, memory: dict[int, int], operation: Operation, va: int, **registers: int) -> Case:
    defaults = {
        "HCR_EL2": 1 << 31,
        "SCTLR_EL1": 0x30D0_0800 | 1 << SCTLR_C,
        "TCR_EL1": 5 << 32 | 16,
        "TTBR0_EL1": _ROOT,
        "VTTBR_EL2": _SECOND_ROOT,
        "MAIR_EL1": 0xFF,
        "SCTLR_EL2": 0x30C5_0830,
    }
    return Case(cpu, Regime.EL1_0, operation, va, {**defaults, **registers}, memory, seed="probe")


def always(cpu: str, identity: Identity) -> Case | None:
    """Not a property of QEMU: there is nothing to probe."""
    return None


def probe_d1(cpu: str, identity: Identity) -> Case | None:
    """Shows D1."""
    return _el2(cpu, {_ROOT: _AF | _LEAF}, va=0x1000, tcr=_TCR_EL2_39 & ~0x3F | 16)


def probe_d2(cpu: str, identity: Identity) -> Case | None:
    """Shows D2."""
    if FeatureGuesses(identity).physical_bits() < 52:
        return None
    tcr = 1 << 31 | 1 << 23 | 5 << 16 | 1 << 14 | 25
    return _el2(cpu, {_ROOT: 1 << 12 | _AF | _LEAF}, va=0x1000, tcr=tcr)


def probe_d3(cpu: str, identity: Identity) -> Case | None:
    """Shows D3."""
    if not FeatureGuesses(identity).has("FEAT_HAFDBS_dirty"):
        return None
    # RO with DBM under WXN: writable, so not executable. The vectors lie in the first block, read-only.
    memory = {_ROOT + 8: _GIB | _RO | _AF | _LEAF, _ROOT + 16: _GIB | 1 << 51 | _RO | _AF | _LEAF}
    return _el2(
        cpu,
        {**memory, 0x6000_0000: SMC_LANDING},
        va=0xA000_0000,
        operation=Operation.FETCH_EL2,
        tcr=_TCR_EL2_39 | 3 << 21,
        sctlr=1 | 1 << SCTLR_C | 1 << 19,
    )


def probe_d4(cpu: str, identity: Identity) -> Case | None:
    """Shows D4."""
    # Stage 2 of 39 bits starts at level 1 and is empty; stage 1 of 48 bits starts at level 0.
    vtcr = 1 << 31 | 5 << 16 | 1 << 6 | 25
    on = 0x30D0_0801 | 1 << SCTLR_C
    return _el1(cpu, {}, Operation.S1E1R, 0x1000, HCR_EL2=1 << 31 | 1, SCTLR_EL1=on, VTCR_EL2=vtcr)


def probe_d5(cpu: str, identity: Identity) -> Case | None:
    """Shows D5."""
    vtcr = 1 << 31 | 1 << 6 | 24  # 40 bits in, 32 bits out
    memory = {_SECOND_ROOT + 8: _GIB | _AF | 0xFC | _LEAF}
    return _el1(cpu, memory, Operation.S12E1R, _GIB, HCR_EL2=1 << 31 | 1, VTCR_EL2=vtcr)


def probe_d6(cpu: str, identity: Identity) -> Case | None:
    """Shows D6."""
    on = 0x30D0_0801 | 1 << SCTLR_C
    return _el1(cpu, {}, Operation.S1E1R, 0x1000, HCR_EL2=1 << 31 | 1 << HCR_TGE, SCTLR_EL1=on)


def probe_d7(cpu: str, identity: Identity) -> Case | None:
    """Shows D7."""
    if not FeatureGuesses(identity).lpa2(GRANULE_4K, stage=1):
        return None
    # Stage 1 of 52 bits starts at level -1, in a table that stage 2 does not let it read.
    vtcr = 1 << 31 | 5 << 16 | 1 << 6 | 25
    memory = {_SECOND_ROOT + 8: _GIB | _AF | 0x3C | _LEAF}
    on, tcr = 0x30D0_0801 | 1 << SCTLR_C, 1 << 59 | 5 << 32 | 12
    return _el1(cpu, memory, Operation.S1E1R, 0x1000, HCR_EL2=1 << 31 | 1, SCTLR_EL1=on, TCR_EL1=tcr, VTCR_EL2=vtcr)


def probe_d8(cpu: str, identity: Identity) -> Case | None:
    """Shows D8."""
    return _el2(cpu, {_ROOT + 16: _AF | _LEAF}, mair=0)


def probe_d9(cpu: str, identity: Identity) -> Case | None:
    """Shows D9."""
    return _el2(cpu, {_ROOT + 16: 3 << 8 | _AF | _LEAF}, sctlr=1)


def _two_stage_probe(cpu: str, mair: int, mem_attr: int, shareability: int = 3, *, fwb: bool = False) -> Case:
    """AT S12E1R of a stage 1 block with ``mair`` over a stage 2 block with ``mem_attr``."""
    leaf2 = _GIB | shareability << 8 | _AF | 0xC0 | mem_attr << 2 | _LEAF
    memory = {_ROOT: 3 << 8 & shareability << 8 | _GIB | _AF | _LEAF, _SECOND_ROOT + 8: leaf2}
    return _el1(
        cpu,
        memory,
        Operation.S12E1R,
        0x1000,
        HCR_EL2=1 << 31 | 1 | fwb << HCR_FWB,
        SCTLR_EL1=0x30D0_0801 | 1 << SCTLR_C,
        TCR_EL1=5 << 32 | 25,
        MAIR_EL1=mair,
        VTCR_EL2=_IDENTITY_VTCR,
    )


def probe_d10(cpu: str, identity: Identity) -> Case | None:
    """Shows D10."""
    return _two_stage_probe(cpu, 0x44, 0b0011)  # Normal NC under GRE


def probe_d11(cpu: str, identity: Identity) -> Case | None:
    """Shows D11."""
    return _el2(cpu, {_ROOT + 16: 3 << 8 | _AF | _LEAF}, tcr=_TCR_EL2_39 | 3 << 14)


def probe_d18(cpu: str, identity: Identity) -> Case | None:
    """Shows D18."""
    on = 0x30D0_0801 | 1 << SCTLR_C
    return _el1(cpu, {}, Operation.S1E1R, 0x1000, HCR_EL2=1 << 31 | 1 << HCR_PTW, SCTLR_EL1=on)


def probe_d19(cpu: str, identity: Identity) -> Case | None:
    """Shows D19."""
    if FeatureGuesses(identity).has("FEAT_HPDS"):
        return None
    # XNTable or APTable[1] over a writable block, HPD set: a write is denied where HPD does not exist.
    memory = {_ROOT: _NEXT | 1 << 62 | 3, _NEXT + 16: _AF | _LEAF}
    tcr = _TCR_EL2_39 & ~0x3F | 16 | 1 << 24
    return _el2(cpu, memory, operation=Operation.S1E2W, tcr=tcr)


def probe_d20(cpu: str, identity: Identity) -> Case | None:
    """Shows D20."""
    if not FeatureGuesses(identity).has("FEAT_S2FWB"):
        return None
    return _two_stage_probe(cpu, 0x00, 0b0011, fwb=True)  # nGnRnE under GRE


def probe_d21(cpu: str, identity: Identity) -> Case | None:
    """Shows D21."""
    if not FeatureGuesses(identity).has("FEAT_S2FWB"):
        return None
    return _two_stage_probe(cpu, 0xFF, 0b1110, fwb=True)


def probe_d22(cpu: str, identity: Identity) -> Case | None:
    """Shows D22."""
    return _two_stage_probe(cpu, 0x77, 0b1010)


def probe_d23(cpu: str, identity: Identity) -> Case | None:
    """Shows D23."""
    if not FeatureGuesses(identity).has("FEAT_S2FWB"):
        return None
    return _two_stage_probe(cpu, 0x00, 0b0110, shareability=0, fwb=True)  # Device forced to Write-Back


def probe_d24(cpu: str, identity: Identity) -> Case | None:
    """Shows D24."""
    # Bit 37 of a 512 GiB block is RES0; the output size is 32 bits.
    if not FeatureGuesses(identity).lpa2(GRANULE_4K, stage=1):
        return None
    tcr = 1 << 31 | 1 << 23 | 1 << 32 | 16
    return _el2(cpu, {_ROOT: 1 << 37 | _AF | _LEAF}, va=0x1000, tcr=tcr)


def probe_d25(cpu: str, identity: Identity) -> Case | None:
    """Shows D25."""
    if not FeatureGuesses(identity).lpa2(GRANULE_4K, stage=1):
        return None
    # 32 bits of address: a first table of 4 entries, 32 bytes, at a 64-byte boundary. TTBR bit 5 is A[51].
    tcr = 1 << 31 | 1 << 23 | 1 << 32 | 5 << 16 | 32
    case = _el2(cpu, {_ROOT + 8: _GIB | _AF | _LEAF}, va=_GIB, tcr=tcr)
    return with_register(case, "TTBR0_EL2", _ROOT | 1 << 5)


def probe_d26(cpu: str, identity: Identity) -> Case | None:
    """Shows D26."""
    # Both stages start at level 1, and so does the fault.
    memory = {_SECOND_ROOT + 8: _GIB | _AF | 0xC0 | _LEAF}
    registers = {"HCR_EL2": 1 << 31 | 1 | 1 << HCR_PTW, "SCTLR_EL1": 0x30D0_0801 | 1 << SCTLR_C}
    return _el1(cpu, memory, Operation.S1E1R, 0x1000, **registers, TCR_EL1=5 << 32 | 25, VTCR_EL2=_IDENTITY_VTCR)


def probe_d27(cpu: str, identity: Identity) -> Case | None:
    """Shows D27."""
    if not FeatureGuesses(identity).has("FEAT_XS"):
        return None
    return _two_stage_probe(cpu, 0xFF, 0b0101)  # Write-Back, so XS = 0, under Non-cacheable


def probe_d28(cpu: str, identity: Identity) -> Case | None:
    """Shows D28."""
    if FeatureGuesses(identity).physical_bits() >= 48:
        return None
    vtcr = 1 << 31 | 5 << 16 | 2 << 6 | 16
    memory = {_SECOND_ROOT: _NEXT | 3, _NEXT: _AF | 0xFC | _LEAF}
    return _el1(cpu, memory, Operation.S12E1R, 0x1000, HCR_EL2=1 << 31 | 1, VTCR_EL2=vtcr)


def probe_d29(cpu: str, identity: Identity) -> Case | None:
    """Shows D29."""
    case = probe_d21(cpu, identity)
    if case is None:
        return None
    plain = _two_stage_probe(cpu, 0xFF, 0b0110, fwb=True)
    return with_register(plain, "HCR_EL2", plain.registers["HCR_EL2"] | 1 << HCR_CD)


def probe_d30(cpu: str, identity: Identity) -> Case | None:
    """Shows D30."""
    read_only = {_SECOND_ROOT: _GIB | _AF | 0x7C | _LEAF}
    return _el1(cpu, read_only, Operation.S12E1W, 0x1000, HCR_EL2=1 << 31 | 1, VTCR_EL2=_IDENTITY_VTCR)
