"""Memory attributes and permissions that descriptors point to: MAIR, AMAIR, PIR, POR, S2PIR (Arm ARM D23.2)."""

from __future__ import annotations

from collections.abc import Callable

from kexecdbg.arm64.registers.declare import IMPLEMENTATION_DEFINED, register
from kexecdbg.arm64.registers.meanings import indirect_permission, memory_attribute, overlay_permission
from kexecdbg.arm64.registers.model import Field, Layout


def _elements(prefix: str, first: int, width: int, meaning: Callable[[int], str]) -> Layout:
    """A register that is an array: ``prefix`` plus the index, the lowest bits hold the first element."""
    count = 64 // width
    return Layout(
        "",
        tuple(
            Field(f"{prefix}{first + index}", index * width + width - 1, index * width, meaning)
            for index in reversed(range(count))
        ),
    )


_MAIR = _elements("Attr", 0, 8, memory_attribute)
_MAIR2 = _elements("Attr", 8, 8, memory_attribute)
_PIR = _elements("Perm", 0, 4, indirect_permission)
_POR = _elements("Perm", 0, 4, overlay_permission)
_S2PIR = _elements("Perm", 0, 4, lambda nibble: f"stage 2 base permission {nibble:#x}")

REGISTERS = (
    *(register(f"MAIR_EL{el}", f"Memory Attribute Indirection Register (EL{el})", _MAIR) for el in (1, 2, 3)),
    *(
        register(f"MAIR2_EL{el}", f"Extended Memory Attribute Indirection Register (EL{el})", _MAIR2)
        for el in (1, 2, 3)
    ),
    *(
        register(f"AMAIR_EL{el}", f"Auxiliary Memory Attribute Indirection Register (EL{el})", IMPLEMENTATION_DEFINED)
        for el in (1, 2, 3)
    ),
    *(register(f"PIR_EL{el}", f"Permission Indirection Register (EL{el})", _PIR) for el in (1, 2, 3)),
    *(register(f"PIRE0_EL{el}", f"Permission Indirection Register for EL0 (EL{el})", _PIR) for el in (1, 2)),
    *(register(f"POR_EL{el}", f"Permission Overlay Register (EL{el})", _POR) for el in (0, 1, 2, 3)),
    register("S2PIR_EL2", "Stage 2 Permission Indirection Register", _S2PIR),
    register("S2POR_EL1", "Stage 2 Permission Overlay Register", _POR),
)
