"""Registers as text: one paragraph each, or one line a field."""

from __future__ import annotations

from collections.abc import Iterable
from string import digits

from kexecdbg.arm64.pstate import differ_in_flags_alone, flags_of
from kexecdbg.arm64.registers.model import DecodedField, DecodedRegister
from kexecdbg.ui.style import Style, hanging

NAME_COLUMN = 12
_FIELD_COLUMN = 32
_WIDEST_DECIMAL = 7
"""Fields up to this many bits (TxSZ has 6) are numbers people know in decimal."""
_WIDEST_NUMBER = 16
"""Wider fields are addresses; their meaning says which."""


def value_text(value: int) -> str:
    """A register value, in as many digits as its size calls for."""
    return f"{value:#018x}" if value >> 32 else f"{value:#010x}"


def brief(decoded: DecodedRegister, style: Style) -> str:
    """One paragraph: the value, the fields that are not zero, and what is wrong."""
    layout = f" ({decoded.layout})" if decoded.layout else ""
    shown = "  ".join(_brief_fields(decoded.fields))
    lines = [
        hanging(decoded.name, f"{value_text(decoded.value)}{layout}  {shown}".rstrip(), NAME_COLUMN, style),
        *_grouped_findings(decoded, style),
        *_assumptions(decoded, style, NAME_COLUMN),
    ]
    return "\n".join(lines)


def _grouped_findings(decoded: DecodedRegister, style: Style) -> list[str]:
    """Reserved bits in one line a kind; reserved values as sentences."""
    pad = " " * NAME_COLUMN
    lines = []
    for kind, text in (("res1", "RES1 bits that are 0"), ("res0", "RES0 bits that are 1")):
        ranges = [str(f.msb) if f.msb == f.lsb else f"{f.msb}:{f.lsb}" for f in decoded.findings if f.kind == kind]
        if ranges:
            lines.append(style.warn(hanging(f"{pad}! ", f"{text}: {', '.join(ranges)}", NAME_COLUMN + 2)))
    others = [f.text for f in decoded.findings if f.kind not in ("res0", "res1")]
    return [*lines, *(style.bad(hanging(f"{pad}! ", text, NAME_COLUMN + 2)) for text in others)]


def _brief_fields(fields: Iterable[DecodedField]) -> list[str]:
    """``M`` for a set bit, ``PS=4 (44 bits, 16 TB)`` for a wider field; nothing for a clear bit.

    Fields of one kind that have the same value share one entry: ``Attr7,6,0=0x0 (Device-nGnRnE)``.
    """
    numbers: dict[tuple[str, str], list[str]] = {}
    for field in fields:
        value = _brief_value(field)
        if value is not None:
            stem = field.name.rstrip(digits) if value else field.name
            numbers.setdefault((stem, value), []).append(field.name[len(stem) :])
    return [f"{stem}{','.join(suffixes)}{value}" for (stem, value), suffixes in numbers.items()]


def _brief_value(field: DecodedField) -> str | None:
    """What follows the field's name: nothing for a set bit; ``None`` for a field that is not shown."""
    if field.msb == field.lsb:
        return "" if field.value else None
    if not field.value and not field.name.startswith(("TG", "Attr", "PS", "IPS")):
        return None
    width = field.msb - field.lsb + 1
    if width > _WIDEST_NUMBER:
        return f": {field.meaning}"
    value = f"={field.value}" if width <= _WIDEST_DECIMAL else f"={field.value:#x}"
    return value if field.meaning in (str(field.value), f"{field.value:#x}") else f"{value} ({field.meaning})"


def full(decoded: DecodedRegister, style: Style) -> str:
    """The value, then one line a field: name, bits, value, meaning."""
    layout = f"  layout {decoded.layout}" if decoded.layout else ""
    lines = [f"{style.bold(decoded.name)} = {value_text(decoded.value)}{layout}"]
    for field in decoded.fields:
        position = f"[{field.msb}]" if field.msb == field.lsb else f"[{field.msb}:{field.lsb}]"
        label = f"  {field.name:<10} {position:<8} {field.value:#x}"
        line = hanging(label, field.meaning, _FIELD_COLUMN)
        lines.append(line if field.value else style.dim(line))
    return "\n".join([*lines, *_findings(decoded, style, 2), *_assumptions(decoded, style, 2)])


def _findings(decoded: DecodedRegister, style: Style, indent: int) -> list[str]:
    pad = " " * indent
    return [style.bad(hanging(f"{pad}! ", finding.text, indent + 2)) for finding in decoded.findings]


def _assumptions(decoded: DecodedRegister, style: Style, indent: int) -> list[str]:
    pad = " " * indent
    return [style.warn(hanging(f"{pad}~ ", assumption, indent + 2)) for assumption in decoded.assumptions]


def change_text(name: str, old: int | None, new: int | None) -> str:
    """What a register is now; of PSTATE only the condition flags if no more has changed: ``flags=nZCv``, Z and C."""
    if new is None:
        return f"{name}=unknown"
    if name == "PSTATE" and old is not None and differ_in_flags_alone(old, new):
        flags = zip("NZCV", f"{flags_of(new):04b}", strict=True)
        return "flags=" + "".join(letter if digit == "1" else letter.lower() for letter, digit in flags)
    return f"{name}={new:#x}"
