"""Registers of one CPU state as a document and as text: listed, or compared with others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from kexecdbg.arm64.register_names import known_name
from kexecdbg.arm64.registers import REGISTERS, decode
from kexecdbg.arm64.registers.comparison import compare
from kexecdbg.arm64.registers.model import DecodedRegister
from kexecdbg.arm64.syndromes import read_along
from kexecdbg.errors import TargetError, UsageError
from kexecdbg.machine.state import CpuState
from kexecdbg.ui import register_text
from kexecdbg.ui.comparison_text import comparison_text
from kexecdbg.ui.register_json import comparison_json, register_json
from kexecdbg.ui.style import Style, hanging

View = tuple[dict[str, Any], str]
"""The JSON document and the text."""

_ALONG_COLUMN = 10
# TTBR1_EL2 exists only with FEAT_VHE: a target without it has nothing to hide.
_ABSENT = "this target does not provide it"


def asked_registers(words: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The registers that ``words``, each REGISTER or REGISTER.FIELD, ask for, each with the fields; none means all.

    Raises:
        UsageError: no register has such a name.
    """
    asked: dict[str, tuple[str, ...]] = {}
    for word in words:
        name, dot, field = word.partition(".")
        register = known_name(name)
        known = asked.get(register)
        asked[register] = (*(known or ()), field) if dot and known != () else ()
    return asked


def _with_fields(decoded: DecodedRegister, wanted: Sequence[str]) -> DecodedRegister:
    """``decoded`` with the ``wanted`` fields only, and what is wrong with them; all of it if none is named."""
    if not wanted:
        return decoded
    by_name = {field.name.upper(): field for field in decoded.fields}
    unknown = [name for name in wanted if name.upper() not in by_name]
    if unknown:
        name = decoded.name
        raise UsageError(f"{name} has no field called {unknown[0]!r} on this machine; ask for {name} to see its fields")
    fields = tuple(by_name[name.upper()] for name in wanted)
    findings = [f for f in decoded.findings if any(f.lsb <= field.msb and field.lsb <= f.msb for field in fields)]
    return replace(decoded, fields=fields, findings=tuple(findings))


def list_registers(
    state: CpuState,
    names: Sequence[str],
    asked_for: bool,
    raw: bool,
    style: Style,
    fields: Mapping[str, Sequence[str]] | None = None,
) -> View:
    """``names`` field by field when they were ``asked_for``, else a paragraph each; values only with ``raw``.

    Of a register in ``fields`` only the fields that are named there, if any are.

    Raises:
        TargetError: registers were asked for and the target has none of them.
        UsageError: a register has no such field.
    """
    values = {name: state.get(name) for name in names}
    if asked_for and all(value is None for value in values.values()):
        raise TargetError(f"{', '.join(names)}: {_ABSENT}")
    document: dict[str, Any] = {}
    paragraphs = []
    zero = []
    for name, value in values.items():
        if value is None:
            document[name] = {"value": None}
            if asked_for:
                paragraphs.append(f"{name}: {_ABSENT}")
            continue
        wanted = (fields or {}).get(name, ())
        decoded = _with_fields(decode(name, value, state), wanted)
        document[name] = register_json(decoded)
        if raw:
            paragraphs += _raw(decoded, whole=not wanted)
        elif not value and not decoded.findings and not asked_for:
            zero.append(name)
        else:
            paragraphs.append((register_text.full if asked_for else register_text.brief)(decoded, style))
            along = _read_along(name, value, state)
            document[name]["along"] = along
            paragraphs += [hanging(" " * _ALONG_COLUMN, sentence, _ALONG_COLUMN + 2) for sentence in along]
    if zero:
        paragraphs.append(hanging("0", " ".join(zero), register_text.NAME_COLUMN))
    absent = [name for name, value in values.items() if value is None and name != "TTBR1_EL2"]
    if absent and not asked_for:
        paragraphs.append(hanging("unread", f"{' '.join(absent)}: {_ABSENT}", register_text.NAME_COLUMN))
    return document, "\n".join(paragraphs)


def _raw(decoded: DecodedRegister, whole: bool) -> list[str]:
    """The value, or one line for each field where the register is not shown ``whole``."""
    if whole:
        return [f"{decoded.name:<20} {register_text.value_text(decoded.value)}"]
    return [f"{f'{decoded.name}.{field.name}':<20} {field.value:#x}" for field in decoded.fields]


def _read_along(name: str, value: int, state: CpuState) -> list[str]:
    """What the registers beside a syndrome say about it; nothing for other registers and for a syndrome of 0."""
    if not name.startswith("ESR_EL") or not value:
        return []
    return list(read_along(value, state, int(name[-1])))


def compare_levels(state: CpuState, names: Sequence[str], level: str, style: Style) -> View:
    """Each of ``names`` against the same register of the exception level ``level`` (``EL1``).

    Raises:
        TargetError: none has a counterpart there.
    """
    document: dict[str, Any] = {}
    paragraphs = []
    for name in names:
        other = f"{name.rpartition('_')[0]}_{level}"
        values = state.get(name), state.get(other)
        if name == other or other not in REGISTERS or values[0] is None or values[1] is None:
            continue
        compared = compare(decode(name, values[0], state), decode(other, values[1], state))
        document[name] = comparison_json(compared)
        paragraphs.append(comparison_text(compared, (name, other), style))
    if not document:
        raise TargetError(f"{', '.join(names)}: no counterpart at {level} that this target provides")
    return document, "\n".join(paragraphs)


def compare_times(state: CpuState, earlier: Mapping[str, int], names: Sequence[str] | None, style: Style) -> View:
    """What changed since the values ``earlier``: each of ``names``, or every register that did change."""
    before = state.with_values(earlier)
    document: dict[str, Any] = {}
    paragraphs = []
    for name in names if names is not None else earlier:
        old, new = earlier.get(name), state.get(name)
        if name not in REGISTERS or old is None or new is None or (old == new and names is None):
            continue
        compared = compare(decode(name, old, before), decode(name, new, state))
        document[name] = comparison_json(compared)
        paragraphs.append(comparison_text(compared, ("was", "is"), style))
    return document, "\n".join(paragraphs) or "no control register has changed since the last stop"
