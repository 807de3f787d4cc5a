"""What a register declaration is made of, and what decoding one gives.

A register is declared as one or more *layouts* of *fields*, one line a field. Everything that depends on the machine
is data on the field: a :class:`Condition` says when the field exists, ``absent`` what its bits read as otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

from kexecdbg.arm64.bits import bits, field_mask
from kexecdbg.arm64.interfaces import RegisterValues

Meanings = Mapping[int, str] | Callable[[int], str] | None


@dataclass(frozen=True)
class Condition:
    """A fact about the machine that a field depends on, three-valued: true, false, or ``None`` for unknown."""

    text: str
    holds: Callable[[RegisterValues], bool | None]


@dataclass(frozen=True)
class Field:
    """A field of a register layout.

    Attributes:
        name: the Arm ARM's name, ``T0SZ``.
        msb: highest bit.
        lsb: lowest bit.
        meanings: text for each value. A table with holes says that the missing values are reserved; a function
            gives a text for every value.
        condition: when the field exists; ``None`` for always.
        absent: what every bit reads as when the condition is false: 0 (RES0), 1 (RES1), ``None`` for no rule.
        idle_when_set: a bit of the register that, when 1, leaves this field without effect: then no value of it is
            worth a finding.
    """

    name: str
    msb: int
    lsb: int
    meanings: Meanings = None
    condition: Condition | None = None
    absent: int | None = 0
    idle_when_set: int | None = None

    @property
    def mask(self) -> int:
        """The field's bits within the register."""
        return field_mask(self.msb, self.lsb)

    def value_in(self, register_value: int) -> int:
        """The field's value, shifted down."""
        return bits(register_value, self.msb, self.lsb)

    def meaning(self, field_value: int) -> str:
        """What ``field_value`` means, in words."""
        if self.meanings is None:
            return f"{field_value:#x}" if self.msb - self.lsb > 3 else str(field_value)
        if callable(self.meanings):
            return self.meanings(field_value)
        return self.meanings.get(field_value, "reserved")

    def reserves(self, field_value: int) -> bool:
        """Whether the architecture reserves ``field_value``."""
        return isinstance(self.meanings, Mapping) and field_value not in self.meanings


@dataclass(frozen=True)
class Layout:
    """One arrangement of a register's fields.

    Attributes:
        label: what selects it, ``E2H=0``; empty when the register has only one.
        fields: from the highest bit down.
        res1: bits that always read 1.
        unchecked: mask of bits that are neither fields nor RES0 (IMPLEMENTATION DEFINED, UNKNOWN).
    """

    label: str
    fields: tuple[Field, ...]
    res1: tuple[int, ...] = ()
    unchecked: int = 0

    @cached_property
    def res1_mask(self) -> int:
        """The bits that always read 1."""
        return sum(1 << position for position in self.res1)

    @cached_property
    def res0_mask(self) -> int:
        """The bits that always read 0: no field, no RES1, not unchecked."""
        used = self.res1_mask | self.unchecked
        for field in self.fields:
            used |= field.mask
        return field_mask(63, 0) & ~used

    def fits(self, value: int) -> bool:
        """Whether ``value`` breaks none of the layout's unconditional RES0 and RES1 bits."""
        return value & self.res1_mask == self.res1_mask and not value & self.res0_mask

    def field(self, name: str) -> Field:
        """The field called ``name``.

        Raises:
            KeyError: the layout has no such field.
        """
        for field in self.fields:
            if field.name == name:
                return field
        raise KeyError(name)


@dataclass(frozen=True)
class Selection:
    """The layout that was chosen for a value, and what had to be assumed to choose it."""

    layout: Layout
    assumptions: tuple[str, ...] = ()


Selector = Callable[["Register", int, RegisterValues], Selection]


@dataclass(frozen=True)
class Register:
    """A register: its names, its encoding and its layouts.

    Attributes:
        name: canonical Arm name, ``TCR_EL2``.
        long_name: the title in the Arm ARM.
        encoding: (op0, op1, CRn, CRm, op2) of ``MRS``/``MSR``; ``None`` for PSTATE, PC and general registers.
        layouts: every layout the register can have.
        select: picks one of them for a value; ``None`` when there is only one.
    """

    name: str
    long_name: str
    encoding: tuple[int, int, int, int, int] | None
    layouts: tuple[Layout, ...]
    select: Selector | None = None

    def layout_for(self, value: int, context: RegisterValues) -> Selection:
        """The layout ``value`` has, given the other registers in ``context``."""
        return Selection(self.layouts[0]) if self.select is None else self.select(self, value, context)


@dataclass(frozen=True)
class DecodedField:
    """A field with its value and what the value means."""

    name: str
    msb: int
    lsb: int
    value: int
    meaning: str


@dataclass(frozen=True)
class RegisterFinding:
    """A bit that should be 0 or 1 and is not, or a reserved value.

    Attributes:
        kind: ``res0``, ``res1`` or ``reserved``.
        msb: highest bit concerned.
        lsb: lowest bit concerned.
        text: one sentence that names the register, the bits and the value.
    """

    kind: str
    msb: int
    lsb: int
    text: str


@dataclass(frozen=True)
class DecodedRegister:
    """A register value, field by field from the highest bit down."""

    name: str
    value: int
    layout: str
    fields: tuple[DecodedField, ...]
    findings: tuple[RegisterFinding, ...]
    assumptions: tuple[str, ...]

    def field(self, name: str) -> DecodedField:
        """The field called ``name``.

        Raises:
            KeyError: the layout in use has no such field, or the machine lacks the feature it belongs to.
        """
        for field in self.fields:
            if field.name == name:
                return field
        raise KeyError(name)
