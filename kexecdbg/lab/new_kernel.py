"""The image that the lab's relocations move: the "new kernel" and its device tree, cut into scattered pages."""

from __future__ import annotations

import random
import struct
from functools import lru_cache

from kexecdbg.kexec.page_list import PAGE_SIZE, PageCopy
from kexecdbg.lab.guest import build_program
from kexecdbg.lab.image import RamImage

DEVICE_TREE = 0x1_8000_0000
NEW_KERNEL = 0x1_8008_0000
NEW_KERNEL_PAGES = 64
SOURCES = 0x1_B320_0000
SOURCE_PAGES = 256

_REST_OF_LINE = r"[^\r\n]*(?=[\r\n])"
ARRIVED = f"new kernel: arrived whole{_REST_OF_LINE}"
"""Regular expression of the whole line that the new kernel prints when every page is what it should be."""
CORRUPT = f"new kernel: CORRUPT{_REST_OF_LINE}"
"""The same, when one is not."""

_FDT_HEADER = struct.pack(">10I", 0xD00DFEED, 72, 56, 56, 40, 17, 16, 0, 0, 16)
_FDT_BODY = struct.pack(">8I", 0, 0, 0, 0, 1, 0, 2, 9)
"""The smallest flattened device tree: a reservation block that is empty and a root node without properties."""
_WORD = 1 << 64


def place_sources(image: RamImage, *, adopts_lpi_tables: bool = False) -> list[PageCopy]:
    """Put the image's pages into the source area, scattered as pages that a running kernel had left; the copies.

    ``adopts_lpi_tables`` makes a new kernel that goes on with the LPI tables it finds in use, as Linux does.
    """
    segments = {
        NEW_KERNEL: _new_kernel_image(adopts_lpi_tables),
        DEVICE_TREE: (_FDT_HEADER + _FDT_BODY).ljust(PAGE_SIZE, b"\0"),
    }
    free = list(range(SOURCES, SOURCES + SOURCE_PAGES * PAGE_SIZE, PAGE_SIZE))
    random.Random(2019).shuffle(free)
    copies = []
    for start, data in segments.items():
        for offset in range(0, len(data), PAGE_SIZE):
            source = free.pop()
            image.place(source, data[offset : offset + PAGE_SIZE])
            copies.append(PageCopy(source, start + offset))
    return copies


@lru_cache(maxsize=2)
def _new_kernel_image(adopts_lpi_tables: bool) -> bytes:
    """The new kernel padded with known data to NEW_KERNEL_PAGES pages, its header filled in."""
    program = build_program("new_kernel", {"new_kernel_address": NEW_KERNEL})
    code = program.segments[NEW_KERNEL]
    padding = random.Random(2019).randbytes(NEW_KERNEL_PAGES * PAGE_SIZE - len(code))
    image = bytearray(code + padding)

    def offset(symbol: str) -> int:
        return program.symbols[symbol] - NEW_KERNEL

    factor = int.from_bytes(image[offset("checksum_factor") :][:8], "little")
    struct.pack_into("<Q", image, offset("image_words"), len(image) // 8)
    struct.pack_into("<Q", image, offset("adopts_lpi_tables"), int(adopts_lpi_tables))
    struct.pack_into("<Q", image, offset("image_checksum"), 0)
    checksum = 0
    for (word,) in struct.iter_unpack("<Q", image):
        checksum = (checksum * factor + word) % _WORD
    struct.pack_into("<Q", image, offset("image_checksum"), checksum)
    return bytes(image)
