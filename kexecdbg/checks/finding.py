"""What a rule of the catalogue reports."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # it takes the whole evaluator, half of the start of ``kexecdbg decode``
    from kexecdbg.checks.prediction import ExceptionRecord


class Severity(enum.Enum):
    """How bad a finding is."""

    FATAL = "fatal"
    """The CPU will fault, or run something else than intended."""
    HAZARD = "hazard"
    """The architecture is violated, or only hardware (not QEMU) will show it."""
    NOTE = "note"
    """Worth knowing; nothing is wrong."""


@dataclass(frozen=True)
class DescriptorRepair:
    """Overwrite one descriptor in physical memory.

    Attributes:
        address: physical address of the descriptor.
        old: its value now.
        new: the value that cures it.
        text: what changes, as a clause.
    """

    address: int
    old: int
    new: int
    text: str


@dataclass(frozen=True)
class RegisterRepair:
    """Write another value to a control register than the code is about to, or has written.

    Attributes:
        register: canonical name.
        old: the value it has, or is about to get.
        new: the value that cures it.
        text: what changes, as a clause.
    """

    register: str
    old: int
    new: int
    text: str


Repair = DescriptorRepair | RegisterRepair


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, or worth knowing.

    Attributes:
        id: the catalogue entry, ``M01``.
        severity: how bad it is.
        text: one or two sentences: what is wrong and what the CPU will do.
        evidence: what decides it, by name (address, level, descriptor, bit, register, field); integers are values.
        repair: what cures it, when one write does.
        is_consequence: it follows from another finding, and is shown after that one.
        leads_to: the exception that it ends in some time after the switch, where that is certain; what happens at the
            switch itself is the prediction's.
    """

    id: str
    severity: Severity
    text: str
    evidence: Mapping[str, int | str | None] = field(default_factory=dict)
    repair: Repair | None = None
    is_consequence: bool = False
    leads_to: ExceptionRecord | None = None
