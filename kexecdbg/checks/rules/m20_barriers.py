"""M20: a barrier is missing around the switch."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from kexecdbg.arm64.evaluation import MemoryAccess, SystemWrite
from kexecdbg.arm64.evaluation.address_space import PAGE_SIZE
from kexecdbg.arm64.faults import Access
from kexecdbg.arm64.instructions import Flow, Instruction
from kexecdbg.arm64.tlb_maintenance import Coverage
from kexecdbg.checks.fetching import code_reader
from kexecdbg.checks.finding import Finding, Severity
from kexecdbg.checks.qemu_laxity import remark
from kexecdbg.checks.rule import Rule
from kexecdbg.checks.set_up import SetUp, is_context_synchronization, on_every_way
from kexecdbg.checks.situation import Situation
from kexecdbg.checks.table_pages import table_pages
from kexecdbg.errors import MemoryUnreadableError


def _check(situation: Situation) -> Iterator[Finding]:
    for judge in (_not_synchronized, _tlbi_not_completed, _table_store_not_completed):
        finding = on_every_way(situation, judge)
        if finding is not None:
            yield finding
    yield from _used_before_isb(situation)


def _hazard(text: str, **evidence: int | str | None) -> Finding:
    return Finding("M20", Severity.HAZARD, text + remark("M20"), evidence)


def _not_synchronized(set_up: SetUp) -> Finding | None:
    """A register write that the switch can overtake."""
    late = [event for event in set_up.translation_writes if not set_up.synchronized_after(event.position)]
    if not late:
        return None
    names = dict.fromkeys(e.effect.register for e in late if isinstance(e.effect, SystemWrite))
    site, last = set_up.situation.site, late[-1]
    return _hazard(
        f"No ISB between the write of {' and '.join(names)} (last at {last.instruction.address:#x}) and the switch at "
        f"{site:#x}: the first fetches may be translated with the old values. Add isb before the switch.",
        missing="isb",
        before=site,
        after=last.text,
    )


def _tlbi_not_completed(set_up: SetUp) -> Finding | None:
    for event, covered in set_up.invalidations:
        if covered in (Coverage.ALL, Coverage.SOME) and not set_up.completed_after(event.position, maintenance=True):
            return _hazard(
                f"{event.instruction.text} at {event.instruction.address:#x} is not completed by a DSB before the "
                f"switch at {set_up.situation.site:#x}: old entries may still be used. Add dsb nsh and isb after it.",
                missing="dsb",
                before=set_up.situation.site,
                after=event.text,
            )
    return None


def _table_store_not_completed(set_up: SetUp) -> Finding | None:
    tables = table_pages(set_up.situation)
    for event, store in set_up.stores():
        assert store.pa is not None
        if store.pa // PAGE_SIZE in tables and not set_up.completed_after(event.position, maintenance=False):
            return _hazard(
                f"The store to the tables at {event.instruction.address:#x} ({event.instruction.text}, to "
                f"{store.pa:#x}) is not completed by a DSB before the switch at {set_up.situation.site:#x}: a walk may "
                "find the old descriptor. Add dsb ishst, then isb.",
                missing="dsb",
                before=set_up.situation.site,
                after=event.text,
                address=store.pa,
            )
    return None


def _used_before_isb(situation: Situation) -> Iterator[Finding]:
    """The first thing after the switch that needs the new translation, if no ISB comes before it."""
    if situation.is_assumed:
        return
    old_code = code_reader(situation.before, situation.memory)
    pages: set[int] = set()
    for step in situation.aftermath.steps:
        instruction = step.instruction
        page = instruction.address // PAGE_SIZE
        if page not in pages and situation.walk(instruction.address).fault_for(Access.FETCH) is not None:
            return
        pages.add(page)
        if not _is_same(instruction, old_code):
            what = f"the fetch of {instruction.address:#x}, which the old translation finds elsewhere or not at all,"
            yield _no_isb(situation, instruction, what)
            return
        for effect in step.effects:
            if is_context_synchronization(effect):
                return
            if isinstance(effect, MemoryAccess):
                kind = "store" if effect.access is Access.WRITE else "load"
                yield _no_isb(situation, instruction, f"the {kind} at {instruction.address:#x} ({instruction.text})")
                return
        if instruction.flow is Flow.RETURN:
            return


def _is_same(instruction: Instruction, old_code: Callable[[int], int]) -> bool:
    """Whether the fetch finds the same instruction with the old translation as with the new one."""
    try:
        return old_code(instruction.address) == instruction.word
    except MemoryUnreadableError:
        return False


def _no_isb(situation: Situation, instruction: Instruction, what: str) -> Finding:
    return _hazard(
        f"No ISB between the switch at {situation.site:#x} and {what}: it may still be made with the MMU off. Add isb "
        "after the switch.",
        missing="isb",
        after=situation.site,
        before=f"{instruction.address:#x}: {instruction.text}",
    )


RULE = Rule(
    "M20",
    "A barrier is missing around the switch",
    "A write of TTBR, TCR, MAIR or SCTLR is sure to take effect only after a context synchronization event: ISB, or an "
    "exception. Without one between those of the tables and that of SCTLR_ELx.M, the MMU may be on with the old TCR or "
    "TTBR; without one after it, the next instructions may run with the MMU off, which only code that is mapped where "
    "it runs and touches no data can bear. A TLBI is complete after a DSB for loads and stores, a store to the tables "
    "is seen by walks after a DSB. Judged over the code around the switch as far as it can be read.",
    (
        "Arm ARM D24.1.2.2 (synchronization requirements for System registers), B2.3.13 (DSB), D8.17.5; Arm DEN0024A, "
        '"Configuring and enabling the MMU"',
        "EDK2 ee95f9e1fa, 5ce29ae84d; Xen 25424d1a6b, 64f996dee1, d29a767d04; m1n1 954f80c6",
        "Linux [RFC v2 7/8] 20190731153857.4045-8-pasha.tatashin@soleen.com (TCR and MAIR, then SCTLR)",
    ),
    _check,
    severity=Severity.HAZARD,
    symptom="Freezes now and then, on some hardware only; moving code around changes it.",
)
