"""Memory type and shareability of a stage 1 leaf."""

from __future__ import annotations

from kexecdbg.arm64.bits import bit, bits
from kexecdbg.arm64.memory_types import (
    NORMAL_NON_CACHEABLE,
    MemoryType,
    Shareability,
    effective_shareability,
    memory_type_of_mair_byte,
)
from kexecdbg.arm64.translation import Stage1

_ATTR_INDEX_3 = 59  # with FEAT_AIE


def leaf_memory_type(stage1: Stage1, descriptor: int) -> MemoryType | None:
    """The stage 1 memory type of a leaf, as SCTLR_ELx.C lets it be; ``None`` when MAIR_ELx is unknown."""
    if stage1.mair is None:
        return None
    index = bits(descriptor, 4, 2) | (bit(descriptor, _ATTR_INDEX_3) << 3 if stage1.attr_index_bits == 4 else 0)
    memory_type = memory_type_of_mair_byte(stage1.mair[index])
    if memory_type.is_cacheable and not stage1.cacheable:
        return NORMAL_NON_CACHEABLE
    return memory_type


def leaf_shareability(stage1: Stage1, descriptor: int, memory_type: MemoryType | None) -> Shareability | None:
    """The shareability of a leaf as it takes effect; with DS = 1 it comes from TCR.SHn."""
    raw = stage1.shareability if stage1.table.ds else Shareability(bits(descriptor, 9, 8))
    return raw if memory_type is None else effective_shareability(memory_type, raw)
