"""Finds relocation code in memory where it was copied to, without symbols: by what the code does.

A candidate is a page that holds a write to SCTLR_EL1 and whose first instruction leads into a loop that goes through a
page list: it loads 64-bit entries one after the other, and tests their IND_DONE and IND_SOURCE bits.
"""

from __future__ import annotations

from kexecdbg.arm64.bits import bits
from kexecdbg.arm64.instructions import INSTRUCTION_SIZE
from kexecdbg.arm64.interfaces import PhysicalMemory
from kexecdbg.checks.copy_loop import CopyLoop, find_copy_loop
from kexecdbg.checks.relocating.landmarks import list_load
from kexecdbg.checks.relocation import CODE_PAGE_SIZE
from kexecdbg.errors import MemoryUnreadableError
from kexecdbg.kexec.page_list import EntryKind
from kexecdbg.machine.word_search import WordPattern, find_words

_SCTLR_EL1_WRITE = WordPattern(0xFFFF_FFE0, 0xD518_1000)
_TEST_BIT = 0x3600_0000
_TEST_BIT_MASK = 0x7E00_0000
"""TBZ and TBNZ (Arm ARM C6.2): bit 24 tells them apart, b5:b40 is the bit that is tested."""
_TESTED = {flag.bit_length() - 1 for flag in (EntryKind.DONE, EntryKind.SOURCE)}


def find_relocation_code(memory: PhysicalMemory) -> tuple[int, ...] | None:
    """Physical addresses of the pages that begin with relocation code; ``None`` when memory cannot be searched."""
    found = find_words(memory, [_SCTLR_EL1_WRITE])
    if found is None:
        return None
    pages = sorted({address - address % CODE_PAGE_SIZE for address in found.addresses})
    return tuple(page for page in pages if is_relocation_code(memory, page))


def is_relocation_code(memory: PhysicalMemory, page: int) -> bool:
    """Whether the page at the physical address ``page`` begins with relocation code."""

    def fetch(address: int) -> int:
        if not page <= address < page + CODE_PAGE_SIZE:
            raise MemoryUnreadableError(address, INSTRUCTION_SIZE, "it is in another page")
        return int.from_bytes(memory.read(address, INSTRUCTION_SIZE), "little")

    loop = find_copy_loop(fetch, page, ["X0"])
    return loop is not None and goes_through_page_list(loop)


def goes_through_page_list(loop: CopyLoop) -> bool:
    """Whether ``loop`` is the loop of a relocation, not just any loop that stores."""
    tested = {
        bits(each.word, 31, 31) << 5 | bits(each.word, 23, 19)
        for each in loop.loop
        if each.word & _TEST_BIT_MASK == _TEST_BIT
    }
    return list_load(loop) is not None and tested >= _TESTED
