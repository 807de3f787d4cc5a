"""The registers of one CPU, as they are or as they will be after a pending write."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, field

from kexecdbg.arm64.interfaces import RegisterValues
from kexecdbg.arm64.pstate import PSTATE_VIEWS
from kexecdbg.errors import RegisterUnknownError


def shows_no_el2(names: Container[str]) -> bool:
    """Whether a debugger that offers all system registers of a CPU, these ``names``, shows that it has no EL2.

    QEMU describes the system registers that the CPU has (target/arm/gdbstub.c); without EL2 there is no HCR_EL2.
    """
    return "SCTLR_EL1" in names and "HCR_EL2" not in names


@dataclass(frozen=True)
class CpuState:
    """Register values of one CPU by canonical Arm name (``SCTLR_EL2``, ``X0``, ``SP``, ``PC``, ``PSTATE``).

    A register that cannot be read is unknown (``get`` gives ``None``), never 0. Values are unsigned 64-bit integers;
    PSTATE has the layout of SPSR_ELx.

    Attributes:
        source: where values come from: a dict, or an object that reads them on demand.
        assumed: values that replace the source's: a pending write, or what the user gave with ``--assume``.
    """

    source: RegisterValues
    assumed: Mapping[str, int] = field(default_factory=dict)

    def get(self, name: str, /) -> int | None:
        """The value of ``name``, or ``None`` when it is unknown."""
        if name in self.assumed:
            return self.assumed[name]
        value = self.source.get(name)
        if value is None and name in PSTATE_VIEWS:
            pstate = self.get("PSTATE")
            return None if pstate is None else pstate & PSTATE_VIEWS[name]
        return value

    def require(self, name: str, needed_for: str) -> int:
        """The value of ``name``.

        Raises:
            RegisterUnknownError: it is unknown; the message names ``needed_for`` and the remedy.
        """
        value = self.get(name)
        if value is None:
            raise RegisterUnknownError(name, needed_for)
        return value

    def with_values(self, values: Mapping[str, int]) -> CpuState:
        """The state as it will be once ``values`` have been written."""
        return CpuState(self.source, {**self.assumed, **values})

    def with_missing(self, values: Mapping[str, int]) -> CpuState:
        """The same state, with ``values`` for registers that the source cannot read: they are what the CPU has."""
        return CpuState(_Completed(self.source, values), self.assumed) if values else self

    def with_unchanged(self, values: Mapping[str, int]) -> CpuState:
        """The same state, with ``values`` that the source is known to have still: it is not asked for them."""
        return CpuState(_Remembered(values, self.source), self.assumed)

    def assumed_names(self) -> Iterator[str]:
        """Names of the registers whose value does not come from the machine."""
        return iter(self.assumed)


@dataclass(frozen=True)
class _Completed:
    """Register values of a source, and others for what it cannot read."""

    source: RegisterValues
    missing: Mapping[str, int]

    def get(self, name: str, /) -> int | None:
        """The source's value, or else the other."""
        value = self.source.get(name)
        return self.missing.get(name) if value is None else value


@dataclass(frozen=True)
class _Remembered:
    """Register values that were read before, and a source for the others."""

    values: Mapping[str, int]
    source: RegisterValues

    def get(self, name: str, /) -> int | None:
        """The value read before, or else the source's."""
        value = self.values.get(name)
        return self.source.get(name) if value is None else value
