"""M27: the write, or the set-up before it, concerns the registers of another exception level."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from kexecdbg.arm64.bits import bit
from kexecdbg.arm64.faults import Access
from kexecdbg.arm64.features import effective_e2h
from kexecdbg.arm64.instructions import SystemMove
from kexecdbg.arm64.regimes import SCTLR_M, mmu_enabled
from kexecdbg.checks.enable_site import is_undefined, pending_write
from kexecdbg.checks.fetching import instruction_at
from kexecdbg.checks.finding import Finding, RegisterRepair, Severity
from kexecdbg.checks.repairs import change_register
from kexecdbg.checks.rule import Rule
from kexecdbg.checks.situation import Situation
from kexecdbg.errors import MemoryUnreadableError

_PREFIXES = ("TTBR0", "MAIR")
"""Registers with the same layout at every level, so that a value meant for one can be tried at another."""


def _check(situation: Situation) -> Iterator[Finding]:
    move = write_at_site(situation)
    if move is not None and is_undefined(move.register, situation.el, effective_e2h(situation.before)):
        yield Finding(
            "M27",
            Severity.FATAL,
            f"msr {move.register.lower()} is UNDEFINED at EL{situation.el}"
            f"{' with HCR_EL2.E2H = 0' if move.register.endswith('_EL12') else ''}: the write itself takes an "
            f"exception, and no MMU is switched on. The register of this level is {situation.regime.facts.sctlr}.",
            {"register": move.register, "el": situation.el, "intended": situation.regime.facts.sctlr},
        )
    elif move is not None:
        yield from _other_mmu(situation)
    if mmu_enabled(situation.regime, situation.after):
        yield from _set_up_elsewhere(situation)
        yield from _vectors_elsewhere(situation)


def write_at_site(situation: Situation) -> SystemMove | None:
    """The ``msr`` at the site; ``None`` when the write is only assumed."""
    if situation.site == situation.next_pc:
        return None
    try:
        return instruction_at(situation.before, situation.memory, situation.site).system_move
    except MemoryUnreadableError:
        return None


def _other_mmu(situation: Situation) -> Iterator[Finding]:
    """A write that sets another SCTLR_ELx.M than the one this code runs under."""
    own = situation.regime.facts.sctlr
    instruction = instruction_at(situation.before, situation.memory, situation.site)
    write = pending_write(instruction, situation.before)
    if write is None or not write.enables_mmu or write.register == own:
        return
    stays_off = not bit(situation.after.require(own, "whether the MMU of this code is on"), SCTLR_M)
    state = "stays off" if stays_off else "is on already"
    yield Finding(
        "M27",
        Severity.HAZARD if stays_off else Severity.NOTE,
        f"The write sets M of {write.register}, but the code runs at EL{situation.el}, under {own}, whose MMU {state}: "
        f"nothing changes here, and the MMU of {write.register} will be on for the next code that runs at its level.",
        {"register": write.register, "field": "M", "el": situation.el, "intended": own},
    )


def _set_up_elsewhere(situation: Situation) -> Iterator[Finding]:
    """A control register that is zero, while that of another level holds the value that it should have."""
    facts = situation.regime.facts
    for prefix in _PREFIXES:
        meant = value_elsewhere(situation, prefix)
        if meant is None:
            continue
        fatal = situation.fetch_fault is not None
        yield Finding(
            "M27",
            Severity.FATAL if fatal else Severity.HAZARD,
            f"{meant.repair.register} is 0, and {meant.register} = {meant.repair.new:#x} is what this code needs: the "
            "value seems to have been written to the register of another level. "
            + ("With it the next fetch works." if fatal else "Now all memory is Device-nGnRnE."),
            {
                "register": meant.repair.register,
                "value": 0,
                "other": meant.register,
                "other_value": meant.repair.new,
                "el": facts.el,
            },
            meant.repair,
        )


@dataclass(frozen=True)
class ValueElsewhere:
    """The register of another level that holds a value, and its write to the one of this level."""

    register: str
    repair: RegisterRepair


def value_elsewhere(situation: Situation, prefix: str) -> ValueElsewhere | None:
    """Where the value is that ``prefix`` (``TTBR0``, ``MAIR``) of this level should have and has not: it is zero.

    ``None`` when this level's register holds something, or zero is right, or the other values would not do either.
    """
    facts = situation.regime.facts
    own = f"{prefix}_EL{facts.el}"
    if situation.after.get(own) != 0 or (prefix == "TTBR0" and situation.cures_fetch()):
        return None
    for other in (f"{prefix}_EL{level}" for level in (1, 2, 3) if level != facts.el):
        value = situation.after.get(other)
        repair = change_register(situation, own, value, f"the value that {other} has") if value else None
        if repair is not None:
            return ValueElsewhere(other, repair)
    return None


def _vectors_elsewhere(situation: Situation) -> Iterator[Finding]:
    """VBAR_ELx is zero and leads nowhere, while that of a lower level would do.

    A higher level needs its own vectors, and this one cannot write them: they say nothing about this one's.
    """
    facts = situation.regime.facts
    if situation.after.get(facts.vbar) != 0 or situation.vector_fault is None:
        return
    for other in (f"VBAR_EL{level}" for level in range(1, facts.el)):
        value = situation.after.get(other)
        if value and situation.walk(value + situation.vector).fault_for(Access.FETCH) is None:
            yield Finding(
                "M27",
                Severity.HAZARD,
                f"{facts.vbar} is 0, where no vectors can be fetched, and {other} = {value:#x} is mapped: the address "
                "of the vectors seems to have been written to the register of another level.",
                {"register": facts.vbar, "value": 0, "other": other, "other_value": value, "el": situation.el},
                RegisterRepair(facts.vbar, 0, value, f"the value that {other} has"),
            )
            return


RULE = Rule(
    "M27",
    "A register of another exception level",
    "Each level has its own SCTLR, TCR, TTBR, MAIR and VBAR. At EL2 with E2H=1 the names of EL1 reach the registers of "
    "EL2, and those of EL1 are called _EL12; with E2H=0 they do not. Code that is moved to another level, or runs at "
    "one that was not expected, sets up and switches on the MMU of a level that is not running.",
    (
        "Arm ARM D1.1, D8.13.4 (register redirection with E2H); TF-A 79c7e7282; Xen 16af78ade1; p1c0 issue 78",
        "U-Boot ed7a3943d58; Linux kexec RFC v1 (20190716165641.6990-1-pasha.tatashin@soleen.com)",
    ),
    _check,
    symptom="Nothing happens: the code goes on as before, without caches; or the write is an undefined instruction.",
)
