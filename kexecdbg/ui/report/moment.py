"""The translation that a report shows: after the switch that was judged, or now, as if the MMU were on."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from kexecdbg.arm64.faults import Access
from kexecdbg.arm64.interfaces import PhysicalMemory
from kexecdbg.arm64.ranges import TableScan
from kexecdbg.arm64.regimes import Regime, current_el, regime_of
from kexecdbg.arm64.walk import Walk, walk
from kexecdbg.checks.situation import Situation
from kexecdbg.checks.table_scans import scan_tables
from kexecdbg.checks.table_view import tables_as_if_on
from kexecdbg.checks.touches import TouchKind
from kexecdbg.checks.verdict import Verdict
from kexecdbg.errors import RegisterUnknownError
from kexecdbg.machine.state import CpuState
from kexecdbg.ui.report.address_map import Mark
from kexecdbg.ui.report.subject import Subject

_MOST_MARKS = 8
_KINDS = {TouchKind.FETCH: "code", TouchKind.VECTOR: "vector"}


@dataclass(frozen=True)
class Probe:
    """An access that a report follows.

    Attributes:
        title: what it is.
        address: virtual.
        access: what the CPU wants there.
    """

    title: str
    address: int
    access: Access


@dataclass(frozen=True)
class Moment:
    """Registers, memory and tables as they are when the next instruction is fetched.

    Attributes:
        state, memory, regime: what translates.
        before: the registers before the switch; without one, those of the machine, of which ``state`` assumes more.
        follows_switch: whether ``state`` is what a switch leads to.
        probes: the accesses to follow, the one that decides first.
        marks: what to mark on the map of the address space.
        scans: everything that is mapped.
        remark: what was assumed, as a clause; or empty.
    """

    state: CpuState
    memory: PhysicalMemory
    regime: Regime
    before: CpuState
    follows_switch: bool
    probes: tuple[Probe, ...]
    marks: tuple[Mark, ...]
    scans: tuple[TableScan, ...]
    remark: str = ""

    def walk(self, va: int) -> Walk:
        """Translate ``va``."""
        return walk(self.state, self.memory, va, regime=self.regime)


def moment_of(subject: Subject) -> Moment:
    """The moment that ``subject`` is about.

    Raises:
        RegisterUnknownError: PSTATE, HCR_EL2, SCTLR_ELx or a register that decides about the tables is unknown.
    """
    if subject.verdict is not None:
        return _at_switch(subject.verdict)
    state = subject.state
    regime = regime_of(current_el(state), state)
    view = tables_as_if_on(state, subject.memory, regime)
    pc = state.require("PC", "what is fetched next")
    fetch = Probe("The instruction at the PC", pc, Access.FETCH)
    faults = walk(view.state, subject.memory, pc, regime=regime).fault_for(Access.FETCH) is not None
    scans = scan_tables(view.state, subject.memory, regime)
    marks = (Mark(pc, f"PC {pc:#x}", faults),)
    return Moment(view.state, subject.memory, regime, state, False, (fetch,), marks, scans, view.remark)


def _at_switch(verdict: Verdict) -> Moment:
    situation = verdict.situation
    return Moment(
        situation.after,
        situation.memory,
        situation.regime,
        situation.before,
        True,
        _probes(verdict),
        _marks(situation),
        situation.scans,
    )


def _probes(verdict: Verdict) -> tuple[Probe, ...]:
    situation, at = verdict.situation, verdict.prediction.at
    probes = [Probe("The next fetch, right after the switch", situation.next_pc, Access.FETCH)]
    if verdict.prediction.first is not None and at is not None and at.target is not None and at.access is not None:
        decides = Probe(f"The {at.access.value} that faults", at.target, at.access)
        if (decides.address, decides.access) != (situation.next_pc, Access.FETCH):
            probes.insert(0, decides)
    with contextlib.suppress(RegisterUnknownError):  # of VBAR or PSTATE: nobody can say where an exception goes
        probes.append(Probe("The exception vector", situation.vector, Access.FETCH))
    return tuple(dict.fromkeys(probes))


def _marks(situation: Situation) -> tuple[Mark, ...]:
    marks = {}
    next_pc = situation.next_pc
    faults = situation.fetch_fault is not None
    marks[next_pc >> 12, "code"] = Mark(next_pc, f"next fetch {next_pc:#x}", faults)
    for touch in situation.touches:
        kind = _KINDS.get(touch.kind, touch.kind.value)
        bad = situation.walk(touch.address).fault_for(touch.access) is not None
        key = touch.address >> 12, kind
        if key not in marks or (bad and not marks[key].bad):
            marks[key] = Mark(touch.address, f"{kind} {touch.address:#x}", bad)
    # Those that fault first; the others as far as there is room.
    chosen = sorted(marks.values(), key=lambda mark: not mark.bad)[:_MOST_MARKS]
    return tuple(sorted(chosen, key=lambda mark: mark.address))
