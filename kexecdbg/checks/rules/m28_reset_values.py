"""M28: the switch relies on a register that the set-up never wrote: its value out of reset is UNKNOWN."""

from __future__ import annotations

from collections.abc import Iterator

from kexecdbg.arm64.bits import bit
from kexecdbg.arm64.evaluation import SystemWrite
from kexecdbg.checks.finding import Finding, RegisterRepair, Severity
from kexecdbg.checks.qemu_laxity import remark
from kexecdbg.checks.rule import Rule
from kexecdbg.checks.set_up import SetUp, on_every_way
from kexecdbg.checks.situation import Situation


def _check(situation: Situation) -> Iterator[Finding]:
    for judge in (_upper_range, _attributes):
        finding = on_every_way(situation, judge)
        if finding is not None:
            yield finding


def _written(set_up: SetUp) -> set[str]:
    return {event.effect.register for event in set_up.events if isinstance(event.effect, SystemWrite)}


def _never_written(set_up: SetUp, register: str | None) -> bool:
    """Whether the whole set-up is on the way, and ``register`` is not in it and still has QEMU's reset value."""
    facts = set_up.situation.regime.facts
    written = _written(set_up)
    is_reset_value = register is not None and set_up.situation.before.get(register) == 0
    return {facts.ttbr0, facts.tcr} <= written and register not in written and is_reset_value


def _upper_range(set_up: SetUp) -> Finding | None:
    situation = set_up.situation
    facts = situation.regime.facts
    tcr = situation.after.get(facts.tcr)
    if facts.ttbr1 is None or tcr is None or not _never_written(set_up, facts.ttbr1):
        return None
    epd1 = facts.tcr_layout.ranges[1].epd
    if epd1 is None or bit(tcr, epd1):
        return None
    return Finding(
        "M28",
        Severity.HAZARD,
        f"{facts.ttbr1} is never written, and {facts.tcr}.EPD1 is 0: an access to the upper range, a speculative one "
        f"too, walks from wherever the register points to out of reset.{remark('M28')}",
        {"register": facts.ttbr1, "field": "EPD1", "value": situation.before.get(facts.ttbr1)},
        RegisterRepair(facts.tcr, tcr, tcr | 1 << epd1, "sets EPD1: no walks through TTBR1"),
    )


def _attributes(set_up: SetUp) -> Finding | None:
    facts = set_up.situation.regime.facts
    if not _never_written(set_up, facts.mair):
        return None
    return Finding(
        "M28",
        Severity.HAZARD,
        f"{facts.mair} is never written, by code that writes {facts.ttbr0} and {facts.tcr}: the memory types are those "
        f"of its UNKNOWN reset value.{remark('M28')}",
        {"register": facts.mair, "value": 0},
    )


RULE = Rule(
    "M28",
    "A register is used with its reset value",
    "TTBR, TCR, MAIR and VBAR are UNKNOWN out of reset. Code that sets one half of the registers works where the other "
    "half happens to be zero, or was left behind by earlier firmware. Reported when the writes of TTBR0 and TCR can be "
    "seen, the register is not among them, and it still has the value that QEMU resets it to.",
    (
        "Arm ARM D24.2 (reset values of TTBR0_ELx, TTBR1_ELx, TCR_ELx, MAIR_ELx)",
        "TF-A fe87637a2, 3388b38dc",
    ),
    _check,
    severity=Severity.HAZARD,
    symptom="Works in QEMU and on one board, not on another, or not after another boot loader.",
)
