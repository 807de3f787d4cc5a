"""Every known difference between QEMU's MMU and the architecture, one by one, with its source.

A deviation says which inputs QEMU behaves as if it had (``rewrite``), or which facts of the answer differ (``adjust``).
Whether a QEMU has it is decided by asking it the ``probe``, never by its version: what the probe does not show excuses
nothing. ``IMPLEMENTATION DEFINED`` choices of QEMU stand here as well: the architecture leaves them open, and our walk
says so by reporting a fault.

Sources: A is Arm's pseudocode (Arm ARM, shared/translation and aarch64/translation), Q is QEMU's target/arm/ptw.c and
helper.c.
"""

from __future__ import annotations

from kexecdbg.lab.oracle.answers import (
    level_0_of_ptw,
    nothing_after_illegal_block,
    ptw_without_stage2,
    raw_shareability,
    stage1_level_of_walk_fault,
)
from kexecdbg.lab.oracle.deviation import Deviation
from kexecdbg.lab.oracle.memory_type_answers import (
    descriptors_shareability,
    device_with_normal,
    forced_device,
    reserved_forced,
    transient_lost,
    xs_not_modelled,
)
from kexecdbg.lab.oracle.not_asked import (
    fetch_by_illegal_block,
    fetch_under_tge,
    ipa_beyond_physical_size,
    permission_or_flag_at_minus_one,
    ptw_at_minus_one,
    reserved_memory_type_of_table,
    stage2_permission_fault_of_at,
)
from kexecdbg.lab.oracle.probes import (
    always,
    probe_d1,
    probe_d2,
    probe_d3,
    probe_d4,
    probe_d5,
    probe_d6,
    probe_d7,
    probe_d8,
    probe_d9,
    probe_d10,
    probe_d11,
    probe_d18,
    probe_d19,
    probe_d20,
    probe_d21,
    probe_d22,
    probe_d23,
    probe_d24,
    probe_d25,
    probe_d26,
    probe_d27,
    probe_d28,
    probe_d29,
    probe_d30,
)
from kexecdbg.lab.oracle.rewrites import (
    cacheable,
    cd_without_effect,
    dirty_state_off,
    hpd_without_feature,
    smallest_granule,
    stage2_limited_by_ps,
    without_high_address_bits,
    without_tge,
)
from kexecdbg.lab.oracle.table_rewrites import low_bits_of_block, small_first_table

DEVIATIONS: tuple[Deviation, ...] = (
    Deviation(
        "U1",
        "stage 2 MemAttr reserved for a stage 1 table under HCR_EL2.PTW: UNPREDICTABLE, not asked",
        "Arm ARM, stage 2 memory region attributes: MemAttr with a half of 0b00 is reserved",
        always,
        kills=reserved_memory_type_of_table,
        unpredictable=True,
    ),
    Deviation(
        "D19",
        "TCR_ELx.HPDn counts on a CPU without FEAT_HPDS (cortex-a57, cortex-a72), where it is RES0",
        "Q aa64_va_parameters() takes hpd out of TCR as it is; Arm ARM, TCR_EL2.HPD: RES0 without FEAT_HPDS",
        probe_d19,
        rewrite=hpd_without_feature,
    ),
    Deviation(
        "D11",
        "a granule that is reserved or not implemented is 4K; the architecture lets the CPU choose, our walk faults",
        "Q sanitize_gran_size(); A AArch64.S1DecodeTG0, IMPLEMENTATION DEFINED",
        probe_d11,
        rewrite=smallest_granule,
        choice=True,
    ),
    Deviation(
        "D6",
        "EL1&0 stage 1 stays on with HCR_EL2.TGE = 1 and E2H = 0; it must be off",
        "Q regime_translation_disabled() looks at TGE for E10, turned into Stage1 before; A AArch64.S1Enabled",
        probe_d6,
        rewrite=without_tge,
        kills=fetch_under_tge,
    ),
    Deviation(
        "D5",
        "stage 2 input size and start level are held against VTCR_EL2.PS; only the implemented PARange counts",
        "Q check_s2_mmu_setup() before its rewrite for 8.0; A AArch64.S2InvalidTxSZ, S2InvalidSL",
        probe_d5,
        rewrite=stage2_limited_by_ps,
    ),
    Deviation(
        "D3",
        "with hardware dirty state, DBM makes a leaf writable for stores only; it counts for WXN and EL0-writable too",
        "Q get_phys_addr_lpae(), access_type == MMU_DATA_STORE; A AArch64.S1DirectBasePermissions",
        probe_d3,
        rewrite=dirty_state_off,
    ),
    Deviation(
        "D25",
        "with 52-bit addresses, TTBR bits [5:3] also count as address bits of a first table smaller than 64 bytes",
        "Q get_phys_addr_lpae(), descaddr &= ~indexmask; A AArch64.S1TTBaseAddress: at least 64-byte alignment",
        probe_d25,
        rewrite=small_first_table,
    ),
    Deviation(
        "D2",
        "address bits [51:48] or [51:50] of descriptors and TTBRs are ignored unless the output size exceeds 48 bits;"
        " they are part of the address, and then too large",
        "Q get_phys_addr_lpae(), outputsize > 48; A AArch64.LeafBase, NextTableBase, S1TTBaseAddress",
        probe_d2,
        rewrite=without_high_address_bits,
    ),
    Deviation(
        "D24",
        "the RES0 address bits of a block below its size are held against the output size",
        "Q get_phys_addr_lpae(), descaddr >> outputsize before page_size is known; A AArch64.LeafBase, OAOutOfRange",
        probe_d24,
        rewrite=low_bits_of_block,
    ),
    Deviation(
        "D9",
        "SCTLR_ELx.C = 0 leaves Normal memory cacheable in PAR_EL1.ATTR",
        "Q does not model caches; A AArch64.S1Translate, s1_enabled cacheability",
        probe_d9,
        rewrite=cacheable,
    ),
    Deviation(
        "D28",
        "stage 2 T0SZ from 16 on is taken on a CPU with a smaller physical address size, where the smallest is"
        " 64 - PARange; such a case is not asked",
        "Q aa64_va_parameters() since 8.0: the least T0SZ of stage 2 is stage 1's; A AArch64.S2MinTxSZ",
        probe_d28,
        kills=ipa_beyond_physical_size,
    ),
    Deviation(
        "D29",
        "HCR_EL2.CD has no effect together with FWB; it makes all Normal memory Non-cacheable",
        "Q combined_attrs_fwb() is not given it; A AArch64.S2Translate, S2DCacheEnabled",
        probe_d29,
        rewrite=cd_without_effect,
    ),
    Deviation(
        "D1",
        "a block descriptor is accepted at every level above 3; a Translation fault where the granule allows none",
        "Q get_phys_addr_lpae() before lpae_block_desc_valid() of August 2023 (8.2); A AArch64.BlockDescSupported",
        probe_d1,
        adjust=nothing_after_illegal_block,
        kills=fetch_by_illegal_block,
    ),
    Deviation(
        "D7",
        "QEMU ends on an assertion when it finds an Access flag or Permission fault at level -1",
        "Q arm_fi_to_lfsc(), target/arm/internals.h; in the architecture no such fault exists, see D1, D4 and D18",
        probe_d7,
        probe_is_fatal=True,
        kills=permission_or_flag_at_minus_one,
    ),
    Deviation(
        "D30",
        "QEMU ends on an assertion when AT S12E* takes a stage 2 Permission fault; PAR_EL1 must report it",
        "Q do_ats_write(), is_s2_format, QEMU issue 3328, until 'do_ats_write(): avoid assertion when ptw failed'",
        probe_d30,
        probe_is_fatal=True,
        kills=stage2_permission_fault_of_at,
    ),
    Deviation(
        "D4",
        "a stage 2 fault of a stage 1 walk carries the stage 1 level; it must be the stage 2 descriptor's",
        "Q get_phys_addr_lpae(), do_fault, before 2023; A AArch64.S2Walk",
        probe_d4,
        adjust=stage1_level_of_walk_fault,
    ),
    Deviation(
        "D18",
        "with HCR_EL2.PTW = 1 and stage 2 off, AT S1E1* takes a stage 2 Permission fault at its first table",
        "Q S1_ptw_translate(): looks at the attributes of a disabled stage 2, which are 0, Device; A AArch64.S2Walk",
        probe_d18,
        adjust=ptw_without_stage2,
        kills=ptw_at_minus_one,
    ),
    Deviation(
        "D26",
        "HCR_EL2.PTW: the Permission fault of a table in Device memory says level 0; it has the stage 2 leaf's level",
        "Q S1_ptw_translate() since the fix of D4 leaves fi->level alone; A AArch64.S2Translate",
        probe_d26,
        adjust=level_0_of_ptw,
    ),
    Deviation(
        "D10",
        "two stages, one of them Device: the Normal one's cacheability is taken for a Device type",
        "Q combined_attrs_nofwb(); A S2CombineS1MemAttrs: Device of the stricter type",
        probe_d10,
        adjust=device_with_normal,
    ),
    Deviation(
        "D20",
        "HCR_EL2.FWB = 1 and stage 2 Device: a stricter stage 1 Device type is lost",
        "Q combined_attrs_fwb(), case 0 ... 3; A AArch64.S2ApplyFWBMemAttrs, S2CombineS1Device",
        probe_d20,
        adjust=forced_device,
    ),
    Deviation(
        "D21",
        "HCR_EL2.FWB = 1 and MemAttr[3] = 1, which is RES0: Device-nGnRnE",
        "Q combined_attrs_fwb(), default; Arm ARM, stage 2 attributes with FEAT_S2FWB; no effect in our walk",
        probe_d21,
        adjust=reserved_forced,
        choice=True,
    ),
    Deviation(
        "D22",
        "stage 2 Write-Through over stage 1 Write-Back transient loses the transient hint",
        "Q combine_cacheattr_nibble(); A S2CombineS1AttrHints keeps stage 1's hints",
        probe_d22,
        adjust=transient_lost,
    ),
    Deviation(
        "D23",
        "two stages: stage 1's shareability is the descriptor's, also when its memory type would make it Outer",
        "A AArch64.S1Translate: IMPLEMENTATION DEFINED which of the two goes into the combination; Q the descriptor's",
        probe_d23,
        adjust=descriptors_shareability,
        choice=True,
    ),
    Deviation(
        "D27",
        "two stages: the XS attribute is lost or kept with the byte; stage 1's XS goes with what stage 2 makes of it",
        "Q combine_cacheattrs() does not know XS; A S2CombineS1MemAttrs, EncodePARAttrs",
        probe_d27,
        adjust=xs_not_modelled,
    ),
    Deviation(
        "D8",
        "PAR_EL1.SH is the descriptor's even for Device and Normal Non-cacheable memory, which are Outer Shareable",
        "Q do_ats_write() before 8.1; A PAREncodeShareability, EffectiveShareability",
        probe_d8,
        adjust=raw_shareability,
    ),
)
"""In the order in which they are applied: first what changes the question, then what changes the answer."""
