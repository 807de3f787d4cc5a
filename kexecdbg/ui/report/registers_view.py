"""What the report says of registers: those that decide field by field, the general ones as values."""

from __future__ import annotations

from dataclasses import dataclass

from kexecdbg.arm64.registers import decode
from kexecdbg.arm64.registers.model import DecodedField
from kexecdbg.machine.control_registers import control_registers
from kexecdbg.machine.state import CpuState
from kexecdbg.ui.report.moment import Moment

_GENERAL = ("PC", "SP", "PSTATE", *(f"X{number}" for number in range(31)))
_WIDE = 7
"""Fields of more bits are shown in hexadecimal."""
_WIDEST = 16
"""Fields of more bits are addresses, or the like."""


@dataclass(frozen=True)
class FieldView:
    """A field: its bits as the Arm ARM writes them, its value, and what that means."""

    name: str
    bits: str
    value: str
    meaning: str
    odd: bool
    is_zero: bool


@dataclass(frozen=True)
class RegisterView:
    """A register, for the page; ``change`` says what the switch writes, or is empty."""

    name: str
    value: str
    layout: str
    change: str
    findings: tuple[str, ...]
    fields: tuple[FieldView, ...]
    assumptions: tuple[str, ...]


@dataclass(frozen=True)
class RegistersView:
    """Registers, for the page.

    Attributes:
        decoded: field by field.
        zero: names of control registers that are 0.
        unknown: names of those that could not be read.
        general: name and value.
    """

    decoded: tuple[RegisterView, ...]
    zero: tuple[str, ...]
    unknown: tuple[str, ...]
    general: tuple[tuple[str, str], ...]


def registers_view(moment: Moment) -> RegistersView:
    """The registers right after the switch; without one, as the machine has them."""
    state = moment.state if moment.follows_switch else moment.before
    # HCR_EL2 has the most fields and decides least: last.
    names = sorted(control_registers(moment.regime.facts.el), key=lambda name: name == "HCR_EL2")
    values = {name: state.get(name) for name in names}
    views = {name: _register(state, moment.before, name, value) for name, value in values.items() if value is not None}
    shown = tuple(view for name, view in views.items() if values[name] or view.findings)
    return RegistersView(
        shown,
        tuple(name for name, view in views.items() if view not in shown),
        tuple(name for name, value in values.items() if value is None),
        tuple((name, f"{value:#x}") for name in _GENERAL if (value := moment.before.get(name)) is not None),
    )


def _register(state: CpuState, before_switch: CpuState, name: str, value: int) -> RegisterView:
    decoded = decode(name, value, state)
    before = before_switch.get(name)
    change = ""
    if before != value:
        change = "written by the switch" + ("" if before is None else f"; before it {before:#x}")
    odd = [(finding.msb, finding.lsb) for finding in decoded.findings]
    return RegisterView(
        name,
        f"{value:#x}",
        decoded.layout,
        change,
        tuple(finding.text for finding in decoded.findings),
        tuple(_field(field, odd) for field in decoded.fields),
        decoded.assumptions,
    )


def _field(field: DecodedField, odd: list[tuple[int, int]]) -> FieldView:
    width = field.msb - field.lsb + 1
    value = f"{field.value:#x}" if width > _WIDE else str(field.value)
    # Of an address the meaning says more than the field's own number, and of a plain number it says nothing more.
    says_more = field.meaning.strip("#") not in (value, f"{field.value:#x}")
    return FieldView(
        field.name,
        f"[{field.msb}]" if width == 1 else f"[{field.msb}:{field.lsb}]",
        "" if width > _WIDEST and says_more else value,
        field.meaning if says_more else "",
        any(lsb <= field.msb and field.lsb <= msb for msb, lsb in odd),
        not field.value,
    )
