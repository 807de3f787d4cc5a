"""A place for the first exception after the switch to stay in, so that its syndrome survives a CPU that runs freely.

Sixteen vectors of ``b .`` that can be fetched after the switch. The first exception enters one and stays: ESR, FAR and
ELR are those of what went wrong first, however long the machine runs on. Only memory and general registers are
written; VBAR_ELx, where it has to change, by an ``msr`` that the CPU executes in place of the instruction at its PC.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from kexecdbg.arm64.bits import bit, mask
from kexecdbg.arm64.descriptors import (
    AF_BIT,
    AP1_BIT,
    AP2_BIT,
    CONTIGUOUS_BIT,
    LEAF_KINDS,
    PXN_BIT,
    UXN_BIT,
    DescriptorKind,
)
from kexecdbg.arm64.faults import Access
from kexecdbg.arm64.geometry import GRANULE_4K, LAST_LEVEL
from kexecdbg.arm64.interfaces import PhysicalMemory
from kexecdbg.arm64.regimes import SCTLR_EE
from kexecdbg.arm64.vectors import VECTOR_SIZE, VECTORS_SIZE, vectors_base
from kexecdbg.arm64.walk_result import Walk
from kexecdbg.checks.fetching import fetched_from
from kexecdbg.checks.finding import DescriptorRepair
from kexecdbg.checks.predicting import predict, vector_after
from kexecdbg.checks.prediction import Outcome
from kexecdbg.checks.situation import Situation
from kexecdbg.checks.verdict import Verdict
from kexecdbg.errors import MemoryUnreadableError, UsageError
from kexecdbg.machine.memory_map import MemoryMap, memory_map_of
from kexecdbg.machine.overlay_memory import OverlayMemory

B_SELF = struct.pack("<I", 0x1400_0000)
"""``b .``"""
_BLOCKS_SEARCHED = 4096
"""How many 2 KiB blocks of executable memory are looked at for one that is free."""
_PAGE = 1 << GRANULE_4K.shift
_LEAF_ATTRIBUTES = mask(64) & ~mask(50) | mask(12) & ~mask(2)
"""Bits 63:50 and 11:2 of a leaf descriptor (Arm ARM D8.3.2)."""


class PadKind(enum.Enum):
    """Where the pad is."""

    VECTORS = "in the memory of the vectors"
    FREE_CODE = "in memory that the tables map executable and that holds only zeros"
    MAPPED_VECTORS = "in the memory of the vectors, which one descriptor makes executable"


@dataclass(frozen=True)
class LandingPad:
    """A landing pad, planned or placed.

    Attributes:
        kind: where it is.
        el: the exception level whose exceptions it takes.
        base: virtual address of its 16 vectors, what VBAR_ELx has to be.
        physical: their physical address.
        vector: virtual address where a synchronous exception of the code stays.
        saved: the first instruction of each vector as it was.
        descriptor: the change of the tables that it needs; ``None`` for none.
        level: of that descriptor.
        big_endian: whether descriptors are.
        vbar: the vector base register.
        old_base: what VBAR_ELx is without the pad.
    """

    kind: PadKind
    el: int
    base: int
    physical: int
    vector: int
    saved: tuple[bytes, ...]
    descriptor: DescriptorRepair | None
    level: int | None
    big_endian: bool
    vbar: str
    old_base: int

    @property
    def moves_vectors(self) -> bool:
        """Whether VBAR_ELx has to be written."""
        return self.base != vectors_base(self.old_base)

    @property
    def word(self) -> struct.Struct:
        """A descriptor as it is in memory."""
        return struct.Struct(">Q" if self.big_endian else "<Q")

    def places(self) -> Iterator[tuple[int, bytes]]:
        """Physical address of each vector, and its first instruction as it was."""
        for number, saved in enumerate(self.saved):
            yield self.physical + number * VECTOR_SIZE, saved

    def holds(self, pc: int | None) -> bool:
        """Whether a CPU at ``pc`` is in it."""
        return pc is not None and self.base <= pc < self.base + VECTORS_SIZE


def plan_landing_pad(verdict: Verdict) -> LandingPad:
    """Where a landing pad can be for the switch that ``verdict`` is about.

    In this order: in the memory of the vectors, if they can be fetched after the switch; in free memory that can; in
    the memory of the vectors, with one descriptor changed so that they can. A place that would change what the first
    exception is, is none.

    Raises:
        UsageError: there is no place; the message says what to do instead.
    """
    situation, first = verdict.situation, verdict.prediction.first
    if first is not None and first.el not in (None, situation.el):
        raise UsageError(f"the first exception is taken to EL{first.el}: a landing pad of EL{situation.el} is no use")
    vector = verdict.prediction.vector if first is not None else None
    if vector is None:
        vector = vector_after(situation, situation.aftermath.steps)
    for pad in _candidates(situation, vector):
        after = predict(_with_pad(situation, pad))
        unchanged = verdict.prediction.first == after.first
        if unchanged and after.outcome is (Outcome.IN_VECTOR if first is not None else verdict.prediction.outcome):
            return pad
    fault = situation.walk(vector).fault_for(Access.FETCH)
    # QEMU stops at a breakpoint before it fetches the instruction there, which would overwrite the syndrome.
    raise UsageError(
        "there is no place for a landing pad: the tables map no free memory executable, and the vectors at "
        f"{vector:#x} {f'take {fault.phrase}' if fault else 'cannot be written'}; hbreak *{vector:#x} and continue "
        "stop at the first exception with its syndrome, as kexec-step without --landing-pad does"
    )


def _candidates(situation: Situation, vector: int) -> Iterator[LandingPad]:
    base = vectors_base(vector)
    offset = vector - base
    old = situation.after.require(situation.regime.facts.vbar, "where an exception goes")
    walk = situation.walk(base)
    if walk.fault_for(Access.FETCH) is None and walk.pa is not None:
        yield from _pad(situation, PadKind.VECTORS, base, walk.pa, offset)
        return
    if base == vectors_base(old):
        for va, pa in _free_code(situation):
            yield from _pad(situation, PadKind.FREE_CODE, va, pa, offset)
    physical = fetched_from(situation.before, situation.memory, base)
    if physical is not None:
        for change in _made_executable(situation, walk, base, physical):
            yield from _pad(situation, PadKind.MAPPED_VECTORS, base, physical, offset, change)


def _pad(
    situation: Situation, kind: PadKind, base: int, physical: int, offset: int, change: DescriptorRepair | None = None
) -> Iterator[LandingPad]:
    """The pad at ``physical``, if that is memory that can be read and written."""
    memory_map, facts = situation.memory_map, situation.regime.facts
    if memory_map is not None and not memory_map.is_memory(physical):
        return
    try:
        content = situation.memory.read(physical, VECTORS_SIZE)
    except MemoryUnreadableError:
        return
    walk = situation.walk(base)
    yield LandingPad(
        kind,
        situation.el,
        base,
        physical,
        base + offset,
        tuple(content[start : start + len(B_SELF)] for start in range(0, VECTORS_SIZE, VECTOR_SIZE)),
        change,
        walk.levels[-1].level if change is not None else None,
        bool(bit(situation.after.get(facts.sctlr) or 0, SCTLR_EE)),
        facts.vbar,
        situation.after.require(facts.vbar, "where an exception goes"),
    )


def _free_code(situation: Situation) -> Iterator[tuple[int, int]]:
    """Virtual and physical addresses of 2 KiB blocks of zeros that can be fetched from and that nothing else is in."""
    used = _used_pages(situation)
    searched = 0
    for scan in situation.scans:
        for item in scan.ranges:
            if not item.privileged.execute or scan.output_is_ipa:
                continue
            for va in range(item.va, item.end - VECTORS_SIZE + 1, VECTORS_SIZE):
                searched += 1
                if searched > _BLOCKS_SEARCHED:
                    return
                pa = item.pa + va - item.va
                if pa // _PAGE not in used and _is_free(situation, pa) and _fetchable(situation, va, pa):
                    yield va, pa


def _used_pages(situation: Situation) -> frozenset[int]:
    """Numbers of the 4 KiB pages of memory that hold tables, or data that the code is known to use."""
    used = {
        page
        for scan in situation.scans
        for start, size in scan.table_places
        for page in range(start // _PAGE, (start + size - 1) // _PAGE + 1)
    }
    stack = situation.before.get("SP")
    data = [touch.address for touch in situation.touches if touch.access is not Access.FETCH]
    for va in (*data, *(() if stack is None else (stack, max(0, stack - _PAGE)))):
        pa = situation.walk(va).pa
        if pa is not None:
            used.add(pa // _PAGE)
    return frozenset(used)


def _is_free(situation: Situation, pa: int) -> bool:
    relocation, memory_map = situation.relocation, situation.memory_map
    if memory_map is not None and not memory_map.is_memory(pa):
        return False
    if relocation is not None and relocation.overwritten(pa, pa + VECTORS_SIZE) is not None:
        return False
    try:
        return not any(situation.memory.read(pa, VECTORS_SIZE))
    except MemoryUnreadableError:
        return False


def _fetchable(situation: Situation, va: int, pa: int) -> bool:
    walk = situation.walk(va)
    return walk.fault_for(Access.FETCH) is None and walk.pa == pa


def _made_executable(situation: Situation, walk: Walk, base: int, physical: int) -> Iterator[DescriptorRepair]:
    """The descriptor writes that make ``base`` lead to ``physical`` and executable, the smallest change first."""
    if not walk.levels or walk.levels[-1].descriptor is None:
        return
    last = walk.levels[-1]
    old = last.descriptor or 0
    if last.kind in LEAF_KINDS:
        candidates = [old & ~_execute_never(situation) | 1 << AF_BIT]
        text = "makes the vectors executable"
    elif last.kind is DescriptorKind.INVALID:
        new = _leaf_like_the_code(situation, last.level, base, physical)
        candidates = [] if new is None else [new]
        text = "maps the vectors, executable"
    else:
        return
    # With WXN, or where EL0 may write, only a read-only page is executable.
    candidates += [new & ~(1 << AP1_BIT) | 1 << AP2_BIT for new in candidates]
    for new in candidates:
        result = situation.walk(base, words={last.address: new})
        if new != old and result.fault_for(Access.FETCH) is None and result.pa == physical:
            yield DescriptorRepair(last.address, old, new, text)


def _execute_never(situation: Situation) -> int:
    return 1 << (PXN_BIT if situation.regime.facts.two_ranges else UXN_BIT)


def _leaf_like_the_code(situation: Situation, level: int, base: int, physical: int) -> int | None:
    """A leaf at ``level`` that maps ``base`` to ``physical`` with the attributes of the code's, but executable."""
    leaf = situation.fetch.levels[-1] if situation.fetch.levels else None
    table = next((scan.table_format for scan in situation.scans), None)
    if leaf is None or leaf.kind not in LEAF_KINDS or leaf.descriptor is None or table is None or physical >> 48:
        return None
    if level != LAST_LEVEL and not table.block_allowed(level):
        return None
    offset = mask(table.shift(level))
    start, memory_map = physical & ~offset, situation.memory_map
    if base & offset != physical & offset:
        return None
    if memory_map is not None and not (memory_map.is_memory(start) and memory_map.is_memory(start + offset)):
        return None
    attributes = leaf.descriptor & _LEAF_ATTRIBUTES & ~_execute_never(situation) & ~(1 << CONTIGUOUS_BIT)
    if table.ds:
        attributes &= ~(0b11 << 8)  # PA[51:50] are there
    return start | attributes | 1 << AF_BIT | (0b11 if level == LAST_LEVEL else 0b01)


class _MappedOverlay(OverlayMemory):
    """Memory with words replaced, of a machine whose memory map is known."""

    def __init__(self, memory: PhysicalMemory, words: Mapping[int, int], big_endian: bool, known: MemoryMap) -> None:
        super().__init__(memory, words, big_endian)
        self.memory_map = known


def _with_pad(situation: Situation, pad: LandingPad) -> Situation:
    """``situation`` as it is with ``pad`` in place; its instructions do not matter."""
    values = {pad.vbar: pad.base} if pad.moves_vectors else {}
    words = {} if pad.descriptor is None else {pad.descriptor.address: pad.descriptor.new}
    memory_map = memory_map_of(situation.memory)
    memory = (
        OverlayMemory(situation.memory, words, pad.big_endian)
        if memory_map is None
        else _MappedOverlay(situation.memory, words, pad.big_endian, memory_map)
    )
    return replace(
        situation,
        before=situation.before.with_values(values),
        after=situation.after.with_values(values),
        memory=memory if words else situation.memory,
    )
