"""Stage 2: from an intermediate physical address to a physical address, for the EL1&0 regime.

Pseudocode ``AArch64.GetS2TTWParams``, ``AArch64.S2Walk``, ``AArch64.S2InvalidSL``, ``AArch64.S2InconsistentSL``,
``AArch64.S2DirectBasePermissions``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from kexecdbg.arm64.bits import bit, bits
from kexecdbg.arm64.descent import Descent, TableAddress, WalkLevel, descend, named
from kexecdbg.arm64.descriptors import DBM_BIT, S2AP_READ_BIT, S2AP_WRITE_BIT, STAGE2_NAMES
from kexecdbg.arm64.faults import Cause, CauseKind, Fault, FaultKind
from kexecdbg.arm64.feature_guesses import FeatureGuesses
from kexecdbg.arm64.features import effective_e2h
from kexecdbg.arm64.geometry import (
    ADDRESS_SIZES,
    GRANULE_4K,
    GRANULE_16K,
    GRANULE_64K,
    LAST_LEVEL,
    TG0_GRANULES,
    Granule,
    TableFormat,
    no_granule_text,
)
from kexecdbg.arm64.interfaces import PhysicalMemory, RegisterValues
from kexecdbg.arm64.memory_types import (
    NORMAL_WRITE_BACK,
    MemoryType,
    Shareability,
    combine_stages,
    effective_shareability,
)
from kexecdbg.arm64.regimes import (
    HCR_CD,
    HCR_DC,
    HCR_FWB,
    HCR_ID,
    HCR_PTW,
    HCR_TGE,
    HCR_VM,
    SCTLR_EE,
    hcr_for_el1,
    needed,
)
from kexecdbg.arm64.rights import Right, Rights, denied
from kexecdbg.arm64.translation import table_base
from kexecdbg.errors import ArchitectureError

_T0SZ, _SL0, _SH0, _TG0, _PS = (5, 0), (7, 6), (13, 12), (15, 14), (18, 16)
_HA, _HD, _DS, _SL2, _S2PIE, _S2POE, _D128 = 21, 22, 32, 33, 36, 37, 38
_PURPOSE = "stage 2 translation"

# Start level by SL2:SL0. A level that needs a feature or a physical address size is checked in _start_level.
_START_LEVELS = {
    GRANULE_4K.name: {0: 2, 1: 1, 2: 0, 3: 3, 4: -1},
    GRANULE_16K.name: {0: 3, 1: 2, 2: 1, 3: 0},
    GRANULE_64K.name: {0: 3, 1: 2, 2: 1},
}
# Physical address bits that a CPU must have for a start level, where there is such a limit.
_LEVEL_NEEDS_BITS = {(GRANULE_4K.name, 0): 44, (GRANULE_16K.name, 1): 42, (GRANULE_64K.name, 1): 44}
_CONCATENATION_BITS = 4  # up to 16 tables side by side at the start level


@dataclass(frozen=True)
class Stage2:
    """The parameters of stage 2 translation.

    Attributes:
        table: shape of the tables; its input is the IPA.
        base: physical address of the first table.
        problem: why no walk can be made with these registers, or ``None``.
        dirty: hardware dirty state (VTCR_EL2.HA and HD): a leaf with DBM counts as writable.
        xnx: XN is two bits, EL1 and EL0 apart (FEAT_XNX).
        protected_walk: HCR_EL2.PTW: a stage 1 table in stage 2 Device memory is a Permission fault.
        fwb: HCR_EL2.FWB.
        data_non_cacheable, fetch_non_cacheable: HCR_EL2.CD and ID.
        shareability: VTCR_EL2.SH0, which counts for leaves when DS = 1.
    """

    table: TableFormat
    base: int
    problem: Cause | None
    warnings: tuple[Cause, ...]
    dirty: bool
    xnx: bool
    protected_walk: bool
    fwb: bool
    data_non_cacheable: bool
    fetch_non_cacheable: bool
    shareability: Shareability
    assumptions: tuple[str, ...]


@dataclass(frozen=True)
class Stage2Walk:
    """The stage 2 translation of one intermediate physical address.

    Attributes:
        ipa: the address as it was asked for.
        levels: stage 2 descriptors in the order they were read.
        pa: physical address, or ``None`` when every access faults or it is unknown.
        page_size: bytes that the leaf maps.
        leaf_level: level of the leaf, or ``None``.
        privileged, user: rights of EL1 and of EL0.
        mem_attr: MemAttr[3:0] of the leaf, or ``None``.
        memory_type: what Normal Write-Back stage 1 memory becomes under this leaf.
        shareability: the leaf's own.
        fault: a fault that every access takes.
        warnings, assumptions: as in :class:`kexecdbg.arm64.walk.Walk`.
    """

    ipa: int
    levels: tuple[WalkLevel, ...]
    pa: int | None
    page_size: int | None
    leaf_level: int | None
    privileged: Rights
    user: Rights
    mem_attr: int | None
    memory_type: MemoryType | None
    shareability: Shareability | None
    fault: Fault | None
    warnings: tuple[Cause, ...]
    assumptions: tuple[str, ...]


def stage2_enabled(registers: RegisterValues) -> bool:
    """Whether the EL1&0 regime has a second stage: HCR_EL2.VM or DC, which count as 0 with {E2H, TGE} = {1, 1}.

    TGE alone switches off stage 1 of EL0, not its stage 2 (Arm ARM, HCR_EL2.VM; pseudocode ``AArch64.FullTranslate``).

    Raises:
        RegisterUnknownError: HCR_EL2 is unknown and EL2 may be there.
    """
    hcr = hcr_for_el1(registers, "whether stage 2 is on")
    if not (bit(hcr, HCR_VM) or bit(hcr, HCR_DC)):
        return False
    return not (bit(hcr, HCR_TGE) and effective_e2h(registers))


def stage2_of(registers: RegisterValues) -> Stage2:
    """The stage 2 parameters in VTCR_EL2, VTTBR_EL2, HCR_EL2 and SCTLR_EL2, whether stage 2 is on or not.

    Raises:
        RegisterUnknownError: one of them is unknown.
        ArchitectureError: stage 2 uses 128-bit descriptors or permission indirection, which are not decoded.
    """
    vtcr = needed(registers, "VTCR_EL2", _PURPOSE)
    vttbr = needed(registers, "VTTBR_EL2", _PURPOSE)
    hcr = needed(registers, "HCR_EL2", _PURPOSE)
    sctlr = needed(registers, "SCTLR_EL2", "the byte order of stage 2 tables")
    guesses = FeatureGuesses(registers)
    for position, name, feature in (
        (_D128, "D128", "FEAT_D128"),
        (_S2PIE, "S2PIE", "FEAT_S2PIE"),
        (_S2POE, "S2POE", "FEAT_S2POE"),
    ):
        if bit(vtcr, position) and guesses.has(feature):
            raise ArchitectureError(f"VTCR_EL2.{name} is set: {feature} is not decoded by this tool")
    granule = TG0_GRANULES.get(bits(vtcr, *_TG0))
    physical_bits = guesses.physical_bits()
    problem = _granule_problem(guesses, granule)
    granule = granule or GRANULE_4K
    ds = granule is not GRANULE_64K and bool(bit(vtcr, _DS)) and guesses.lpa2(granule, stage=2)
    lpa = granule is GRANULE_64K and physical_bits >= 52
    size = ADDRESS_SIZES[min(bits(vtcr, *_PS), 6)]
    output_bits = min(size, physical_bits, 52 if ds or lpa else 48)
    t0sz = bits(vtcr, *_T0SZ)
    problem = problem or _t0sz_problem(guesses, t0sz, granule, ds, physical_bits)
    start = _start_level(guesses, vtcr, granule, ds, physical_bits)
    if problem is None and (start is None or not _consistent(granule, start, 64 - t0sz)):
        text = (
            f"VTCR_EL2.SL0 = {bits(vtcr, *_SL0)}{' with SL2 = 1' if bit(vtcr, _SL2) else ''} is not a start level "
            f"for T0SZ = {t0sz} with the {granule.name} granule"
        )
        problem = Cause(CauseKind.STAGE2_START_LEVEL, text, register="VTCR_EL2", field="SL0")
    hardware_af = bool(bit(vtcr, _HA)) and guesses.has("FEAT_HAFDBS")
    input_bits = 64 - t0sz
    if problem is not None or start is None:  # any legal shape will do: it is not walked
        start, input_bits = LAST_LEVEL, granule.level_shift(LAST_LEVEL - 1)
    table = TableFormat(
        granule=granule,
        input_bits=input_bits,
        start_level=start,
        output_bits=output_bits,
        ds=ds,
        lpa=lpa,
        big_endian=bool(bit(sctlr, SCTLR_EE)),
        hardware_af=hardware_af,
        stage=2,
    )
    base, warnings = table_base(table, vttbr, "VTTBR_EL2")
    return Stage2(
        table=table,
        base=base,
        problem=problem,
        warnings=() if problem else warnings,
        dirty=hardware_af and bool(bit(vtcr, _HD)) and guesses.has("FEAT_HAFDBS_dirty"),
        xnx=guesses.has("FEAT_XNX"),
        protected_walk=bool(bit(hcr, HCR_PTW)),
        fwb=bool(bit(hcr, HCR_FWB)) and guesses.has("FEAT_S2FWB"),
        data_non_cacheable=bool(bit(hcr, HCR_CD)),
        fetch_non_cacheable=bool(bit(hcr, HCR_ID)),
        shareability=Shareability(bits(vtcr, *_SH0)),
        assumptions=guesses.assumptions,
    )


def _granule_problem(guesses: FeatureGuesses, granule: Granule | None) -> Cause | None:
    if granule is None:
        why = "has the reserved value 3"
    elif not guesses.granule(granule, stage=2):
        why = f"selects {granule.name}, which ID_AA64MMFR0_EL1 says the CPU does not have at stage 2"
    else:
        return None
    text = no_granule_text("VTCR_EL2.TG0", _TG0, why)
    return Cause(CauseKind.RESERVED_GRANULE, text, register="VTCR_EL2", field="TG0")


def _t0sz_problem(guesses: FeatureGuesses, t0sz: int, granule: Granule, ds: bool, physical_bits: int) -> Cause | None:
    """T0SZ outside what the CPU supports (pseudocode ``AArch64.S2InvalidTxSZ``)."""
    widest = physical_bits if ds or granule is GRANULE_64K else min(physical_bits, 48)
    lowest = 64 - min(widest, 52)
    small = 47 if granule is GRANULE_64K else 48
    highest = small if t0sz > 39 and guesses.has("FEAT_TTST") else 39
    if lowest <= t0sz <= highest:
        return None
    text = f"VTCR_EL2.T0SZ is {t0sz}, outside {lowest} to {highest}: a fault here, some CPUs clamp it"
    return Cause(CauseKind.TXSZ_OUT_OF_RANGE, text, register="VTCR_EL2", field="T0SZ")


def _start_level(guesses: FeatureGuesses, vtcr: int, granule: Granule, ds: bool, physical_bits: int) -> int | None:
    """The start level, or ``None`` where SL0 (and SL2) is reserved (pseudocode ``AArch64.S2InvalidSL``)."""
    selector = bits(vtcr, *_SL0) | (bit(vtcr, _SL2) << 2 if ds and granule is GRANULE_4K else 0)
    level = _START_LEVELS[granule.name].get(selector)
    if level is None or physical_bits < _LEVEL_NEEDS_BITS.get((granule.name, level), 0):
        return None
    if granule is GRANULE_4K and level == LAST_LEVEL and not guesses.has("FEAT_TTST"):
        return None
    if granule is GRANULE_16K and level == 0 and not ds:
        return None
    return level


def _consistent(granule: Granule, start_level: int, input_bits: int) -> bool:
    """Whether the first table has at least 2 entries and at most 16 tables' worth (``AArch64.S2InconsistentSL``)."""
    lowest = granule.level_shift(start_level) + 1
    return lowest <= input_bits <= lowest + granule.stride - 1 + _CONCATENATION_BITS


def walk_stage2(registers: RegisterValues, memory: PhysicalMemory, ipa: int) -> Stage2Walk:
    """Translate the intermediate physical address ``ipa`` by the stage 2 tables, whether stage 2 is on or not.

    Raises:
        RegisterUnknownError: VTCR_EL2, VTTBR_EL2, HCR_EL2 or SCTLR_EL2 is unknown.
        ArchitectureError: see :func:`stage2_of`.
    """
    return translate_ipa(stage2_of(registers), memory, ipa)


def translate_ipa(stage2: Stage2, memory: PhysicalMemory, ipa: int) -> Stage2Walk:
    """Translate ``ipa`` with the parameters of :func:`stage2_of`."""
    early = _fault_before_walk(stage2, ipa)
    if early is not None:
        descent = Descent((), early)
    else:
        descent = descend(stage2.table, stage2.base, "VTTBR_EL2", ipa, memory, STAGE2_NAMES)
    leaf = descent.leaf
    if descent.fault is not None or leaf is None:
        assert descent.fault is not None
        fault = replace(descent.fault, ipa=ipa)
        none = denied(fault.cause)
        return Stage2Walk(
            ipa=ipa,
            levels=descent.levels,
            pa=None,
            page_size=None,
            leaf_level=leaf.level if leaf else None,
            privileged=none,
            user=none,
            mem_attr=None,
            memory_type=None,
            shareability=None,
            fault=fault,
            warnings=stage2.warnings,
            assumptions=stage2.assumptions,
        )
    descriptor, output = leaf.descriptor, leaf.output
    assert descriptor is not None and output is not None
    page_size = 1 << stage2.table.shift(leaf.level)
    mem_attr = bits(descriptor, 5, 2)
    memory_type = combine_stages(NORMAL_WRITE_BACK, mem_attr, fwb=stage2.fwb)
    raw_shareability = stage2.shareability if stage2.table.ds else Shareability(bits(descriptor, 9, 8))
    return Stage2Walk(
        ipa=ipa,
        levels=descent.levels,
        pa=output | (ipa & (page_size - 1)),
        page_size=page_size,
        leaf_level=leaf.level,
        privileged=_rights(stage2, leaf, descriptor, privileged=True),
        user=_rights(stage2, leaf, descriptor, privileged=False),
        mem_attr=mem_attr,
        memory_type=memory_type,
        shareability=effective_shareability(memory_type, raw_shareability),
        fault=None,
        warnings=stage2.warnings,
        assumptions=stage2.assumptions,
    )


def _fault_before_walk(stage2: Stage2, ipa: int) -> Fault | None:
    cause = stage2.problem
    if cause is None and ipa >> stage2.table.input_bits:
        size = 64 - stage2.table.input_bits
        text = f"IPA {ipa:#x} is beyond the {stage2.table.input_bits} bits of VTCR_EL2.T0SZ = {size}"
        cause = Cause(CauseKind.VA_OUT_OF_RANGE, text, register="VTCR_EL2", field="T0SZ")
    return None if cause is None else Fault(FaultKind.TRANSLATION, 0, cause, stage=2)


# XN[1:0], bits 54:53, with FEAT_XNX: who may not execute.
_XNX_DENIES_PRIVILEGED = (False, True, True, False)
_XNX_DENIES_USER = (False, False, True, True)


def executable(stage2: Stage2, descriptor: int, *, privileged: bool) -> bool:
    """Whether a stage 2 leaf lets EL1 (``privileged``) or EL0 execute."""
    if not stage2.xnx:
        return not bit(descriptor, 54)
    return not (_XNX_DENIES_PRIVILEGED if privileged else _XNX_DENIES_USER)[bits(descriptor, 54, 53)]


def writable(stage2: Stage2, descriptor: int) -> bool:
    """Whether a stage 2 leaf lets anybody write; a DBM leaf counts as writable under hardware dirty state."""
    return bool(bit(descriptor, S2AP_WRITE_BIT)) or (stage2.dirty and bool(bit(descriptor, DBM_BIT)))


def _rights(stage2: Stage2, leaf: WalkLevel, descriptor: int, *, privileged: bool) -> Rights:
    where = named(stage2.table, leaf.level, leaf.address)

    def right(is_allowed: bool, kind: CauseKind, position: int, name: str, denying_state: str) -> Right:
        if is_allowed:
            return Right(True, (), f"{name} of {where} allows it")
        text = f"{name} of {where} {denying_state}"
        return Right(False, (Cause(kind, text, leaf.level, leaf.address, position),))

    xn = bits(descriptor, 54, 53)
    xn_name = f"bits 54:53 (XN[1:0] = {xn})" if stage2.xnx else "bit 54 (XN)"
    return Rights(
        right(
            bool(bit(descriptor, S2AP_READ_BIT)),
            CauseKind.STAGE2_NO_READ,
            S2AP_READ_BIT,
            "bit 6 (S2AP[0], read)",
            "is clear",
        ),
        right(
            writable(stage2, descriptor),
            CauseKind.STAGE2_NO_WRITE,
            S2AP_WRITE_BIT,
            "bit 7 (S2AP[1], write)",
            "is clear",
        ),
        right(
            executable(stage2, descriptor, privileged=privileged),
            CauseKind.STAGE2_XN,
            54,
            xn_name,
            f"denies execution at {'EL1' if privileged else 'EL0'}",
        ),
    )


def locate_table(stage2: Stage2, memory: PhysicalMemory, ipa: int) -> TableAddress:
    """Where a stage 1 descriptor at ``ipa`` really is, or the fault of the stage 1 walk that reads it."""
    result = translate_ipa(stage2, memory, ipa)
    if result.fault is not None:
        return TableAddress(0, ipa, replace(result.fault, s1ptw=True))
    assert result.pa is not None and result.leaf_level is not None and result.memory_type is not None
    leaf = result.levels[-1]
    if stage2.protected_walk and result.memory_type.is_device:
        text = f"HCR_EL2.PTW is set and {named(stage2.table, leaf.level, leaf.address)} makes the table Device memory"
        cause = Cause(CauseKind.STAGE2_DEVICE_WALK, text, leaf.level, leaf.address, register="HCR_EL2", field="PTW")
        return TableAddress(0, ipa, _permission_on_walk(leaf.level, cause, ipa))
    if not result.privileged.read.allowed:
        return TableAddress(0, ipa, _permission_on_walk(leaf.level, result.privileged.read.causes[0], ipa))
    return TableAddress(result.pa, ipa)


def _permission_on_walk(level: int, cause: Cause, ipa: int) -> Fault:
    return Fault(FaultKind.PERMISSION, level, cause, stage=2, s1ptw=True, ipa=ipa)
