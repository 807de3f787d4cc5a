"""The parameters of a stage 1 translation, read out of the registers of a regime.

Pseudocode ``AArch64.GetS1TTWParams``, ``AArch64.S1InvalidTxSZ``, ``AArch64.PhysicalAddressSize``,
``AArch64.S1TTBaseAddress``.
"""

from __future__ import annotations

from dataclasses import dataclass

from kexecdbg.arm64.bits import bit, bits
from kexecdbg.arm64.faults import Cause, CauseKind
from kexecdbg.arm64.feature_guesses import FeatureGuesses
from kexecdbg.arm64.features import has_feature
from kexecdbg.arm64.geometry import (
    ADDRESS_SIZES,
    GRANULE_4K,
    GRANULE_64K,
    TG0_GRANULES,
    TG1_GRANULES,
    Granule,
    TableFormat,
    no_granule_text,
    stage1_start_level,
)
from kexecdbg.arm64.interfaces import RegisterValues
from kexecdbg.arm64.memory_types import (
    NORMAL_NON_CACHEABLE,
    MemoryType,
    Shareability,
    effective_shareability,
    walk_memory_type,
)
from kexecdbg.arm64.permissions import (
    NV1_LAYOUT,
    ONE_RANGE_LAYOUT,
    TWO_RANGE_LAYOUT,
    IndirectRegisters,
    PermissionRules,
)
from kexecdbg.arm64.regimes import (
    HCR_NV,
    HCR_NV1,
    HCR_RW,
    SCTLR_C,
    SCTLR_EE,
    SCTLR_EPAN,
    SCTLR_WXN,
    RangeFields,
    Regime,
    el2_enabled,
    hcr_for_el1,
    needed,
)
from kexecdbg.errors import ArchitectureError

_PS_52_BITS = 6


@dataclass(frozen=True)
class Stage1:
    """The translation parameters of one VA range of a regime.

    Attributes:
        table: shape of the tables.
        base: physical address of the first table.
        ttbr: name of the base register.
        problem: why no walk can be made with these registers, or ``None``.
        warnings: odd but legal settings.
        tbi: top byte ignored for data, ``tbi_fetch`` for instruction fetches.
        epd: walks disabled. ``e0pd``: EL0 accesses fault. ``nfd``: see :attr:`non_fault_warning`.
        rules: for the permissions.
        mair: the eight, or with FEAT_AIE sixteen, memory attribute bytes; ``None`` when a register is unknown.
        shareability: TCR.SHn, which counts for leaves when DS=1.
        walk_type: memory type that TCR.IRGNn and ORGNn give the table walk itself; see :attr:`table_access`.
        cacheable: SCTLR_ELx.C; without it all Normal memory is Non-cacheable.
    """

    regime: Regime
    upper: bool
    table: TableFormat
    base: int
    ttbr: str
    problem: Cause | None
    warnings: tuple[Cause, ...]
    tbi: bool
    tbi_fetch: bool
    epd: bool
    e0pd: bool
    nfd: bool
    rules: PermissionRules
    mair: bytes | None
    attr_index_bits: int
    contiguous_bit: bool
    shareability: Shareability
    walk_type: MemoryType
    cacheable: bool
    assumptions: tuple[str, ...]

    @property
    def table_access(self) -> tuple[MemoryType, Shareability]:
        """What the walk reads the tables as: TCR.IRGNn, ORGNn and SHn; Non-cacheable with SCTLR_ELx.C = 0."""
        memory_type = self.walk_type if self.cacheable else NORMAL_NON_CACHEABLE
        return memory_type, effective_shareability(memory_type, self.shareability)

    @property
    def non_fault_warning(self) -> Cause | None:
        """What TCR_ELx.NFDn does to an address that EL0 may read, ``None`` when it is clear.

        It concerns SVE non-fault loads, and the elements of a first-fault gather after the first active one: on a
        TLB miss they fail without a walk and without an exception (Arm ARM, TCR_EL1.NFD0). All other accesses walk.
        """
        if not self.nfd:
            return None
        field = f"NFD{int(self.upper)}"
        tcr = self.regime.facts.tcr
        text = (
            f"{tcr}.{field} is set: a non-fault SVE load at EL0 that misses the TLB fails without a walk and without an"
            " exception"
        )
        return Cause(CauseKind.NON_FAULT_DISABLED, text, register=tcr, field=field)


@dataclass(frozen=True)
class _Extensions:
    """The switches of the newer table formats that are on."""

    d128: bool = False
    aie: bool = False
    poe: bool = False
    e0poe: bool = False
    pie: bool = False
    pnch: bool = False


def stage1_of(registers: RegisterValues, regime: Regime, *, upper: bool = False) -> Stage1:
    """The translation parameters of ``regime``'s lower or upper VA range.

    Raises:
        RegisterUnknownError: a register that decides is unknown.
        ArchitectureError: 128-bit descriptors (FEAT_D128) are on; or ``upper`` in a regime with one range.
    """
    facts = regime.facts
    if upper and facts.ttbr1 is None:
        raise ArchitectureError(f"the {regime.value} regime has one address range: there is no TTBR1 to walk")
    guesses = FeatureGuesses(registers)
    ttbr_name = facts.ttbr1 if upper and facts.ttbr1 else facts.ttbr0
    purpose = f"a walk of {ttbr_name}"
    sctlr = needed(registers, facts.sctlr, purpose)
    tcr = needed(registers, facts.tcr, purpose)
    ttbr = needed(registers, ttbr_name, purpose)
    hcr = hcr_for_el1(registers, purpose) if regime is Regime.EL1_0 else 0
    extensions = _extensions(registers, regime, hcr, guesses)
    if extensions.d128:
        raise ArchitectureError(
            f"{facts.extensions.register}.D128 is set: 128-bit descriptors (FEAT_D128) are not decoded by this tool"
        )
    layout = facts.tcr_layout
    fields = layout.ranges[1 if upper else 0]
    granule = (TG1_GRANULES if upper else TG0_GRANULES).get(bits(tcr, *fields.tg))
    hardware_af = bool(bit(tcr, layout.ha)) and guesses.has("FEAT_HAFDBS")
    output_bits, ds, lpa = _output_size(guesses, tcr, regime, granule or GRANULE_4K)
    txsz = bits(tcr, *fields.txsz)
    problem = _granule_problem(guesses, granule, facts.tcr, fields.tg, upper) or _txsz_problem(
        guesses, txsz, granule or GRANULE_4K, ds, facts.tcr, upper
    )
    granule = granule or GRANULE_4K
    input_bits = 64 - (txsz if problem is None else 16)  # with a problem any legal size will do: it is not walked
    table = TableFormat(
        granule=granule,
        input_bits=input_bits,
        start_level=stage1_start_level(granule, input_bits),
        output_bits=output_bits,
        ds=ds,
        lpa=lpa,
        big_endian=bool(bit(sctlr, SCTLR_EE)),
        hardware_af=hardware_af,
    )
    base, base_warnings = table_base(table, ttbr, ttbr_name)
    tbi = bool(bit(tcr, fields.tbi))
    tbid = tbi and bool(bit(tcr, fields.tbid))
    return Stage1(
        regime=regime,
        upper=upper,
        table=table,
        base=base,
        ttbr=ttbr_name,
        problem=problem,
        warnings=() if problem else base_warnings,
        tbi=tbi,
        tbi_fetch=tbi and not tbid,
        epd=_flag(tcr, fields.epd),
        e0pd=_flag(tcr, fields.e0pd) and guesses.has("FEAT_E0PD"),
        nfd=_flag(tcr, fields.nfd) and has_feature(registers, "FEAT_SVE") is not False,
        rules=_permission_rules(registers, regime, fields, sctlr, tcr, hcr, hardware_af, extensions, guesses),
        mair=_mair(registers, regime, extensions, guesses),
        attr_index_bits=4 if extensions.aie else 3,
        contiguous_bit=not extensions.pnch,
        shareability=Shareability(bits(tcr, *fields.sh)),
        walk_type=walk_memory_type(bits(tcr, *fields.orgn), bits(tcr, *fields.irgn)),
        cacheable=bool(bit(sctlr, SCTLR_C)),
        assumptions=guesses.assumptions,
    )


def _flag(value: int, position: int | None) -> bool:
    return position is not None and bool(bit(value, position))


def _extensions(registers: RegisterValues, regime: Regime, hcr: int, guesses: FeatureGuesses) -> _Extensions:
    """The table format switches, read from TCR2_ELx or TCR_EL3 (pseudocode ``IsTCR2EL1Enabled``)."""
    fields = regime.facts.extensions
    value = registers.get(fields.register)
    if regime is not Regime.EL3:
        present = has_feature(registers, "FEAT_TCR2")
        if present is False:
            return _Extensions()
        if value is None and present is None:
            guesses.assume(f"{fields.register} is unknown: no permission indirection, overlays or 128-bit descriptors")
            return _Extensions()
        if value == 0 or (value is not None and not _tcr2_enabled(registers, regime)):
            return _Extensions()
    value = needed(registers, fields.register, f"the descriptor format of the {regime.value} regime")

    def switch(position: int | None, feature: str) -> bool:
        return _flag(value, position) and guesses.has(feature)

    return _Extensions(
        d128=switch(fields.d128, "FEAT_D128"),
        aie=switch(fields.aie, "FEAT_AIE"),
        poe=switch(fields.poe, "FEAT_S1POE"),
        e0poe=switch(fields.e0poe, "FEAT_S1POE"),
        pie=switch(fields.pie, "FEAT_S1PIE"),
        pnch=_flag(value, fields.pnch),
    )


def _tcr2_enabled(registers: RegisterValues, regime: Regime) -> bool:
    """Whether a higher exception level lets TCR2_ELx act: SCR_EL3.TCR2En and, for EL1&0, HCRX_EL2.TCR2En."""
    scr = registers.get("SCR_EL3")
    if scr is not None and not bit(scr, 43):
        return False
    if regime is Regime.EL1_0 and el2_enabled(registers):
        return bool(bit(needed(registers, "HCRX_EL2", "whether TCR2_EL1 acts"), 14))
    return True


def _output_size(guesses: FeatureGuesses, tcr: int, regime: Regime, granule: Granule) -> tuple[int, bool, bool]:
    """Output bits, and whether the LPA2 (DS) and the LPA descriptor layouts are in use."""
    layout = regime.facts.tcr_layout
    size = ADDRESS_SIZES[min(bits(tcr, *layout.ps), _PS_52_BITS)]
    physical_bits = guesses.physical_bits()
    if granule is GRANULE_64K:
        lpa = physical_bits >= 52
        return min(size, physical_bits, 52 if lpa else 48), False, lpa
    ds = bool(bit(tcr, layout.ds)) and guesses.lpa2(granule, stage=1)
    return min(size, physical_bits, 52 if ds else 48), ds, False


def _granule_problem(
    guesses: FeatureGuesses, granule: Granule | None, tcr: str, position: tuple[int, int], upper: bool
) -> Cause | None:
    field = "TG1" if upper else "TG0"
    if granule is None:
        why = f"has the reserved value {0 if upper else 3}"
    elif not guesses.granule(granule, stage=1):
        why = f"selects {granule.name}, which ID_AA64MMFR0_EL1 says the CPU does not have"
    else:
        return None
    text = no_granule_text(f"{tcr}.{field}", position, why)
    return Cause(CauseKind.RESERVED_GRANULE, text, register=tcr, field=field)


def _txsz_problem(
    guesses: FeatureGuesses, txsz: int, granule: Granule, ds: bool, tcr: str, upper: bool
) -> Cause | None:
    """TxSZ outside what the CPU supports (pseudocode ``AArch64.S1InvalidTxSZ``); some CPUs clamp it instead."""
    small = 47 if granule is GRANULE_64K else 48
    highest = small if txsz > 39 and guesses.has("FEAT_TTST") else 39
    wide = ds or (granule is GRANULE_64K and txsz < 16 and guesses.has("FEAT_LVA"))
    lowest = 12 if wide else 16
    if lowest <= txsz <= highest:
        return None
    field = "T1SZ" if upper else "T0SZ"
    text = f"{tcr}.{field} is {txsz}, outside {lowest} to {highest}: a fault here, some CPUs clamp it"
    return Cause(CauseKind.TXSZ_OUT_OF_RANGE, text, register=tcr, field=field)


def table_base(table: TableFormat, ttbr: int, name: str) -> tuple[int, tuple[Cause, ...]]:
    """The physical address of the first table in a TTBR_ELx or VTTBR_EL2 value, and a warning if it is misaligned.

    Bits [47:1] hold the address and bit 0 is CnP; with 52-bit addresses bits [5:2] hold A[51:48] instead of A[5:2].
    Address bits below the table's alignment are ignored.
    """
    if table.ds or (table.lpa and table.output_bits > 48):
        address = (ttbr & 0xFFFF_FFFF_FFC0) | bits(ttbr, 5, 2) << 48
    else:
        address = ttbr & 0xFFFF_FFFF_FFFE
    base = address & -table.base_alignment
    if base == address:
        return base, ()
    text = (
        f"{name} holds {address:#x}, not aligned to the table's {table.base_alignment:#x} bytes: "
        f"the low bits are ignored and the table is at {base:#x}"
    )
    return base, (Cause(CauseKind.BASE_MISALIGNED, text, register=name, field="BADDR"),)


def _permission_rules(
    registers: RegisterValues,
    regime: Regime,
    fields: RangeFields,
    sctlr: int,
    tcr: int,
    hcr: int,
    hardware_af: bool,
    extensions: _Extensions,
    guesses: FeatureGuesses,
) -> PermissionRules:
    facts = regime.facts
    layout = TWO_RANGE_LAYOUT if facts.two_ranges else ONE_RANGE_LAYOUT
    if bit(hcr, HCR_NV) and bit(hcr, HCR_NV1) and guesses.has("FEAT_NV"):
        layout = NV1_LAYOUT
    if regime is Regime.EL1_0 and el2_enabled(registers) and not bit(hcr, HCR_RW):
        guesses.assume("HCR_EL2.RW is 0, which makes EL1 AArch32: AArch64 tables assumed all the same")
    purpose = f"permissions in the {regime.value} regime"
    indirect = None
    if extensions.pie:
        pire0 = needed(registers, facts.pire0, purpose) if facts.pire0 else None
        indirect = IndirectRegisters(needed(registers, facts.pir, purpose), pire0)
    hpd = bool(bit(tcr, fields.hpd)) and guesses.has("FEAT_HPDS")
    return PermissionRules(
        layout=layout,
        wxn=bool(bit(sctlr, SCTLR_WXN)),
        hierarchical=not (hpd or extensions.pie or extensions.poe or extensions.e0poe),
        dirty=hardware_af and bool(bit(tcr, facts.tcr_layout.hd)) and guesses.has("FEAT_HAFDBS_dirty"),
        epan=facts.two_ranges and bool(bit(sctlr, SCTLR_EPAN)) and guesses.has("FEAT_PAN3"),
        indirect=indirect,
        overlay=needed(registers, facts.por, purpose) if extensions.poe else None,
        overlay_el0=needed(registers, "POR_EL0", purpose) if extensions.e0poe else None,
    )


def _mair(registers: RegisterValues, regime: Regime, extensions: _Extensions, guesses: FeatureGuesses) -> bytes | None:
    """The memory attribute bytes. They decide no access, so an unknown MAIR leaves the memory type unknown."""
    names = [regime.facts.mair, *([regime.facts.mair2] if extensions.aie else [])]
    attributes = b""
    for name in names:
        value = registers.get(name)
        if value is None:
            guesses.assume(f"{name} is unknown: so is the memory type")
            return None
        attributes += (value & 0xFFFF_FFFF_FFFF_FFFF).to_bytes(8, "little")
    return attributes
