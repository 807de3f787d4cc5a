"""The control pages of a kimage: memory that the kernel set aside for the relocation itself, never a destination.

``kimage->control_pages`` is a list of ``struct page`` linked through ``page->lru``; each stands for a block of
``1 << page->private`` pages (Linux kernel/kexec_core.c, kimage_alloc_pages() and
kimage_alloc_normal_control_pages()). On arm64 the relocation code, its tables and vectors are on it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from kexecdbg.arm64.interfaces import PhysicalMemory
from kexecdbg.errors import MemoryUnreadableError, TargetError
from kexecdbg.kexec.argument import RelocationArgument
from kexecdbg.kexec.page_list import PAGE_SIZE

LIST_HEAD = "control_pages"
STRUCT_PAGE_SIZE = 64
"""Of every configuration that Debian, Fedora and defconfig have; another one is noticed."""
LRU, PRIVATE = 8, 40
"""Byte offsets in struct page (Linux include/linux/mm_types.h): a struct list_head, and the order of the block."""

_STRUCT_PAGE = struct.Struct("<8Q")
_MAX_ORDER = 16
_ADDRESSES = 1 << 64

Locate = Callable[[int], int | None]
"""The physical address of a virtual one of the running kernel, or ``None`` when it is not mapped."""


@dataclass(frozen=True)
class ControlPages:
    """The control pages.

    Attributes:
        ranges: physical memory, (start, end) with ``end`` exclusive, ascending and joined.
        page_size: bytes of a page.
    """

    ranges: tuple[tuple[int, int], ...]
    page_size: int

    @property
    def pages(self) -> int:
        """How many there are."""
        return sum(end - start for start, end in self.ranges) // self.page_size


def read_control_pages(
    memory: PhysicalMemory, locate: Locate, kimage: RelocationArgument, page_size: int = PAGE_SIZE
) -> ControlPages:
    """Walk ``kimage->control_pages``.

    Where a struct page's memory is follows from ``kimage->control_code_page``, whose physical address is in
    ``arch.kern_reloc`` (arch/arm64/kernel/machine_kexec.c, machine_kexec_post_load()): where the kernel has its
    vmemmap need not be known.

    Raises:
        TargetError: the list cannot be followed to its end, or is not one.
    """
    values = kimage.values
    if LIST_HEAD not in values:
        raise TargetError(f"the layout ({kimage.layout.name}) does not say where kimage->{LIST_HEAD} is")
    code_page, code = values["control_code_page"], values["arch.kern_reloc"]
    if not code:
        raise TargetError("arch.kern_reloc is 0, so that no struct page can be told from its address")
    found: dict[int, int] = {}
    for page, order in _list(memory, locate, kimage):
        distance, misplaced = divmod(page - code_page, STRUCT_PAGE_SIZE)
        start = code + distance * page_size
        if misplaced or start < 0:
            raise TargetError(f"{page:#x} on kimage->{LIST_HEAD} is no struct page of {STRUCT_PAGE_SIZE} bytes")
        found[start] = start + (page_size << order)
    if code not in found:
        raise TargetError(f"kimage->{LIST_HEAD} does not have the page of the relocation code")
    return ControlPages(tuple(_joined(sorted(found.items()))), page_size)


def _list(memory: PhysicalMemory, locate: Locate, kimage: RelocationArgument) -> Iterator[tuple[int, int]]:
    """Virtual address of each struct page on the list, and the order of its block."""
    head = (kimage.address - kimage.values["arch.phys_offset"] + kimage.layout.offsets[LIST_HEAD]) % _ADDRESSES
    entry, before = kimage.values[LIST_HEAD], head
    seen: set[int] = set()
    while entry != head:
        page = entry - LRU
        pa = locate(page)
        if pa is None:
            raise TargetError(f"kimage->{LIST_HEAD} leads to {page:#x}, which the present tables do not map")
        if entry in seen:
            raise TargetError(f"kimage->{LIST_HEAD} leads back to {page:#x}")
        seen.add(entry)
        try:
            words = _STRUCT_PAGE.unpack(memory.read(pa, _STRUCT_PAGE.size))
        except MemoryUnreadableError as error:
            raise TargetError(f"kimage->{LIST_HEAD} leads to {page:#x}: {error}") from error
        following, previous, order = words[LRU // 8], words[LRU // 8 + 1], words[PRIVATE // 8]
        if previous != before or order > _MAX_ORDER:
            raise TargetError(f"kimage->{LIST_HEAD} leads to {page:#x}, which is no struct page linked there")
        yield page, order
        entry, before = following, entry


def _joined(ranges: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    start, end = ranges[0]
    for following, its_end in ranges[1:]:
        if following <= end:
            end = max(end, its_end)
        else:
            yield start, end
            start, end = following, its_end
    yield start, end
