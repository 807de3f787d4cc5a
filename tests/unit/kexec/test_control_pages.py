"""The control pages of a kimage, by a list of struct pages made here; what is no such list is refused."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import pytest

from kexecdbg.errors import TargetError
from kexecdbg.kexec.argument import RelocationArgument, read_argument
from kexecdbg.kexec.audit import audit
from kexecdbg.kexec.control_pages import LIST_HEAD, LRU, PRIVATE, STRUCT_PAGE_SIZE, ControlPages, read_control_pages
from kexecdbg.kexec.defects import Area, AreaKind, DefectKind
from kexecdbg.kexec.kimage import KIMAGE_5_16
from kexecdbg.kexec.page_list import PAGE_SIZE, PageCopy
from kexecdbg.machine.memory import BytesMemory
from tests.unit.kexec.lists import page, read_copies, target

KIMAGE = 0x4_1000
CODE = 0x8_0000
PHYS_OFFSET = 0x4000_0000 + (1 << 48)
"""PA minus VA modulo 2**64, for RAM from 1 GiB on and 48-bit addresses; the kimage's VA is KIMAGE minus that."""
MEMMAP = 0xFFFF_FC00_0000_0000
MEMMAP_PA = 0x10_0000
HEAD = (KIMAGE - PHYS_OFFSET + KIMAGE_5_16.offsets[LIST_HEAD]) % (1 << 64)


def struct_page(address: int) -> int:
    """Virtual address of the struct page of the page at ``address``."""
    return MEMMAP + address // PAGE_SIZE * STRUCT_PAGE_SIZE


def locate(va: int) -> int | None:
    """Where the struct pages of the first MiB are."""
    return va - MEMMAP + MEMMAP_PA if MEMMAP <= va < MEMMAP + 0x4000 else None


def machine(blocks: Sequence[tuple[int, int]], **changes: int) -> tuple[BytesMemory, RelocationArgument]:
    """Memory with a kimage whose control pages are ``blocks``, (address, order) each."""
    memmap = bytearray(0x4000)
    entries = [struct_page(address) + LRU for address, _ in blocks]
    links = [HEAD, *entries, HEAD]
    for number, (address, order) in enumerate(blocks, start=1):
        place = struct_page(address) - MEMMAP
        struct.pack_into("<2Q", memmap, place + LRU, links[number + 1], links[number - 1])
        struct.pack_into("<Q", memmap, place + PRIVATE, order)
    values = {
        LIST_HEAD: links[1],
        "control_code_page": struct_page(CODE),
        "arch.kern_reloc": CODE,
        "arch.phys_offset": PHYS_OFFSET,
    }
    memory = BytesMemory({KIMAGE: KIMAGE_5_16.pack(values | changes), MEMMAP_PA: bytes(memmap)})
    return memory, read_argument(memory, KIMAGE, KIMAGE_5_16)


def test_blocks_are_joined() -> None:
    blocks = [(CODE, 0), (0x3_0000, 2), (0x3_4000, 0), (0x2_0000, 1)]
    memory, kimage = machine(blocks)
    found = read_control_pages(memory, locate, kimage)
    ranges = ((0x2_0000, 0x2_2000), (0x3_0000, 0x3_5000), (CODE, CODE + PAGE_SIZE))
    assert found == ControlPages(ranges, PAGE_SIZE)
    assert found.pages == 8


@pytest.mark.parametrize(
    ("blocks", "changes", "said"),
    [
        ([(CODE, 0), (0x3_0000, 63)], {}, "no struct page linked there"),
        ([(0x3_0000, 0)], {}, "does not have the page of the relocation code"),
        ([(CODE, 0)], {LIST_HEAD: MEMMAP + 0x8000}, "do not map"),
        ([(CODE, 0), (0x3_0000, 0)], {LIST_HEAD: struct_page(0x3_0000) + LRU}, "no struct page linked there"),
        ([(CODE, 0)], {"control_code_page": struct_page(CODE) + 8}, "no struct page of 64 bytes"),
        ([(CODE, 0)], {"arch.kern_reloc": 0}, "arch.kern_reloc is 0"),
    ],
)
def test_what_is_no_list_of_control_pages(
    blocks: Sequence[tuple[int, int]], changes: dict[str, int], said: str
) -> None:
    memory, kimage = machine(blocks, **changes)
    with pytest.raises(TargetError, match=said):
        read_control_pages(memory, locate, kimage)


def test_an_image_that_fills_control_pages() -> None:
    pages = read_copies([PageCopy(page(number), target(number)) for number in range(4)])
    control = [Area(AreaKind.CONTROL, "a control page", target(2), target(3)), Area(AreaKind.CONTROL, "", 0, PAGE_SIZE)]
    (defect,) = audit(pages, areas=control).defects
    assert (defect.kind, defect.count, defect.area) == (DefectKind.CONTROL_OVERWRITTEN, 1, control[0])
