"""Puts into a trace what the checks will want to read: their analyses are made while it is recorded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from kexecdbg.arm64.interfaces import PhysicalMemory
from kexecdbg.arm64.regimes import Regime, current_el, regime_of
from kexecdbg.arm64.scan import scan, scan_stage2
from kexecdbg.arm64.stage2 import stage2_enabled
from kexecdbg.arm64.walk import walk
from kexecdbg.checks.image_view import view_image
from kexecdbg.checks.judging import judge
from kexecdbg.checks.situation import Situation, situation_at
from kexecdbg.checks.stuck.diagnosis import diagnose
from kexecdbg.errors import KexecdbgError
from kexecdbg.kexec.argument import Role
from kexecdbg.kexec.list_reader import read_page_list
from kexecdbg.kexec.recognise import recognise
from kexecdbg.machine.state import CpuState

_GENERAL = 31


def look_at_switch(state: CpuState, memory: PhysicalMemory) -> None:
    """Read everything that judging the switch ahead of ``state`` needs, before and after it."""

    def judged() -> None:
        situation: Situation = situation_at(state, memory)
        judge(situation)
        _scan_tables(situation.after, memory)

    _attempt(judged)
    _attempt(partial(_scan_tables, state, memory))
    _look_at_page_lists(state, memory)


def look_at_end(state: CpuState, memory: PhysicalMemory) -> None:
    """Read everything that explaining where the CPU is now needs."""
    _attempt(partial(diagnose, state, memory))
    _attempt(partial(_scan_tables, state, memory))


def _scan_tables(state: CpuState, memory: PhysicalMemory) -> None:
    """The tables of the regime that ``state`` runs in, and of stage 2."""
    regime: Regime = regime_of(current_el(state), state)
    for ttbr in (0, 1) if regime.facts.two_ranges else (0,):
        _attempt(partial(scan, state, memory, regime, ttbr=ttbr))
    if stage2_enabled(state):
        scan_stage2(state, memory)


def _look_at_page_lists(state: CpuState, memory: PhysicalMemory) -> None:
    """What kexec-image reads, if a general register points to a relocation's argument."""
    values = dict.fromkeys(state.get(f"X{number}") for number in range(_GENERAL))
    for address in dict.fromkeys(address for value in values if value for address in _physical(state, memory, value)):
        found = recognise(memory, address)
        argument = found.argument
        if argument is not None:
            read_page_list(argument.require(Role.HEAD), memory)
            _attempt(partial(view_image, state, memory, argument))


def _physical(state: CpuState, memory: PhysicalMemory, pointer: int) -> Iterator[int]:
    """Physical addresses that ``pointer`` can mean: itself, and where it translates to now."""
    yield pointer
    try:
        translated = walk(state, memory, pointer, regime=regime_of(current_el(state), state)).pa
    except KexecdbgError:
        return
    if translated is not None:
        yield translated


def _attempt(look: Callable[[], object]) -> None:
    """Make an analysis; one that cannot be made reads nothing more, now or when the trace is replayed."""
    try:
        look()
    except KexecdbgError:
        return
