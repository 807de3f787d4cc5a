"""Two decoded register values, field by field: of one register, or of the same register of two exception levels."""

from __future__ import annotations

from dataclasses import dataclass

from kexecdbg.arm64.bits import field_mask
from kexecdbg.arm64.registers.model import DecodedField, DecodedRegister
from kexecdbg.arm64.registers.select import bit_list


@dataclass(frozen=True)
class FieldChange:
    """A field that two values do not share; ``None`` where a layout lacks the field."""

    first: DecodedField | None
    second: DecodedField | None

    @property
    def field(self) -> DecodedField:
        """The field as the first value has it, or else as the second one has it."""
        found = self.first or self.second
        assert found is not None
        return found


@dataclass(frozen=True)
class Comparison:
    """What differs between two values.

    Attributes:
        changes: the fields that differ, from the highest bit down.
        other_bits: differing bits that belong to no field of either layout, as text; empty for none.
    """

    first: DecodedRegister
    second: DecodedRegister
    changes: tuple[FieldChange, ...]
    other_bits: str

    @property
    def same(self) -> bool:
        """Whether nothing differs."""
        return not self.changes and not self.other_bits


def compare(first: DecodedRegister, second: DecodedRegister) -> Comparison:
    """``first`` against ``second``.

    Fields are matched by name, because a field can sit elsewhere in the other layout (TCR_EL2.DS with and without
    E2H). A field that only one of them has counts when it is not zero.
    """
    ours, theirs = ({field.name: field for field in value.fields} for value in (first, second))
    changes = []
    covered = 0
    for name in {**ours, **theirs}:
        one, two = ours.get(name), theirs.get(name)
        for field in (one, two):
            covered |= field_mask(field.msb, field.lsb) if field else 0
        if (one.value if one else 0) != (two.value if two else 0):
            changes.append(FieldChange(one, two))
    changes.sort(key=lambda change: -change.field.msb)
    others = (first.value ^ second.value) & ~covered
    return Comparison(first, second, tuple(changes), bit_list(others) if others else "")
