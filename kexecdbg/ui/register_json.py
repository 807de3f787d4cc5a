"""Registers as JSON documents; the keys are kept for ever."""

from __future__ import annotations

from kexecdbg.arm64.registers.comparison import Comparison
from kexecdbg.arm64.registers.model import DecodedRegister
from kexecdbg.ui.json_form import Json, number


def register_json(decoded: DecodedRegister) -> Json:
    """One register, field by field."""
    return {
        "value": number(decoded.value),
        "layout": decoded.layout,
        "fields": [
            {"name": f.name, "msb": f.msb, "lsb": f.lsb, "value": f.value, "meaning": f.meaning} for f in decoded.fields
        ],
        "findings": [{"kind": f.kind, "msb": f.msb, "lsb": f.lsb, "text": f.text} for f in decoded.findings],
        "assumptions": list(decoded.assumptions),
    }


def comparison_json(compared: Comparison) -> Json:
    """The first value as any register; the second under ``other``; what differs under ``differences``."""
    return {
        **register_json(compared.first),
        "other": {"name": compared.second.name, **register_json(compared.second)},
        "differences": [
            {
                "name": change.field.name,
                "msb": change.field.msb,
                "lsb": change.field.lsb,
                "value": change.first.value if change.first else None,
                "meaning": change.first.meaning if change.first else None,
                "other_value": change.second.value if change.second else None,
                "other_meaning": change.second.meaning if change.second else None,
            }
            for change in compared.changes
        ],
        "other_bits": compared.other_bits,
    }
