"""Two register values side by side as text."""

from __future__ import annotations

from kexecdbg.arm64.registers.comparison import Comparison, FieldChange
from kexecdbg.arm64.registers.model import DecodedField
from kexecdbg.ui.register_text import value_text
from kexecdbg.ui.style import Style, hanging

_FIELD_INDENT = 4


def comparison_text(comparison: Comparison, labels: tuple[str, str], style: Style) -> str:
    """What differs first, then both values under ``labels``, then the fields that differ."""
    first, second = comparison.first, comparison.second
    width = max(map(len, labels)) + 2
    names = [change.field.name for change in comparison.changes]
    if comparison.same:
        lines = [style.good(f"{first.name}: the two values are the same")]
    else:
        listed = ", ".join(names) if names else "no field"
        lines = [hanging(f"{first.name}:", f"{listed} {'differs' if len(names) == 1 else 'differ'}", 1, style)]
    for label, value in zip(labels, (first, second), strict=True):
        lines.append(f"  {label:<{width}}{value_text(value.value)}  {value.layout}".rstrip())
    if first.name == second.name and first.layout != second.layout:
        lines.append(style.warn("  ~ the two have different layouts; HCR_EL2=VALUE settles which one counts"))
    lines += [_change(change, labels, width) for change in comparison.changes]
    if comparison.other_bits:
        lines.append(f"  outside every field: {comparison.other_bits}")
    for label, value in zip(labels, (first, second), strict=True):
        indent = 4 + width
        lines += [style.warn(hanging(f"  ! {label}", finding.text, indent)) for finding in value.findings]
        lines += [style.dim(hanging(f"  ~ {label}", assumption, indent)) for assumption in value.assumptions]
    return "\n".join(lines)


def _change(change: FieldChange, labels: tuple[str, str], width: int) -> str:
    field = change.field
    position = f"[{field.msb}]" if field.msb == field.lsb else f"[{field.msb}:{field.lsb}]"
    pad = " " * _FIELD_INDENT
    lines = [f"  {field.name} {position}"]
    for label, value in zip(labels, (change.first, change.second), strict=True):
        lines.append(hanging(f"{pad}{label}", _field_text(value), _FIELD_INDENT + width))
    return "\n".join(lines)


def _field_text(field: DecodedField | None) -> str:
    return "no such field in this layout" if field is None else f"{field.value:#x}  {field.meaning}"
