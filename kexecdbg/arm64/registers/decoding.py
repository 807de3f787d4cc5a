"""Decoding a register value by its declaration."""

from __future__ import annotations

from collections.abc import Iterator

from kexecdbg.arm64.bits import bit, field_mask
from kexecdbg.arm64.interfaces import RegisterValues
from kexecdbg.arm64.registers.model import DecodedField, DecodedRegister, Field, Layout, Register, RegisterFinding
from kexecdbg.arm64.registers.select import are, bit_list, runs


def decode_register(register: Register, value: int, context: RegisterValues) -> DecodedRegister:
    """Decode ``value``; never raises, whatever the value.

    A field whose condition is known to be false is left out, and its bits are held against what they read as then;
    where the condition is unknown, the field is decoded and nothing is held against it.
    """
    selection = register.layout_for(value, context)
    layout = selection.layout
    fields: list[DecodedField] = []
    findings: list[RegisterFinding] = list(_always_reserved(register.name, layout, value))
    for field in layout.fields:
        holds = field.condition.holds(context) if field.condition else True
        if holds is False:
            findings.extend(_absent_field(register.name, field, value))
            continue
        decoded = field.value_in(value)
        fields.append(DecodedField(field.name, field.msb, field.lsb, decoded, field.meaning(decoded)))
        idle = field.idle_when_set is not None and bit(value, field.idle_when_set)
        if holds and not idle and field.reserves(decoded):
            findings.append(_reserved_value(register.name, field, decoded))
    fields.sort(key=lambda field: (-field.msb, field.lsb))
    findings.sort(key=lambda finding: -finding.msb)
    return DecodedRegister(register.name, value, layout.label, tuple(fields), tuple(findings), selection.assumptions)


def field_of(register: Register, name: str, value: int, context: RegisterValues) -> int:
    """One field by the layout in use; a field that does not exist on this machine reads as its RES0 or RES1 value.

    Raises:
        KeyError: the layout in use has no field of that name.
    """
    field = register.layout_for(value, context).layout.field(name)
    if field.condition is not None and field.absent is not None and field.condition.holds(context) is False:
        return field.mask >> field.lsb if field.absent else 0
    return field.value_in(value)


def _always_reserved(name: str, layout: Layout, value: int) -> Iterator[RegisterFinding]:
    where = f" with {layout.label}" if layout.label else ""
    for kind, wrong, is_value in (("res1", layout.res1_mask & ~value, 0), ("res0", layout.res0_mask & value, 1)):
        for msb, lsb in runs(wrong):
            verbs = ("is", "it is") if msb == lsb else ("are", "they are")
            text = f"{name} {bit_list(field_mask(msb, lsb))} {verbs[0]} {is_value}; {verbs[1]} {kind.upper()}{where}."
            yield RegisterFinding(kind, msb, lsb, text)


def _absent_field(name: str, field: Field, value: int) -> Iterator[RegisterFinding]:
    if field.absent is None or field.condition is None:
        return
    wrong = field.mask & (~value if field.absent else value)
    if wrong:
        kind = "res1" if field.absent else "res0"
        yield RegisterFinding(
            kind,
            wrong.bit_length() - 1,
            (wrong & -wrong).bit_length() - 1,
            f"{name} {bit_list(wrong)} ({field.name}) "
            f"{are(wrong)} {1 - field.absent}; "
            f"{kind.upper()} without {field.condition.text}.",
        )


def _reserved_value(name: str, field: Field, value: int) -> RegisterFinding:
    where = f"bit {field.msb}" if field.msb == field.lsb else f"bits {field.msb}:{field.lsb}"
    text = f"{name}.{field.name} ({where}) is {value}, a reserved value."
    return RegisterFinding("reserved", field.msb, field.lsb, text)
