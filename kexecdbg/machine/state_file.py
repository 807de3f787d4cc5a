"""Register values that a user hands in: a JSON object, or any text that registers can be found in.

JSON is the obvious shape, ``{"SCTLR_EL2": "0x30e5183f", "PC": 1073741824}``, with any name that QEMU, GDB, OpenOCD or
Linux uses, or what kexec-regs and ``kexecdbg decode`` print with ``--json``. Anything else is read as pasted text: a
mail, an oops, a debugger's list of registers.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

from kexecdbg.arm64.register_names import canonical_name, unknown_register
from kexecdbg.errors import UsageError
from kexecdbg.machine.pasted_text import read_pasted_text
from kexecdbg.machine.register_value import parse_register_value

_NOT_REGISTERS = frozenset({"consistency", "tables", "code", "notes"})
"""What ``kexecdbg decode --json`` has beside registers."""
_BYTE_ORDER_MARK = "\ufeff"
_MOST_LISTED = 6
_MOST_DIGITS = 31


@dataclass(frozen=True)
class GivenRegisters:
    """What was given.

    Attributes:
        values: by canonical name.
        remarks: what had to be decided to read them, and what was left out, one sentence each.
    """

    values: dict[str, int]
    remarks: tuple[str, ...]


def read_registers(text: str, where: str) -> GivenRegisters:
    """The registers in ``text``, which comes from ``where`` (a path, for messages).

    Raises:
        UsageError: no register is in it, or it looks like JSON and is not, or has values that cannot be.
    """
    text = text.removeprefix(_BYTE_ORDER_MARK)
    given = _from_json(text, where) if text.lstrip().startswith("{") else _from_text(text, where)
    if not given.values:
        why = f"; {given.remarks[-1].removeprefix(f'{where}: ')}" if given.remarks else ""
        raise UsageError(
            f"{where}: no register value in it{why}; "
            'what is looked for: {"TCR_EL2": "0x80843510", ...}, or text with \'TCR_EL2 0x80843510\''
        )
    return given


def _from_text(text: str, where: str) -> GivenRegisters:
    pasted = read_pasted_text(text)
    unknown = (_unknown_names(pasted.unknown, where),) if pasted.unknown else ()
    return GivenRegisters(pasted.values, (*pasted.remarks, *unknown))


def _from_json(text: str, where: str) -> GivenRegisters:
    try:
        # A list of pairs in a tuple: a name that comes twice must not go unnoticed.
        pairs = json.loads(text, object_pairs_hook=tuple, parse_int=_integer)
    except ValueError as error:
        raise UsageError(f"{where}: not JSON: {error}") from None
    except RecursionError:
        raise UsageError(f"{where}: it is nested too deeply to be registers") from None
    values: dict[str, int] = {}
    remarks: list[str] = []
    unknown: list[str] = []
    for name, content in pairs:
        canonical = canonical_name(name)
        if canonical is None:
            if name not in _NOT_REGISTERS:
                unknown.append(name)
            continue
        value = _value_in(content)
        if value is None:
            continue
        number, note = _number(value, f"{where}: {name}")
        remarks += [note] if note else []
        if values.setdefault(canonical, number) != number:
            raise UsageError(
                f"{where}: {name} gives {canonical} a second value, {number:#x} beside {values[canonical]:#x}"
            )
    if unknown:
        remarks.append(_unknown_names(unknown, where))
    return GivenRegisters(values, tuple(remarks))


def _integer(digits: str) -> int:
    """A number of the file; one that is too long for any register is not computed, its size is no matter."""
    return int(digits) if len(digits) <= _MOST_DIGITS else 1 << 64


def _value_in(content: object) -> object:
    """The value of a register, which our own commands print with its fields beside it; ``None`` if it is not known."""
    if isinstance(content, tuple):
        return next((part[1] for part in content if isinstance(part, tuple) and part[0] == "value"), content)
    return content


def _number(value: object, name: str) -> tuple[int, str]:
    if isinstance(value, str):
        return parse_register_value(name, value.strip())
    if isinstance(value, bool) or not isinstance(value, int):
        raise UsageError(f'{name}: {_shortened(value)} is not a register value; write "0x80843510", or a whole number')
    if not 0 <= value < 1 << 64:
        raise UsageError(f"{name}: the value does not fit into 64 bits")
    return value, ""


def _shortened(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:40]}..."


def _unknown_names(names: Iterable[str], where: str) -> str:
    """One sentence about ``names`` that no register has, with what the first one may have been meant to be."""
    several = list(dict.fromkeys(names))
    if len(several) == 1:
        return f"{where}: left out, {unknown_register(several[0])}"
    listed = ", ".join(repr(name) for name in several[:_MOST_LISTED])
    more = f" and {len(several) - _MOST_LISTED} more" if len(several) > _MOST_LISTED else ""
    return f"{where}: left out, no register is called {listed}{more}"
