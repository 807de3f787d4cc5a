"""M21: cache maintenance around the switch that is missing, of the wrong kind, or does harm."""

from __future__ import annotations

from collections.abc import Iterator

from kexecdbg.arm64.bits import bit, bits
from kexecdbg.arm64.evaluation.address_space import PAGE_SIZE
from kexecdbg.arm64.faults import Access
from kexecdbg.arm64.regimes import SCTLR_C
from kexecdbg.checks.finding import Finding, Severity
from kexecdbg.checks.qemu_laxity import remark
from kexecdbg.checks.rule import Rule
from kexecdbg.checks.set_up import LINE, Event, SetUp, on_every_way
from kexecdbg.checks.situation import Situation
from kexecdbg.checks.table_pages import descriptor_addresses, table_pages

_INVALIDATES = ("DC IVAC", "DC CIVAC")
_CLEANS_TO_MEMORY = ("DC CVAC", "DC CIVAC")
_BY_SET_AND_WAY = ("DC CISW", "DC ISW", "DC CSW")
_INSTRUCTION_CACHE = ("IC IALLU", "IC IALLUIS", "IC IVAU")


def _check(situation: Situation) -> Iterator[Finding]:
    for judge in (_stale_lines, _stale_instructions, _only_to_unification, _discarded, _set_and_way):
        finding = on_every_way(situation, judge)
        if finding is not None:
            yield finding


def _hazard(event: Event, text: str, **evidence: int | str | None) -> Finding:
    return Finding("M21", Severity.HAZARD, text + remark("M21"), {"instruction": event.text, **evidence})


def _stale_lines(set_up: SetUp) -> Finding | None:
    """Written with the MMU off, past the caches; read through them after the switch."""
    situation = set_up.situation
    if situation.is_live or not _caches_on(situation):
        return None
    since = -1 if set_up.off_at is None else set_up.off_at
    used = _read_through_caches(situation)
    if any(True for _ in set_up.maintenance(*_BY_SET_AND_WAY)):
        return None  # what that invalidates cannot be told
    for event, store in set_up.stores():
        assert store.pa is not None
        line = store.pa // LINE
        if event.position > since and line in used and not _treated(set_up, _INVALIDATES, line):
            return _hazard(
                event,
                f"{used[line].capitalize()} at {store.pa:#x} is written with the MMU off at "
                f"{event.instruction.address:#x} ({event.instruction.text}) and read through the caches after the "
                "switch: a stale line may hide what was written. Add dc ivac over it after the store, then dsb.",
                address=store.pa,
                missing="dc ivac",
            )
    return None


def _caches_on(situation: Situation) -> bool:
    sctlr = situation.after.get(situation.regime.facts.sctlr)
    return sctlr is not None and bool(bit(sctlr, SCTLR_C))


def _read_through_caches(situation: Situation) -> dict[int, str]:
    """Lines that are read as cacheable after the switch, by what they are: a descriptor, or data."""
    lines: dict[int, str] = {}
    for touch in situation.touches:
        result = situation.walk(touch.address)
        cacheable = result.memory_type is not None and result.memory_type.is_cacheable
        if touch.access is Access.READ and result.pa is not None and cacheable:
            lines[result.pa // LINE] = f"the {touch.kind.value}"
    if _walks_are_cacheable(situation):
        lines |= dict.fromkeys((address // LINE for address in descriptor_addresses(situation)), "the descriptor")
    return lines


def _walks_are_cacheable(situation: Situation) -> bool:
    """Whether TCR_ELx.IRGN of the range of the next PC makes walks cacheable."""
    facts = situation.regime.facts
    tcr = situation.after.get(facts.tcr)
    fields = facts.tcr_layout.ranges[facts.is_upper(situation.next_pc)]
    return tcr is not None and bits(tcr, *fields.irgn) != 0


def _treated(set_up: SetUp, operations: tuple[str, ...], line: int) -> bool:
    """Whether one of ``operations`` is done on the line, or on lines that cannot be told."""
    return any(found.pa is None or found.pa // LINE == line for _, found in set_up.maintenance(*operations))


def _stale_instructions(set_up: SetUp) -> Finding | None:
    """Code that was written on the way, with nothing done to the instruction cache."""
    situation = set_up.situation
    fetched = {
        result.pa // PAGE_SIZE
        for touch in situation.touches
        if touch.access is Access.FETCH and (result := situation.walk(touch.address)).pa is not None
    }
    for event, store in set_up.stores():
        assert store.pa is not None
        later = (found for found, _ in set_up.maintenance(*_INSTRUCTION_CACHE) if found.position > event.position)
        if store.pa // PAGE_SIZE in fetched and next(later, None) is None and not _invalidated_after(situation):
            return _hazard(
                event,
                f"Code at {store.pa:#x} is written at {event.instruction.address:#x} ({event.instruction.text}) and "
                "executed after the switch with no invalidation of the instruction cache: old instructions may run. "
                "Add dc cvau, dsb, ic ivau (or ic iallu), dsb, isb.",
                address=store.pa,
                missing="ic iallu",
            )
    return None


def _invalidated_after(situation: Situation) -> bool:
    """Whether the code after the switch begins with an invalidation of the instruction cache."""
    return any(
        getattr(effect, "operation", "") in _INSTRUCTION_CACHE
        for step in situation.aftermath.steps[:8]
        for effect in step.effects
    )


def _only_to_unification(set_up: SetUp) -> Finding | None:
    """Tables that are cleaned to the point of unification, with walks that go past the caches."""
    situation = set_up.situation
    if _walks_are_cacheable(situation):
        return None
    tables = table_pages(situation)
    for event, found in set_up.maintenance("DC CVAU"):
        if found.pa is None or found.pa // PAGE_SIZE not in tables:
            continue
        if not _treated(set_up, _CLEANS_TO_MEMORY, found.pa // LINE):
            return _hazard(
                event,
                f"The table at {found.pa:#x} is only cleaned to the point of unification "
                f"({event.instruction.address:#x}: {event.instruction.text}), and walks are Non-cacheable: they may "
                "read memory that does not have it yet. Use dc cvac.",
                address=found.pa,
                missing="dc cvac",
            )
    return None


def _discarded(set_up: SetUp) -> Finding | None:
    """Written through the caches, then invalidated without being cleaned."""
    before = len(set_up.way) if set_up.situation.is_live else set_up.off_at
    if before is None:
        return None
    cached = [(event.position, store) for event, store in set_up.stores() if event.position < before]
    for event, found in set_up.maintenance("DC IVAC"):
        if found.pa is None or _treated(set_up, _CLEANS_TO_MEMORY, found.pa // LINE):
            continue
        for position, store in cached:
            if store.pa is not None and found.pa // LINE == store.pa // LINE and position < event.position:
                return _hazard(
                    event,
                    f"{event.instruction.text} at {event.instruction.address:#x} discards {store.pa:#x}, which was "
                    "written through the caches before and not cleaned: what was written is lost. Use dc civac.",
                    address=store.pa,
                    missing="dc civac",
                )
    return None


def _set_and_way(set_up: SetUp) -> Finding | None:
    """Caches that were on are cleaned by set and way, and nothing is by address."""
    if set_up.off_at is None or any(True for _ in set_up.maintenance(*_CLEANS_TO_MEMORY)):
        return None
    found = [event for event, _ in set_up.maintenance(*_BY_SET_AND_WAY)]
    if not found:
        return None
    event = found[0]
    return _hazard(
        event,
        f"The caches are switched off, and only {event.instruction.text} at {event.instruction.address:#x} cleans "
        "them: by set and way reaches this CPU's caches alone, not those further out nor lines that move meanwhile. "
        "Clean what is read with the MMU off, and the tables, by address (dc civac) before.",
        missing="dc civac",
    )


RULE = Rule(
    "M21",
    "Cache maintenance is missing, too short, or by set and way",
    "With the MMU off, data accesses go past the caches; with it on they do not, nor do walks. What was written on "
    "one side and is read on the other has to be cleaned or invalidated by address to the point of coherency: DC IVAC "
    "after writing with the MMU off, DC CVAC or CIVAC before switching it off. DC CVAU reaches only the point of "
    "unification. DC IVAC throws away what was written through the caches. Operations by set and way are for "
    "power-down of one CPU. What memory holds tells nothing about that: the code before the switch is judged, as far "
    "as it can be read.",
    (
        "Arm ARM B2.11, D7.5.9 (cache maintenance), D7.5.9.5 (by set and way)",
        "EDK2 3391e20ffa, 748fea6279; Xen adf8340b3f, 4c2d50d586; bao 9d74004; jailhouse 7b6fc05e",
        "Mark Rutland on [RFC v2 8/8], 20190731155042.GF39768@lakrids.cambridge.arm.com (set and way)",
    ),
    _check,
    severity=Severity.HAZARD,
    symptom="An abort or wrong data right after the caches are on; it depends on what was in them, on hardware only.",
)
