"""Random control registers: mostly sound, sometimes not, for one regime under test."""

from __future__ import annotations

import random
from collections.abc import Mapping

from kexecdbg.arm64.features import has_feature
from kexecdbg.arm64.geometry import TG0_GRANULES, TG1_GRANULES
from kexecdbg.arm64.regimes import (
    HCR_CD,
    HCR_DC,
    HCR_E2H,
    HCR_FWB,
    HCR_ID,
    HCR_NV,
    HCR_NV1,
    HCR_PTW,
    HCR_RW,
    HCR_TGE,
    HCR_VM,
    SCTLR_C,
    SCTLR_EE,
    SCTLR_EPAN,
    SCTLR_I,
    SCTLR_M,
    SCTLR_WXN,
    RangeFields,
    Regime,
)

_SCTLR_RES1 = {1: 0x30D0_0800, 2: 0x30C5_0830, 3: 0x30C5_0830}
_TCR_EL2_RES1 = 1 << 31 | 1 << 23
_VTCR_RES1 = 1 << 31
_MAIR_SOUND = (0x00, 0x04, 0x08, 0x0C, 0x44, 0xFF, 0xFF, 0xBB, 0xEE, 0xAA, 0x77, 0x4F, 0xF4, 0xB4, 0x99, 0x33, 0xDD)
_MAIR_ODD = (0x40, 0xA0, 0xF0, 0x01, 0x05, 0x02, 0x13, 0x50)
_PS_FIELD_MAX = 7


def chance(rng: random.Random, probability: float) -> bool:
    """True with the given probability."""
    return rng.random() < probability


def random_mair(rng: random.Random) -> int:
    """Eight memory attribute bytes, a few of them odd."""
    choices = [rng.choice(_MAIR_ODD if chance(rng, 0.06) else _MAIR_SOUND) for _ in range(8)]
    return int.from_bytes(bytes(choices), "little")


def random_sctlr(rng: random.Random, el: int, *, on: bool) -> int:
    """SCTLR_ELx with the bits that act on translation at random."""
    value = _SCTLR_RES1[el] | on << SCTLR_M | (rng.random() < 0.5) << SCTLR_I
    value |= (not chance(rng, 0.08)) << SCTLR_C
    value |= chance(rng, 0.15) << SCTLR_WXN | chance(rng, 0.08) << SCTLR_EE
    if el < 3:
        value |= chance(rng, 0.15) << SCTLR_EPAN
    return value


def random_hcr(rng: random.Random, regime: Regime, identity: Mapping[str, int]) -> int:
    """HCR_EL2 that leads to ``regime`` (without FEAT_VHE, E2H is noise), with or without stage 2."""
    value = 1 << HCR_RW
    if regime is Regime.EL2_0:
        value |= 1 << HCR_E2H | (rng.random() < 0.6) << HCR_TGE
    elif not has_feature(identity, "FEAT_VHE"):
        value |= chance(rng, 0.1) << HCR_E2H
    elif regime is Regime.EL1_0:
        value |= (rng.random() < 0.4) << HCR_E2H
    if regime is Regime.EL1_0:
        value |= (rng.random() < 0.5) << HCR_VM | chance(rng, 0.06) << HCR_DC
        if not value >> HCR_E2H & 1:
            value |= chance(rng, 0.05) << HCR_TGE
        if has_feature(identity, "FEAT_NV2") and chance(rng, 0.08):
            value |= 1 << HCR_NV | (rng.random() < 0.7) << HCR_NV1
    else:
        value |= chance(rng, 0.2) << HCR_VM | chance(rng, 0.1) << HCR_DC
    value |= chance(rng, 0.12) << HCR_PTW
    value |= chance(rng, 0.08) << HCR_CD | chance(rng, 0.08) << HCR_ID
    if has_feature(identity, "FEAT_S2FWB"):
        value |= chance(rng, 0.35) << HCR_FWB
    return value


def random_tcr(rng: random.Random, regime: Regime, identity: Mapping[str, int], *, upper: bool, granule: str) -> int:
    """TCR_ELx whose lower or upper range uses ``granule``; the fields of the other range are noise."""
    layout = regime.facts.tcr_layout
    value = 0 if regime.facts.two_ranges else _TCR_EL2_RES1
    for number, fields in enumerate(layout.ranges):
        value |= _range_fields(rng, fields, identity, upper=number == 1, granule=granule, noise=upper != bool(number))
    if regime.facts.two_ranges:
        value |= rng.getrandbits(1) << 22 | rng.getrandbits(1) << 36  # A1, AS
    value |= _random_ps(rng, identity) << layout.ps[1]
    value |= (rng.random() < 0.4) << layout.ds
    if chance(rng, 0.06):
        value |= 1 << layout.ha | rng.getrandbits(1) << layout.hd
    elif chance(rng, 0.03):
        value |= 1 << layout.hd
    return value


def _range_fields(
    rng: random.Random, fields: RangeFields, identity: Mapping[str, int], *, upper: bool, granule: str, noise: bool
) -> int:
    codes = TG1_GRANULES if upper else TG0_GRANULES
    if noise:
        txsz, tg = rng.getrandbits(6), rng.getrandbits(2)
    else:
        txsz = _random_txsz(rng)
        tg = next(code for code, each in codes.items() if each.name == granule)
    value = txsz << fields.txsz[1] | tg << fields.tg[1]
    value |= rng.getrandbits(2) << fields.sh[1] | rng.getrandbits(2) << fields.orgn[1]
    value |= rng.getrandbits(2) << fields.irgn[1]
    value |= chance(rng, 0.3) << fields.tbi | chance(rng, 0.2) << fields.hpd
    if has_feature(identity, "FEAT_PAuth"):
        value |= chance(rng, 0.25) << fields.tbid
    for position, probability in ((fields.epd, 0.03), (fields.e0pd, 0.06), (fields.nfd, 0.1)):
        if position is not None:
            value |= chance(rng, 0.5 if noise else probability) << position
    return value


def _random_txsz(rng: random.Random) -> int:
    kind = rng.random()
    if kind < 0.05:
        return rng.getrandbits(6)
    if kind < 0.25:
        return rng.choice((12, 13, 15, 16, 16, 16, 17, 25, 34, 39, 40, 47, 48))
    return rng.randrange(16, 40) if kind < 0.75 else rng.randrange(12, 49)


def _random_ps(rng: random.Random, identity: Mapping[str, int]) -> int:
    """PS or IPS: often all that the CPU has, so that 52-bit layouts are reached."""
    kind = rng.random()
    if kind < 0.5:
        return identity["ID_AA64MMFR0_EL1"] & 0xF
    return rng.randrange(_PS_FIELD_MAX) if kind < 0.97 else _PS_FIELD_MAX


_STAGE2_START = {
    # granule: (SL2:SL0, start level)
    "4K": ((0, 2), (1, 1), (2, 0), (3, 3), (4, -1)),
    "16K": ((0, 3), (1, 2), (2, 1), (3, 0)),
    "64K": ((0, 3), (1, 2), (2, 1)),
}
_GRANULE_SHIFT = {"4K": 12, "16K": 14, "64K": 16}
_VTCR_TG0 = {"4K": 0, "64K": 1, "16K": 2}


def random_vtcr(rng: random.Random, identity: Mapping[str, int], *, granule: str) -> int:
    """VTCR_EL2, its start level and T0SZ mostly consistent, up to sixteen tables side by side."""
    ds = rng.random() < 0.4
    selector, start = rng.choice([pair for pair in _STAGE2_START[granule] if ds or pair[0] < 4])
    shift = _GRANULE_SHIFT[granule]
    lowest = shift + (3 - start) * (shift - 3) + 1
    widest = 52 if ds or granule == "64K" else 48
    physical = (32, 36, 40, 42, 44, 48, 52)[min(identity["ID_AA64MMFR0_EL1"] & 0xF, 6)]
    input_bits = rng.randrange(lowest, lowest + shift - 4 + 4 + 1)
    if not chance(rng, 0.1):
        input_bits = max(min(input_bits, widest, physical), 16)
    t0sz = max(64 - input_bits, 0) & 0x3F if not chance(rng, 0.03) else rng.getrandbits(6)
    value = _VTCR_RES1 | t0sz | (selector & 3) << 6 | (selector >> 2) << 33 | _VTCR_TG0[granule] << 14
    value |= rng.getrandbits(2) << 8 | rng.getrandbits(2) << 10 | rng.getrandbits(2) << 12
    value |= _random_ps(rng, identity) << 16 | ds << 32 | rng.getrandbits(1) << 19
    if chance(rng, 0.05):
        value |= 1 << 21 | rng.getrandbits(1) << 22
    return value
