"""Searches physical memory for the instructions that could have switched an MMU on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from kexecdbg.arm64.interfaces import PhysicalMemory
from kexecdbg.errors import MemoryUnreadableError
from kexecdbg.machine.memory_map import MemoryMap, RegionKind, memory_map_of
from kexecdbg.machine.state import CpuState
from kexecdbg.machine.word_search import WordPattern, find_words, matching_words

_CHUNK = 1 << 20
_PAGE = 4096
_AROUND = 1 << 16
"""Bytes before and after what a register points to that are searched."""
_MOST_SLOWLY = 1 << 24
"""Bytes searched at most through a debugger: some seconds."""
_POINTERS = (*(f"X{number}" for number in range(31)), "SP")
_CONTROL_POINTERS = ("VBAR", "TTBR0", "ELR")

SCTLR_WRITES = tuple(WordPattern(0xFFFF_FFE0, 0xD518_1000 | op1 << 16) for op1 in (0, 4, 5, 6))
"""``msr sctlr_el1|el2|el12|el3, xT`` (Arm ARM C6.2 MSR (register), D24.2.118): op1 tells them apart."""


@dataclass(frozen=True)
class Searched:
    """What a search has covered.

    Attributes:
        size: bytes.
        everything: all of the memory that holds anything but zeros.
    """

    size: int
    everything: bool


@dataclass(frozen=True)
class SwitchSearch:
    """Physical addresses of every ``msr`` to an SCTLR_ELx that was found, ascending, and what was covered."""

    addresses: tuple[int, ...]
    searched: Searched


def find_switches(
    state: CpuState,
    memory: PhysicalMemory,
    el: int,
    mapped: Iterable[tuple[int, int]],
    asked: Iterable[tuple[int, int]],
) -> SwitchSearch:
    """Every ``msr`` to an SCTLR_ELx in memory.

    Args:
        state: the CPU; its registers say where to look when memory cannot be searched whole.
        memory: physical memory.
        el: exception level of the code.
        mapped: physical ranges (end exclusive) that the tables map, which may hold the code.
        asked: ranges that the user wants searched, first.
    """
    found = find_words(memory, SCTLR_WRITES)
    if found is None:
        return _search(memory, _without_overlaps([*asked, *_near_registers(state, el), *mapped]), _MOST_SLOWLY)
    elsewhere = _search(memory, _without_overlaps(_outside_ram(memory, asked)), _MOST_SLOWLY)
    addresses = sorted({*found.addresses, *elsewhere.addresses})
    return SwitchSearch(tuple(addresses), Searched(found.size + elsewhere.searched.size, found.complete))


def _search(memory: PhysicalMemory, ranges: Iterable[tuple[int, int]], limit: int) -> SwitchSearch:
    """Read ``ranges``, up to ``limit`` bytes."""
    found: set[int] = set()
    size = 0
    for start, end in ranges:
        for address, data in _read(memory, start, min(end, start + limit - size)):
            found.update(address + offset for offset in matching_words(data, SCTLR_WRITES))
            size += len(data)
    return SwitchSearch(tuple(sorted(found)), Searched(size, everything=False))


def _outside_ram(memory: PhysicalMemory, ranges: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """The parts of ``ranges`` that a search of all RAM leaves out: ROM, and flash."""
    memory_map = memory_map_of(memory) or MemoryMap(())
    for start, end in ranges:
        for region in memory_map.regions:
            if region.kind is RegionKind.ROM and region.start < end and start < region.end:
                yield max(start, region.start), min(end, region.end)


def near(address: int, pointer: int) -> bool:
    """Whether ``pointer`` points to the page of ``address`` or close to it."""
    return abs(address - pointer) < _AROUND


def _near_registers(state: CpuState, el: int) -> Iterator[tuple[int, int]]:
    pointers = [*_POINTERS, *(f"{name}_EL{el}" for name in _CONTROL_POINTERS)]
    for value in (state.get(name) for name in pointers):
        if value is not None and value >= _PAGE:  # small numbers are counters, not addresses
            page = (value & 0x0000_FFFF_FFFF_FFFF) & ~(_PAGE - 1)
            yield max(0, page - _AROUND), page + _PAGE + _AROUND


def _without_overlaps(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """``ranges`` cut so that nothing is searched twice; their order, the most likely first, is kept."""
    result: list[tuple[int, int]] = []
    for wanted in ranges:
        pieces = [wanted]
        for start, end in list(result):
            pieces = [
                piece
                for left, right in pieces
                for piece in ((left, min(right, start)), (max(left, end), right))
                if piece[0] < piece[1]
            ]
        result += pieces
    return result


def _read(memory: PhysicalMemory, start: int, end: int) -> Iterator[tuple[int, bytes]]:
    """The readable parts of ``start`` to ``end`` (exclusive)."""
    for address in range(start & ~3, end, _CHUNK):
        size = min(_CHUNK, end - address)
        try:
            yield address, memory.read(address, size)
        except MemoryUnreadableError:
            yield from _read_pages(memory, address, address + size)


def _read_pages(memory: PhysicalMemory, start: int, end: int) -> Iterator[tuple[int, bytes]]:
    for address in range(start & ~(_PAGE - 1), end, _PAGE):
        try:
            yield address, memory.read(address, _PAGE)
        except MemoryUnreadableError:
            continue
