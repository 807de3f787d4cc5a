"""One way to the switch, read for what it does to the translation: writes, TLB and cache maintenance, barriers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

from kexecdbg.arm64.bits import bit
from kexecdbg.arm64.evaluation import (
    Barrier,
    BarrierKind,
    Effect,
    ExceptionReturn,
    Maintenance,
    MemoryAccess,
    SystemWrite,
)
from kexecdbg.arm64.faults import Access
from kexecdbg.arm64.features import effective_e2h
from kexecdbg.arm64.instructions import Instruction
from kexecdbg.arm64.regimes import HCR_TGE, SCTLR_M, RegimeFacts
from kexecdbg.arm64.tlb_maintenance import Coverage, coverage
from kexecdbg.checks.finding import Finding
from kexecdbg.checks.lead_up import Way
from kexecdbg.checks.situation import Situation, asked_once

LINE = 64
"""Bytes of a cache line: what CTR_EL0 says on every CPU that is likely to be met."""


@dataclass(frozen=True)
class Event:
    """One effect on the way.

    Attributes:
        position: number of its instruction on the way.
        instruction: that instruction.
        effect: what it does.
    """

    position: int
    instruction: Instruction
    effect: Effect

    @property
    def text(self) -> str:
        """``0x1b3080104: msr tcr_el2, x14``."""
        return f"{self.instruction.address:#x}: {self.instruction.text}"


@dataclass(frozen=True)
class SetUp:
    """The events of one way to the switch, for the regime that is switched."""

    situation: Situation
    way: Way

    @cached_property
    def events(self) -> tuple[Event, ...]:
        """Every effect, in order."""
        return tuple(
            Event(number, step.instruction, effect) for number, step in enumerate(self.way) for effect in step.effects
        )

    @cached_property
    def table_writes(self) -> tuple[Event, ...]:
        """Writes of the registers that say where the tables are and how they are read: TTBR, TCR and their like."""
        return self._writes_of(_table_registers(self.situation.regime.facts))

    @cached_property
    def translation_writes(self) -> tuple[Event, ...]:
        """Writes of all registers that the translation depends on, SCTLR_ELx left out: those, MAIR and HCR_EL2."""
        facts = self.situation.regime.facts
        names = _table_registers(facts) | {facts.mair, facts.mair2, facts.extensions.register}
        return self._writes_of(names | ({"HCR_EL2"} if facts.el == 2 else set()))

    @cached_property
    def switch_writes(self) -> tuple[Event, ...]:
        """Writes of the regime's SCTLR_ELx before the switch that is judged."""
        return self._writes_of({self.situation.regime.facts.sctlr})

    def _writes_of(self, names: set[str]) -> tuple[Event, ...]:
        return tuple(e for e in self.events if isinstance(e.effect, SystemWrite) and e.effect.register in names)

    @cached_property
    def off_at(self) -> int | None:
        """Position of the write that left the MMU off, before which it may have been on; ``None`` if there is none."""
        if not self.switch_writes:
            return None
        name = self.situation.regime.facts.sctlr
        was_off = self.situation.start is not None and _is_off(self.situation.start.get(name))
        approach = len(self.way) - len(self.situation.approach)
        if was_off and all(event.position >= approach and _is_off(_value(event)) for event in self.switch_writes):
            return None
        return self.switch_writes[-1].position

    @cached_property
    def invalidations(self) -> tuple[tuple[Event, Coverage | None], ...]:
        """TLBI instructions, and what each does for the regime."""
        hcr = self.situation.before.get("HCR_EL2")
        e2h = effective_e2h(self.situation.before)
        both = None if hcr is None or e2h is None else e2h and bool(bit(hcr, HCR_TGE))
        regime, el = self.situation.regime, self.situation.el
        return tuple(
            (event, coverage(event.effect.operation, regime, el, both))
            for event in self.events
            if isinstance(event.effect, Maintenance) and event.effect.operation.startswith("TLBI ")
        )

    def synchronized_after(self, position: int) -> bool:
        """Whether an ISB, or an exception return, comes after ``position``."""
        return any(event.position > position and is_context_synchronization(event.effect) for event in self.events)

    def completed_after(self, position: int, maintenance: bool) -> bool:
        """Whether a DSB comes after ``position``; one for loads and stores if it has to complete ``maintenance``."""
        return any(event.position > position and is_completing(event.effect, maintenance) for event in self.events)

    def stores(self) -> Iterator[tuple[Event, MemoryAccess]]:
        """Stores to known addresses."""
        for event in self.events:
            effect = event.effect
            if isinstance(effect, MemoryAccess) and effect.access is Access.WRITE and effect.pa is not None:
                yield event, effect

    def maintenance(self, *operations: str) -> Iterator[tuple[Event, Maintenance]]:
        """The maintenance instructions with these names."""
        for event in self.events:
            if isinstance(event.effect, Maintenance) and event.effect.operation in operations:
                yield event, event.effect


def _is_off(sctlr: int | None) -> bool:
    return sctlr is not None and not bit(sctlr, SCTLR_M)


def _value(event: Event) -> int | None:
    return event.effect.value if isinstance(event.effect, SystemWrite) else None


def _table_registers(facts: RegimeFacts) -> set[str]:
    return {name for name in (facts.ttbr0, facts.ttbr1, facts.tcr) if name is not None}


def is_context_synchronization(effect: Effect) -> bool:
    """Whether ``effect`` is a context synchronization event (Arm ARM, glossary)."""
    return isinstance(effect, ExceptionReturn) or (isinstance(effect, Barrier) and effect.kind is BarrierKind.ISB)


def is_completing(effect: Effect, maintenance: bool) -> bool:
    """Whether ``effect`` is a DSB that completes earlier stores, or earlier ``maintenance`` too."""
    if not isinstance(effect, Barrier) or effect.kind is not BarrierKind.DSB or not effect.writes:
        return False
    return effect.reads or not maintenance


def on_every_way(situation: Situation, judge: Callable[[SetUp], Finding | None]) -> Finding | None:
    """The finding of ``judge`` on the first way to the switch, if it finds something on each; ``None`` if not."""
    findings = [judge(set_up) for set_up in _set_ups(situation)]
    return findings[0] if findings and all(finding is not None for finding in findings) else None


@asked_once
def _set_ups(situation: Situation) -> tuple[SetUp, ...]:
    return tuple(SetUp(situation, way) for way in situation.lead_up)
