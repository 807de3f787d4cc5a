"""M26: tables are changed under a running MMU without break-before-make."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from kexecdbg.arm64.bits import bit, bits
from kexecdbg.arm64.evaluation import SystemWrite
from kexecdbg.arm64.faults import Access
from kexecdbg.arm64.regimes import Regime
from kexecdbg.arm64.walk import Walk, walk
from kexecdbg.checks.finding import Finding, Severity
from kexecdbg.checks.qemu_laxity import remark
from kexecdbg.checks.rule import Rule
from kexecdbg.checks.situation import Situation
from kexecdbg.machine.state import CpuState

_NG_BIT = 11
_ASID = (63, 48)
_TCR_A1 = 22


@dataclass(frozen=True)
class _Change:
    """One write to a TTBR or TCR with the MMU on, and where it is made."""

    old: CpuState
    new: CpuState
    register: str
    value: int
    where: str


def _check(situation: Situation) -> Iterator[Finding]:
    for change in _changes(situation):
        for name, va in _live_addresses(situation):
            old, new = (
                walk(state, situation.memory, va, regime=situation.regime) for state in (change.old, change.new)
            )
            if not _conflicts(situation.regime, change, old, new):
                continue
            assert old.pa is not None and new.pa is not None
            to = f"from {old.pa:#x} to {new.pa:#x}" if old.pa != new.pa else f"at {old.pa:#x}, with other attributes"
            yield Finding(
                "M26",
                Severity.HAZARD,
                f"{change.where} writes {change.register} = {change.value:#x} with the MMU on, and moves the {name}, "
                f"{va:#x}, {to}. The TLB may hold both: switch to an empty table first, then tlbi, dsb, isb, then to "
                f"the new one.{remark('M26')}",
                {"register": change.register, "value": change.value, "va": va, "old_pa": old.pa, "new_pa": new.pa},
            )
            return


def _changes(situation: Situation) -> Iterator[_Change]:
    """The write that is judged, if the MMU is on already, and the first one that the code makes after it."""
    facts = situation.regime.facts
    names = [name for name in (facts.ttbr0, facts.ttbr1, facts.tcr) if name is not None]
    if situation.is_live:
        for name in names:
            value = situation.after.get(name)
            if value is not None and value != situation.before.get(name):
                yield _Change(situation.before, situation.after, name, value, f"The instruction at {situation.site:#x}")
    for step in situation.aftermath.steps[-1:]:
        for effect in step.effects:
            if isinstance(effect, SystemWrite) and effect.register in names and effect.value is not None:
                new = situation.after.with_values({effect.register: effect.value})
                where = f"{step.instruction.address:#x}, {step.instruction.text}, after the switch,"
                yield _Change(situation.after, new, effect.register, effect.value, where)


def _live_addresses(situation: Situation) -> Iterator[tuple[str, int]]:
    """What is in use while the change is made: code, stack, vectors, data."""
    yield "code", situation.next_pc
    for touch in situation.touches:
        yield touch.kind.value, touch.address


def _conflicts(regime: Regime, change: _Change, old: Walk, new: Walk) -> bool:
    """Whether the TLB may have an entry for the address that contradicts the new tables."""
    if old.pa is None or new.pa is None:
        return False
    if _what_the_tlb_holds(old) == _what_the_tlb_holds(new):
        return False
    leaf = old.levels[-1].descriptor if old.levels else None
    is_global = not regime.facts.two_ranges or leaf is None or not bit(leaf, _NG_BIT)
    return is_global or _asid(regime, change.old) == _asid(regime, change.new)


def _what_the_tlb_holds(result: Walk) -> tuple[object, ...]:
    rights = [result.privileged.of(access).allowed for access in Access]
    return (result.pa, *rights, result.memory_type, result.shareability)


def _asid(regime: Regime, state: CpuState) -> int | None:
    """The current ASID: that of the TTBR which TCR_ELx.A1 picks."""
    facts = regime.facts
    tcr = state.get(facts.tcr)
    name = facts.ttbr1 if tcr is not None and bit(tcr, _TCR_A1) else facts.ttbr0
    value = state.get(name) if name is not None else None
    return None if value is None else bits(value, *_ASID)


RULE = Rule(
    "M26",
    "Live tables are changed without break-before-make",
    "With the MMU on, an entry that may be in the TLB must not be changed to another output address or other "
    "attributes at one go: the CPU may use either, a mixture, or take a TLB conflict abort. The old entry is made "
    "invalid first, the TLB invalidated, then the new one written. The same holds for a TTBR that leads to other "
    "tables for the same addresses and ASID. What is compared is what the code uses at that time.",
    (
        "Arm ARM D8.16.1 (break-before-make)",
        "Xen c4b72c4a54, 2b11c36461; U-Boot a045a0c3333; EDK2 61b02ba1f2; Linux break_before_make_ttbr_switch",
    ),
    _check,
    severity=Severity.HAZARD,
    symptom="TLB conflict aborts (DFSC 0x30), or accesses that go to the old page now and then; on hardware only.",
)
