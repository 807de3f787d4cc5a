"""The conditions that register fields depend on."""

from __future__ import annotations

from functools import cache

from kexecdbg.arm64.bits import bit
from kexecdbg.arm64.features import effective_e2h, has_feature
from kexecdbg.arm64.interfaces import RegisterValues
from kexecdbg.arm64.registers.model import Condition

E2H, TGE = 34, 27


def both(first: bool | None, second: bool | None) -> bool | None:
    """Three-valued AND."""
    if first is False or second is False:
        return False
    return None if first is None or second is None else True


@cache
def feature(name: str) -> Condition:
    """The CPU implements ``name`` (``FEAT_VHE``)."""
    return Condition(name, lambda registers: has_feature(registers, name))


def _host_uses_el0(registers: RegisterValues) -> bool | None:
    hcr = registers.get("HCR_EL2")
    return both(effective_e2h(registers), None if hcr is None else bool(bit(hcr, TGE)))


HOST_EL0 = Condition("HCR_EL2.{E2H,TGE}={1,1}", _host_uses_el0)


@cache
def host_el0_and(name: str) -> Condition:
    """EL0 belongs to the EL2 host (HCR_EL2.{E2H,TGE}={1,1}) and the CPU implements ``name``."""
    return Condition(
        f"{HOST_EL0.text} and {name}",
        lambda registers: both(_host_uses_el0(registers), has_feature(registers, name)),
    )


@cache
def not_judged(name: str) -> Condition:
    """A feature whose ID field this tool does not read: always unknown, so its bits are never held against anything."""
    return Condition(name, lambda registers: None)


def _without_el3(registers: RegisterValues) -> bool | None:
    el3 = has_feature(registers, "FEAT_EL3")
    return None if el3 is None else not el3


NO_EL3 = Condition("a CPU without EL3", _without_el3)
