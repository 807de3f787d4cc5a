"""Words found in all of memory, and how much of it holds anything."""

from __future__ import annotations

import pytest

from kexecdbg.machine.memory import BytesMemory
from kexecdbg.machine.word_search import FoundWords, WordPattern, find_words, matching_words, scan_words

PAGE = 0x1000
RAM = 0x4000_0000
SWITCHES = tuple(WordPattern(0xFFFF_FFE0, 0xD518_1000 | op1 << 16) for op1 in (0, 4, 5, 6))


@pytest.mark.parametrize(
    ("word", "is_switch"),
    [
        (0xD518_1000, True),  # msr sctlr_el1, x0
        (0xD51C_101F, True),  # msr sctlr_el2, xzr
        (0xD51E_100E, True),  # msr sctlr_el3, x14
        (0xD51B_1000, False),  # op1 3: no SCTLR
        (0xD518_1020, False),  # actlr_el1
        (0xD538_1000, False),  # mrs
    ],
)
def test_words_of_several_patterns(word: int, is_switch: bool) -> None:
    data = bytes(8) + word.to_bytes(4, "little") + b"\xff\xff"
    assert list(matching_words(data, SWITCHES)) == ([8] if is_switch else [])


def test_words_that_are_not_aligned_are_none() -> None:
    assert list(matching_words(b"\0" + (0xD518_1000).to_bytes(4, "little") + bytes(3), SWITCHES)) == []


def test_all_of_memory_in_pieces_of_any_size() -> None:
    switch = (0xD51C_1000).to_bytes(4, "little")
    far = bytearray(3 << 20)
    far[(2 << 20) + 8 : (2 << 20) + 12] = switch
    memory = BytesMemory({RAM + 8: switch + bytes(4), RAM + PAGE: bytes(2 * PAGE) + b"\1", RAM + (1 << 24): bytes(far)})
    scan = scan_words(memory, memory.populated_ranges(), SWITCHES)
    assert scan.addresses == (RAM + 8, RAM + (1 << 24) + (2 << 20) + 8)
    assert scan.occupied == tuple((page, page + PAGE) for page in (RAM, RAM + 3 * PAGE, RAM + (1 << 24) + (2 << 20)))
    assert find_words(memory, SWITCHES) == FoundWords(scan.addresses, 3 * PAGE)


def test_memory_that_cannot_be_searched_whole() -> None:
    class Opaque:
        def read(self, address: int, size: int) -> bytes:
            return bytes(size)

    assert find_words(Opaque(), SWITCHES) is None
