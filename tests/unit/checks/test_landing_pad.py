"""Where a landing pad goes, what is written for it, and that all of it is put back."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kexecdbg.checks.judging import judge
from kexecdbg.checks.landing_pad import B_SELF, PadKind, plan_landing_pad
from kexecdbg.checks.pad_placement import is_in_memory, place, remove
from kexecdbg.checks.prediction import Outcome
from kexecdbg.checks.situation import situation_at
from kexecdbg.errors import MemoryUnreadableError, TargetError, UsageError
from kexecdbg.machine.memory import BytesMemory
from tests.unit.checks.moments import AP2, CODE, EE, EXEC, SCTLR, UXN, VECTORS, WXN, ZEROS, Moment
from tests.unit.checks.paper_debugger import PaperDebugger

CODE_XN = Moment(code=EXEC | UXN, registers={"X9": 9, "SP": 0x1_4800_0000})
"""Vectors that can be fetched."""
NOTHING_EXECUTABLE = replace(CODE_XN, vectors=None)
VECTORS_XN = replace(CODE_XN, vectors=EXEC | UXN)
FREE_PAGE = replace(NOTHING_EXECUTABLE, adjust=lambda tables: tables.map_page(ZEROS, ZEROS, EXEC))
"""A page of zeros that the tables map executable."""
BIG_ENDIAN = replace(NOTHING_EXECUTABLE, registers={**CODE_XN.registers, "X14": SCTLR | EE}, big_endian=True)
WRITE_EXECUTE_NEVER = replace(NOTHING_EXECUTABLE, registers={**CODE_XN.registers, "X14": SCTLR | WXN})
ONE_BLOCK = replace(CODE_XN, code=None, vectors=None, adjust=lambda tables: tables.map_leaf(CODE, CODE, EXEC | UXN, 1))
"""Code and vectors in one block, execute-never."""
BLOCK = EXEC & ~0b10
"""There is no level 3 table for the vectors: the level 2 entry becomes a block."""
PLACES = {
    "vectors": (CODE_XN, PadKind.VECTORS, VECTORS, None),
    "free page": (FREE_PAGE, PadKind.FREE_CODE, ZEROS, None),
    "vectors not mapped": (NOTHING_EXECUTABLE, PadKind.MAPPED_VECTORS, VECTORS, VECTORS | BLOCK),
    "vectors execute-never": (VECTORS_XN, PadKind.MAPPED_VECTORS, VECTORS, VECTORS | EXEC),
    "big-endian": (BIG_ENDIAN, PadKind.MAPPED_VECTORS, VECTORS, VECTORS | BLOCK),
    "WXN": (WRITE_EXECUTE_NEVER, PadKind.MAPPED_VECTORS, VECTORS, VECTORS | BLOCK | AP2),
}


@pytest.mark.parametrize(("moment", "kind", "base", "descriptor"), PLACES.values(), ids=list(PLACES))
def test_with_the_pad_the_first_exception_is_the_same_and_stays_in_it(
    moment: Moment, kind: PadKind, base: int, descriptor: int | None
) -> None:
    verdict = moment.verdict()
    pad = plan_landing_pad(verdict)
    assert (pad.kind, pad.base, pad.physical, pad.vector) == (kind, base, base, base + 0x200)
    assert (pad.descriptor.new if pad.descriptor else None) == descriptor
    assert pad.moves_vectors == (kind is PadKind.FREE_CODE)
    debugger = PaperDebugger(moment)
    place(debugger, debugger.memory, pad)
    after = judge(situation_at(debugger.state(), debugger.memory)).prediction
    assert (after.first, after.then, after.outcome) == (verdict.prediction.first, None, Outcome.IN_VECTOR)
    assert after.vector == pad.vector
    assert [debugger.memory.read(base + offset, 4) for offset in range(0, 0x800, 0x80)] == [B_SELF] * 16


@pytest.mark.parametrize("moment", [place[0] for place in PLACES.values()], ids=list(PLACES))
def test_taken_away_nothing_is_left(moment: Moment) -> None:
    debugger = PaperDebugger(moment)
    pad = plan_landing_pad(moment.verdict())
    before = contents(debugger), dict(debugger.registers)
    place(debugger, debugger.memory, pad)
    assert contents(debugger) != before[0]
    removal = remove(debugger, debugger.memory, pad)
    assert (contents(debugger), debugger.registers) == before
    assert (removal.kept, removal.vbar, removal.parked) == ((), VECTORS, False)


def test_a_pad_of_which_only_the_descriptor_is_a_change_is_found_again() -> None:
    debugger = PaperDebugger(VECTORS_XN)
    for offset in range(0, 0x800, 0x80):
        debugger.memory.write(VECTORS + offset, B_SELF)
    pad = plan_landing_pad(judge(situation_at(debugger.state(), debugger.memory)))
    assert [saved for _, saved in pad.places()] == [B_SELF] * 16
    found = [is_in_memory(debugger.memory, pad)]
    place(debugger, debugger.memory, pad)
    found.append(is_in_memory(debugger.memory, pad))
    remove(debugger, debugger.memory, pad)
    assert [*found, is_in_memory(debugger.memory, pad)] == [False, True, False]


def contents(debugger: PaperDebugger) -> list[bytes]:
    return [debugger.memory.read(start, end - start) for start, end in debugger.memory.populated_ranges()]


def test_a_page_that_is_in_use_is_not_free() -> None:
    stack = replace(FREE_PAGE, registers={**FREE_PAGE.registers, "SP": ZEROS + 0x1000})
    assert plan_landing_pad(stack.verdict()).kind is PadKind.MAPPED_VECTORS
    filled = replace(FREE_PAGE, extra={ZEROS: b"\0" * 0x7FF + b"\1" + b"\0" * 0x7FF + b"\1"})
    assert plan_landing_pad(filled.verdict()).kind is PadKind.MAPPED_VECTORS


def test_a_place_that_would_cure_the_fault_is_none() -> None:
    with pytest.raises(UsageError, match=rf"no place for a landing pad.*; hbreak \*{VECTORS + 0x200:#x} and continue "):
        plan_landing_pad(ONE_BLOCK.verdict())


class FailingMemory:
    """Memory in which one write fails."""

    def __init__(self, memory: BytesMemory, address: int) -> None:
        self.memory, self.address = memory, address

    def read(self, address: int, size: int) -> bytes:
        return self.memory.read(address, size)

    def write(self, address: int, data: bytes) -> None:
        if address == self.address:
            raise MemoryUnreadableError(address, len(data), "write refused")
        self.memory.write(address, data)


def test_a_write_that_fails_leaves_nothing_behind() -> None:
    debugger = PaperDebugger(NOTHING_EXECUTABLE)
    before = contents(debugger)
    pad = plan_landing_pad(NOTHING_EXECUTABLE.verdict())
    with pytest.raises(MemoryUnreadableError, match="write refused"):
        place(debugger, FailingMemory(debugger.memory, VECTORS + 8 * 0x80), pad)
    assert contents(debugger) == before


def test_a_vbar_that_does_not_take_leaves_nothing_behind() -> None:
    debugger = PaperDebugger(FREE_PAGE)
    debugger.dropped = frozenset({"VBAR_EL2"})
    before = contents(debugger), dict(debugger.registers)
    with pytest.raises(TargetError, match="VBAR_EL2: msr was executed"):
        place(debugger, debugger.memory, plan_landing_pad(FREE_PAGE.verdict()))
    assert (contents(debugger), debugger.registers) == before


def test_what_has_changed_meanwhile_is_left_and_named() -> None:
    debugger = PaperDebugger(FREE_PAGE)
    pad = plan_landing_pad(FREE_PAGE.verdict())
    place(debugger, debugger.memory, pad)
    debugger.memory.write(ZEROS + 0x80, b"\1\2\3\4")
    debugger.registers |= {"PC": 0x1_4FFF_0000, "PSTATE": 0x3C5}
    removal = remove(debugger, debugger.memory, pad)
    vbar, changed = removal.kept
    assert vbar == f"VBAR_EL2 stays {ZEROS:#x} (it was {VECTORS:#x}): the CPU is at EL1"
    assert changed.startswith(f"{ZEROS + 0x80:#x} has changed since, to 01020304")
    assert debugger.memory.read(ZEROS + 0x80, 4) == b"\1\2\3\4"
    assert debugger.memory.read(ZEROS + 0x100, 4) == bytes(4)
