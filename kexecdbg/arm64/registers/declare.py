"""Short forms for writing register declarations: one line a field."""

from __future__ import annotations

from collections.abc import Callable

from kexecdbg.arm64.bits import field_mask
from kexecdbg.arm64.register_names import encoding_of
from kexecdbg.arm64.registers.conditions import feature
from kexecdbg.arm64.registers.model import Condition, Field, Layout, Meanings, Register, Selector

ALL_BITS = field_mask(63, 0)


def _condition(needs: str | Condition | None) -> Condition | None:
    return feature(needs) if isinstance(needs, str) else needs


def flag(
    name: str,
    position: int,
    when_set: str,
    when_clear: str = "",
    needs: str | Condition | None = None,
    absent: int | None = 0,
) -> Field:
    """A one-bit field. Without ``when_clear`` a clear bit is explained by what setting it would do."""
    meanings = {0: when_clear or f"off (1: {when_set})", 1: when_set}
    return Field(name, position, position, meanings, _condition(needs), absent)


def trap(name: str, position: int, what: str, needs: str | Condition | None = None, absent: int | None = 0) -> Field:
    """A one-bit field that traps ``what`` when set."""
    return flag(name, position, f"traps {what}", f"does not trap {what}", needs, absent)


def enable(name: str, position: int, what: str, needs: str | Condition | None = None, absent: int | None = 0) -> Field:
    """A one-bit field that lets ``what`` through when set and traps it when clear."""
    return flag(name, position, f"does not trap {what}", f"traps {what}", needs, absent)


def wide(
    name: str,
    msb: int,
    lsb: int,
    meanings: Meanings = None,
    needs: str | Condition | None = None,
    absent: int | None = 0,
    idle_when_set: int | None = None,
) -> Field:
    """A field of several bits."""
    return Field(name, msb, lsb, meanings, _condition(needs), absent, idle_when_set)


def levels(*texts: str, **others: str) -> Callable[[int], str]:
    """Meanings of an ID register field: ``texts`` for 1, 2, ...; keywords ``v15=`` for values out of sequence.

    A larger value than any known means a newer, compatible level (Arm ARM D23.1.3), so nothing is reserved.
    """
    known = {0: "not implemented", **dict(enumerate(texts, start=1))}
    known |= {int(key[1:]): text for key, text in others.items()}

    def meaning(value: int) -> str:
        return known.get(value, f"{value}: not known to this tool, at least the level below it")

    return meaning


def id_field(name: str, lsb: int, *texts: str, **others: str) -> Field:
    """A 4-bit ID register field."""
    return Field(name, lsb + 3, lsb, levels(*texts, **others))


def counted(unit: str, add: int = 0) -> Callable[[int], str]:
    """Meaning of a number: ``value + add`` of ``unit``."""
    return lambda value: f"{value + add} {unit}"


def register(name: str, long_name: str, *layouts: Layout, select: Selector | None = None) -> Register:
    """A system register; its encoding is looked up by name."""
    return Register(name, long_name, encoding_of(name), layouts, select)


def plain(*fields: Field, res1: tuple[int, ...] = (), unchecked: int = 0) -> Layout:
    """The layout of a register that has only one."""
    return Layout("", fields, res1, unchecked)


def id_register(*fields: Field) -> Layout:
    """The layout of an ID register: what the hardware says in bits that have no name yet is never wrong."""
    named = sum(field.mask for field in fields)
    return plain(*fields, unchecked=ALL_BITS & ~named)


def hex_value(value: int) -> str:
    """Meaning of an address or a number that is best read in hexadecimal."""
    return f"{value:#x}"


def whole(name: str, meanings: Meanings = hex_value) -> Layout:
    """The layout of a register that is one 64-bit field."""
    return plain(Field(name, 63, 0, meanings))


IMPLEMENTATION_DEFINED = plain(unchecked=ALL_BITS)
