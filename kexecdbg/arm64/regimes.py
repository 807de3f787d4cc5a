"""Translation regimes: which registers each one uses and where their fields sit.

The regime, not the exception level, decides what a descriptor means (Arm ARM D8.1.2). All differences between the
regimes are data here; the walker has none of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from kexecdbg.arm64.bits import bit, bits
from kexecdbg.arm64.features import effective_e2h
from kexecdbg.arm64.interfaces import HAVE_EL2, RegisterValues
from kexecdbg.arm64.pstate import el_of
from kexecdbg.errors import RegisterUnknownError

SCTLR_M, SCTLR_C, SCTLR_I, SCTLR_WXN, SCTLR_EE, SCTLR_EPAN = 0, 2, 12, 19, 25, 57
HCR_VM, HCR_PTW, HCR_DC, HCR_TGE, HCR_RW, HCR_CD, HCR_ID, HCR_E2H = 0, 2, 12, 27, 31, 32, 33, 34
HCR_NV, HCR_NV1, HCR_FWB, HCR_DCT = 42, 43, 46, 57
#: The address bit that picks the upper or lower range in a regime with two, whatever TBI says.
_RANGE_SELECT_BIT = 55


@dataclass(frozen=True)
class RangeFields:
    """Where the fields of one VA range sit in TCR_ELx: ``(msb, lsb)`` or a bit; ``None`` where there is no field."""

    txsz: tuple[int, int]
    tg: tuple[int, int]
    sh: tuple[int, int]
    orgn: tuple[int, int]
    irgn: tuple[int, int]
    tbi: int
    tbid: int
    hpd: int
    epd: int | None = None
    e0pd: int | None = None
    nfd: int | None = None


@dataclass(frozen=True)
class TcrLayout:
    """Where the fields of a TCR_ELx sit. ``ranges`` holds the lower range and, if the regime has one, the upper."""

    ranges: tuple[RangeFields, ...]
    ps: tuple[int, int]
    ds: int
    ha: int
    hd: int


_WIDE_LOWER = RangeFields(
    txsz=(5, 0), tg=(15, 14), sh=(13, 12), orgn=(11, 10), irgn=(9, 8), tbi=37, tbid=51, hpd=41,
    epd=7, e0pd=55, nfd=53,
)  # fmt: skip
_WIDE_UPPER = RangeFields(
    txsz=(21, 16), tg=(31, 30), sh=(29, 28), orgn=(27, 26), irgn=(25, 24), tbi=38, tbid=52, hpd=42,
    epd=23, e0pd=56, nfd=54,
)  # fmt: skip
_NARROW = RangeFields(
    txsz=(5, 0), tg=(15, 14), sh=(13, 12), orgn=(11, 10), irgn=(9, 8), tbi=20, tbid=29, hpd=24,
)  # fmt: skip

#: TCR_EL1, and TCR_EL2 when the effective HCR_EL2.E2H is 1.
WIDE_TCR = TcrLayout((_WIDE_LOWER, _WIDE_UPPER), ps=(34, 32), ds=59, ha=39, hd=40)
#: TCR_EL2 when the effective HCR_EL2.E2H is 0, and TCR_EL3.
NARROW_TCR = TcrLayout((_NARROW,), ps=(18, 16), ds=32, ha=21, hd=22)


@dataclass(frozen=True)
class ExtensionFields:
    """Where the switches of FEAT_S1PIE, FEAT_S1POE, FEAT_AIE, FEAT_D128 and FEAT_THE sit: bits of ``register``."""

    register: str
    d128: int
    aie: int
    poe: int
    e0poe: int | None
    pie: int
    pnch: int


def _tcr2(register: str) -> ExtensionFields:
    return ExtensionFields(register, d128=5, aie=4, poe=3, e0poe=2, pie=1, pnch=0)


@dataclass(frozen=True)
class RegimeFacts:
    """The registers of a stage 1 translation regime.

    Attributes:
        el: the exception level that controls the regime and takes its ``esr``, ``far``, ``elr`` and ``spsr``.
        two_ranges: there is an upper VA range with ``ttbr1``, and EL0 is part of the regime.
        tcr_layout: where the fields of ``tcr`` sit.
        extensions: where the switches of the newer table formats sit.
        pir, por: permission indirection and overlay registers for privileged accesses; ``pire0`` those of EL0.
    """

    el: int
    two_ranges: bool
    sctlr: str
    tcr: str
    mair: str
    mair2: str
    ttbr0: str
    ttbr1: str | None
    vbar: str
    esr: str
    far: str
    elr: str
    spsr: str
    tcr_layout: TcrLayout
    extensions: ExtensionFields
    pir: str
    pire0: str | None
    por: str

    def is_upper(self, va: int) -> bool:
        """Whether the tables of ``ttbr1`` translate ``va``, not those of ``ttbr0``."""
        return self.two_ranges and bool(bit(va, _RANGE_SELECT_BIT))


def _facts(el: int, two_ranges: bool, layout: TcrLayout, extensions: ExtensionFields) -> RegimeFacts:
    suffix = f"_EL{el}"
    return RegimeFacts(
        el=el,
        two_ranges=two_ranges,
        sctlr="SCTLR" + suffix,
        tcr="TCR" + suffix,
        mair="MAIR" + suffix,
        mair2="MAIR2" + suffix,
        ttbr0="TTBR0" + suffix,
        ttbr1="TTBR1" + suffix if two_ranges else None,
        vbar="VBAR" + suffix,
        esr="ESR" + suffix,
        far="FAR" + suffix,
        elr="ELR" + suffix,
        spsr="SPSR" + suffix,
        tcr_layout=layout,
        extensions=extensions,
        pir="PIR" + suffix,
        pire0="PIRE0" + suffix if two_ranges else None,
        por="POR" + suffix,
    )


class Regime(Enum):
    """A stage 1 translation regime; the value is the Arm ARM's name."""

    EL1_0 = "EL1&0"
    EL2 = "EL2"
    EL2_0 = "EL2&0"
    EL3 = "EL3"

    @property
    def facts(self) -> RegimeFacts:
        """Registers and field positions."""
        return _FACTS[self]


_FACTS = {
    Regime.EL1_0: _facts(1, True, WIDE_TCR, _tcr2("TCR2_EL1")),
    Regime.EL2: _facts(2, False, NARROW_TCR, _tcr2("TCR2_EL2")),
    Regime.EL2_0: _facts(2, True, WIDE_TCR, _tcr2("TCR2_EL2")),
    Regime.EL3: _facts(
        3, False, NARROW_TCR, ExtensionFields("TCR_EL3", d128=38, aie=37, poe=36, e0poe=None, pie=35, pnch=34)
    ),
}


def needed(registers: RegisterValues, name: str, needed_for: str) -> int:
    """The value of the register ``name``.

    Raises:
        RegisterUnknownError: it is unknown; the message says that ``needed_for`` depends on it.
    """
    value = registers.get(name)
    if value is None:
        raise RegisterUnknownError(name, needed_for)
    return value & 0xFFFF_FFFF_FFFF_FFFF


def current_el(registers: RegisterValues) -> int:
    """The exception level, 0 to 3, from PSTATE in SPSR format: M[3:2] (Arm ARM C5.2.19, SPSR_ELx).

    Raises:
        RegisterUnknownError: PSTATE is unknown.
    """
    return el_of(needed(registers, "PSTATE", "the current exception level"))


def el2_enabled(registers: RegisterValues) -> bool:
    """Whether EL2 acts on EL1&0 (pseudocode ``EL2Enabled``); an unreadable ID register or SCR_EL3 counts as yes."""
    if registers.get(HAVE_EL2) == 0:
        return False
    pfr0 = registers.get("ID_AA64PFR0_EL1")
    if pfr0 is not None and bits(pfr0, 11, 8) == 0:
        return False
    scr = registers.get("SCR_EL3")
    return scr is None or bool(bit(scr, 0)) or bool(bit(scr, 18))  # NS, EEL2


def hcr_for_el1(registers: RegisterValues, needed_for: str) -> int:
    """HCR_EL2 as it acts on the EL1&0 regime: 0 without an enabled EL2.

    Raises:
        RegisterUnknownError: HCR_EL2 is unknown.
    """
    if not el2_enabled(registers):
        return 0
    value = registers.get("HCR_EL2")
    if value is None:
        remedy = "give its value with --assume HCR_EL2=VALUE (0x80000000 on a machine without EL2)"
        raise RegisterUnknownError("HCR_EL2", needed_for, remedy)
    return value


def regime_of(el: int, registers: RegisterValues) -> Regime:
    """The stage 1 translation regime that exception level ``el`` uses (Arm ARM D8.1.2, ``TranslationRegime``).

    Raises:
        RegisterUnknownError: HCR_EL2 decides and is unknown.
    """
    if el == 1:
        return Regime.EL1_0
    if el == 3:
        return Regime.EL3
    if el == 0 and not el2_enabled(registers):
        return Regime.EL1_0
    e2h = effective_e2h(registers)
    if e2h is None:
        raise RegisterUnknownError("HCR_EL2", f"the translation regime of EL{el}")
    if el == 2:
        return Regime.EL2_0 if e2h else Regime.EL2
    if e2h and bit(needed(registers, "HCR_EL2", "the translation regime of EL0"), HCR_TGE):
        return Regime.EL2_0
    return Regime.EL1_0


def mmu_enabled(regime: Regime, registers: RegisterValues) -> bool:
    """Whether stage 1 translation of ``regime`` is on (pseudocode ``AArch64.S1Enabled``).

    SCTLR_ELx.M decides; in EL1&0, HCR_EL2.DC or TGE also switch it off.

    Raises:
        RegisterUnknownError: SCTLR_ELx, or HCR_EL2 for EL1&0, decides and is unknown.
    """
    sctlr = needed(registers, regime.facts.sctlr, f"whether the {regime.value} MMU is on")
    if not bit(sctlr, SCTLR_M):
        return False
    if regime is Regime.EL1_0:
        hcr = hcr_for_el1(registers, "whether the EL1&0 MMU is on")
        return not (bit(hcr, HCR_DC) or bit(hcr, HCR_TGE))
    return True
