"""The addresses that one load or store touches each time it is executed: many register values at once."""

from __future__ import annotations

import numpy as np

from kexecdbg.arm64.evaluation.loads_and_stores import Indexing, LoadStore
from kexecdbg.trace.step_block import U64

_UXTW, _SXTW = 0b010, 0b110


def access_addresses(access: LoadStore, base: U64, index: U64 | None) -> U64:
    """Virtual addresses, one for each element of ``base``.

    Args:
        base: values of the base register; of a literal, addresses of the instruction.
        index: values of the register that is added, ``None`` when ``access`` has none.
    """
    if index is not None:
        return base + _extended(index, access.index_option, access.index_shift)
    if access.indexing is Indexing.POST:
        return base
    return base + np.uint64(access.offset & (1 << 64) - 1)


def _extended(values: U64, option: int, shift: int) -> U64:
    """``values`` as an index register is extended and shifted (Arm ARM, ``ExtendReg``)."""
    if option == _UXTW:
        values = values & np.uint64(0xFFFF_FFFF)
    elif option == _SXTW:
        values = values.astype(np.uint32).view(np.int32).astype(np.int64).view(np.uint64)
    return values << np.uint64(shift)
