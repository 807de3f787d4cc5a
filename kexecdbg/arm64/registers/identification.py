"""Who the CPU is: MIDR, MPIDR, REVIDR, CTR, DCZID, CLIDR (Arm ARM D23.2, registers of those names)."""

from __future__ import annotations

from kexecdbg.arm64.registers.declare import IMPLEMENTATION_DEFINED, counted, flag, plain, register, wide
from kexecdbg.arm64.registers.meanings import block_size

_IMPLEMENTERS = {
    0x00: "software (virtual)",
    0x41: "Arm",
    0x42: "Broadcom",
    0x43: "Cavium",
    0x44: "Digital Equipment",
    0x46: "Fujitsu",
    0x48: "HiSilicon",
    0x49: "Infineon",
    0x4D: "Motorola or Freescale",
    0x4E: "NVIDIA",
    0x50: "Applied Micro",
    0x51: "Qualcomm",
    0x53: "Samsung",
    0x56: "Marvell",
    0x61: "Apple",
    0x66: "Faraday",
    0x69: "Intel",
    0x6D: "Microsoft",
    0x70: "Phytium",
    0xC0: "Ampere",
}
_PARTS = {
    0xD03: "Cortex-A53 (if Arm)",
    0xD04: "Cortex-A35 (if Arm)",
    0xD05: "Cortex-A55 (if Arm)",
    0xD07: "Cortex-A57 (if Arm)",
    0xD08: "Cortex-A72 (if Arm)",
    0xD09: "Cortex-A73 (if Arm)",
    0xD0A: "Cortex-A75 (if Arm)",
    0xD0B: "Cortex-A76 (if Arm)",
    0xD0C: "Neoverse N1 (if Arm)",
    0xD40: "Neoverse V1 (if Arm)",
    0xD41: "Cortex-A78 (if Arm)",
    0xD46: "Cortex-A510 (if Arm)",
    0xD47: "Cortex-A710 (if Arm)",
    0xD49: "Neoverse N2 (if Arm)",
    0xD4F: "Neoverse V2 (if Arm)",
}
_CACHE_TYPES = {
    0: "no cache",
    1: "instruction cache only",
    2: "data cache only",
    3: "separate instruction and data caches",
    4: "unified cache",
}
_TAG_CACHE_TYPES = {
    0: "no tag cache",
    1: "separate tag cache",
    2: "unified tag cache, tags and data in one line",
    3: "unified tag cache, tags and data in separate lines",
}

_MIDR = plain(
    wide("Implementer", 31, 24, lambda value: _IMPLEMENTERS.get(value, f"implementer {value:#x}")),
    wide("Variant", 23, 20, lambda value: f"r{value}"),
    wide("Architecture", 19, 16, lambda value: "by the ID registers" if value == 15 else f"Armv{value} coding"),
    wide("PartNum", 15, 4, lambda value: _PARTS.get(value, f"part {value:#x}")),
    wide("Revision", 3, 0, lambda value: f"p{value}"),
)
_MPIDR = plain(
    wide("Aff3", 39, 32),
    flag("U", 30, "uniprocessor system", "part of a multiprocessor system"),
    flag("MT", 24, "the lowest affinity level is a hardware thread", "the lowest affinity level is a core"),
    wide("Aff2", 23, 16),
    wide("Aff1", 15, 8),
    wide("Aff0", 7, 0),
    res1=(31,),
)
_CTR = plain(
    wide("TminLine", 37, 32, block_size),
    flag("DIC", 29, "no instruction cache invalidation needed for coherence", "instruction cache invalidation needed"),
    flag("IDC", 28, "no data cache clean needed for coherence", "data cache clean to PoU needed"),
    wide("CWG", 27, 24, lambda value: block_size(value) if value else "no information, assume 2 KB"),
    wide("ERG", 23, 20, lambda value: block_size(value) if value else "no information, assume 2 KB"),
    wide("DminLine", 19, 16, block_size),
    wide("L1Ip", 15, 14, {0: "VPIPT (withdrawn)", 2: "VIPT instruction cache", 3: "PIPT instruction cache"}),
    wide("IminLine", 3, 0, block_size),
    res1=(31,),
)
_CLIDR = plain(
    *(wide(f"Ttype{n}", 32 + 2 * n, 31 + 2 * n, _TAG_CACHE_TYPES, "FEAT_MTE2") for n in range(7, 0, -1)),
    wide("ICB", 32, 30, lambda value: f"inner boundary at L{value}" if value else "not disclosed"),
    wide("LoUU", 29, 27, counted("level of unification, uniprocessor")),
    wide("LoC", 26, 24, counted("level of coherence")),
    wide("LoUIS", 23, 21, counted("level of unification, Inner Shareable")),
    *(wide(f"Ctype{n}", 3 * n - 1, 3 * n - 3, _CACHE_TYPES) for n in range(7, 0, -1)),
)

REGISTERS = (
    register("MIDR_EL1", "Main ID Register", _MIDR),
    register("VPIDR_EL2", "Virtualization Processor ID Register", _MIDR),
    register("MPIDR_EL1", "Multiprocessor Affinity Register", _MPIDR),
    register("VMPIDR_EL2", "Virtualization Multiprocessor ID Register", _MPIDR),
    register("REVIDR_EL1", "Revision ID Register", IMPLEMENTATION_DEFINED),
    register("AIDR_EL1", "Auxiliary ID Register", IMPLEMENTATION_DEFINED),
    register("CTR_EL0", "Cache Type Register", _CTR),
    register(
        "DCZID_EL0",
        "Data Cache Zero ID Register",
        plain(
            flag("DZP", 4, "DC ZVA prohibited", "DC ZVA permitted"),
            wide("BS", 3, 0, block_size),
        ),
    ),
    register("CLIDR_EL1", "Cache Level ID Register", _CLIDR),
)
