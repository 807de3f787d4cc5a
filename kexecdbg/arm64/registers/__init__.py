"""AArch64 system registers: declarations by topic, and decoding.

>>> decode("TCR_EL2", 0x80843510, {"HCR_EL2": 0}).field("PS").meaning
'44 bits, 16 TB'
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from kexecdbg.arm64.interfaces import RegisterValues
from kexecdbg.arm64.register_names import encoding_of, known_name
from kexecdbg.arm64.registers import (
    control,
    exceptions,
    hypervisor,
    id_features,
    id_memory,
    identification,
    memory,
    pstate,
    stage2,
    tags,
    threads,
    translation,
    traps,
)
from kexecdbg.arm64.registers.declare import IMPLEMENTATION_DEFINED
from kexecdbg.arm64.registers.decoding import decode_register, field_of
from kexecdbg.arm64.registers.model import (
    Condition,
    DecodedField,
    DecodedRegister,
    Field,
    Layout,
    Register,
    RegisterFinding,
)

__all__ = [
    "REGISTERS",
    "Condition",
    "DecodedField",
    "DecodedRegister",
    "Field",
    "Layout",
    "Register",
    "RegisterFinding",
    "decode",
    "field_value",
    "lookup",
]

_TOPICS = (
    control,
    translation,
    stage2,
    memory,
    hypervisor,
    exceptions,
    traps,
    pstate,
    tags,
    threads,
    identification,
    id_features,
    id_memory,
)

REGISTERS: Mapping[str, Register] = MappingProxyType(
    {register.name: register for topic in _TOPICS for register in topic.REGISTERS}
)


def lookup(name: str) -> Register:
    """The register that ``name``, in any spelling :func:`canonical_name` knows, stands for.

    A register that has a name but no declaration here comes without fields: all its bits are left alone.

    Raises:
        UsageError: no register has that name; the message lists near ones.
    """
    if name in REGISTERS:
        return REGISTERS[name]
    canonical = known_name(name)
    known = REGISTERS.get(canonical)
    return known or Register(canonical, canonical, encoding_of(canonical), (IMPLEMENTATION_DEFINED,))


def decode(name: str, value: int, context: RegisterValues) -> DecodedRegister:
    """Decode a register value field by field; never raises for a known name, whatever the 64-bit value.

    Args:
        name: any spelling that :func:`canonical_name` knows.
        value: the register value.
        context: the other registers by canonical name; HCR_EL2 and the ID registers decide layouts and features.

    Raises:
        UsageError: no register has that name.
    """
    return decode_register(lookup(name), value, context)


def field_value(name: str, field: str, value: int, context: RegisterValues) -> int:
    """One field of a register value, by the layout in use.

    A field that this machine lacks reads as its RES0 or RES1 value, whatever the bits say.

    Raises:
        UsageError: no register has that name.
        KeyError: the layout in use has no field of that name.
    """
    return field_of(lookup(name), field, value, context)
