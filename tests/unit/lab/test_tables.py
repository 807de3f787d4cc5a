"""The lab's table builder, its RAM image, and the guest laid out from a case."""

from __future__ import annotations

import struct

import pytest

from kexecdbg.errors import KexecdbgError
from kexecdbg.kexec.argument import read_argument
from kexecdbg.kexec.list_reader import read_page_list
from kexecdbg.kexec.reloc_arg import RFC_V2
from kexecdbg.lab.image import RamImage
from kexecdbg.lab.new_kernel import DEVICE_TREE, NEW_KERNEL, NEW_KERNEL_PAGES
from kexecdbg.lab.relocation import (
    ARGUMENT,
    RELOCATION_CODE,
    TRANS_TABLE,
    RelocationCase,
    RelocationGuest,
)
from kexecdbg.lab.tables import PAGE_KERNEL, PAGE_KERNEL_EXEC, TableBuilder
from kexecdbg.machine.memory import BytesMemory

ROOT = 0x1_B306_9000
VA = 0x1_B308_0000


def builder(table_bits: int = 0) -> TableBuilder:
    free = iter(range(ROOT, ROOT + 0x10_0000, 0x1000))
    return TableBuilder(lambda size: next(free), table_bits)


def test_tables_as_trans_table_map_page_makes_them() -> None:
    tables = builder()
    tables.map_page(VA, VA, PAGE_KERNEL_EXEC)
    assert [tables.descriptor(VA, level) for level in range(4)] == [
        0x1_B306_A003, 0x1_B306_B003, 0x1_B306_C003, 0xC8_0001_B308_0713,
    ]  # fmt: skip
    assert [tables.descriptor_address(VA, level) for level in range(4)] == [
        0x1_B306_9000, 0x1_B306_A030, 0x1_B306_BCC0, 0x1_B306_C400,
    ]  # fmt: skip


def test_pages_hold_the_descriptors_little_endian() -> None:
    tables = builder(1 << 60)
    tables.map_page(VA, VA, PAGE_KERNEL)
    contents = tables.pages()
    assert list(contents) == [ROOT, ROOT + 0x1000, ROOT + 0x2000, ROOT + 0x3000]
    assert struct.unpack_from("<Q", contents[ROOT]) == (1 << 60 | 0x1_B306_A003,)
    assert struct.unpack_from("<Q", contents[ROOT + 0x3000], 0x400) == (VA | PAGE_KERNEL,)  # table bits only in tables
    assert sum(word != 0 for page in contents.values() for (word,) in struct.iter_unpack("<Q", page)) == 4


def test_neighbours_share_tables() -> None:
    tables = builder()
    for page in (VA, VA + 0x1000, VA + (1 << 21), VA + (1 << 30), VA + (1 << 39)):
        tables.map_page(page, page, PAGE_KERNEL)
    assert len(tables.pages()) == 1 + 2 + 3 + 4  # levels 0 to 3


def test_any_descriptor_can_be_overwritten() -> None:
    tables = builder()
    tables.map_page(VA, VA, PAGE_KERNEL)
    tables.set_descriptor(VA, 1, 0xDEAD)
    assert tables.descriptor(VA, 1) == 0xDEAD


def test_pieces_must_not_overlap() -> None:
    image = RamImage()
    image.place(0x1000, bytes(0x1000))
    image.place(0x2000, b"after")
    image.place(0xFFF, b"b")
    for address, size in ((0x1800, 1), (0xFFF, 2), (0x1FFF, 2), (0x800, 0x2000)):
        with pytest.raises(KexecdbgError, match="overlap"):
            image.place(address, bytes(size))


def test_patches_stay_inside_a_piece() -> None:
    image = RamImage()
    image.place(0x1000, b"abcdef")
    image.patch(0x1002, b"XY")
    assert image.pieces == {0x1000: b"abXYef"}
    with pytest.raises(KexecdbgError, match="nothing at 0x1005 to patch"):
        image.patch(0x1005, b"ZZ")


def test_runs_join_what_is_near() -> None:
    image = RamImage()
    image.place(0x1000, b"a")
    image.place(0x1004, b"b")
    image.place(0x40_0000, b"c")
    assert image.runs() == {0x1000: b"a\0\0\0b", 0x40_0000: b"c"}


@pytest.fixture(scope="module")
def guest() -> RelocationGuest:
    return RelocationCase(code_descriptor=PAGE_KERNEL_EXEC).build()


def memory_of(guest: RelocationGuest) -> BytesMemory:
    return BytesMemory(guest.image.pieces)


def test_the_argument_leads_to_the_tables_and_the_list(guest: RelocationGuest) -> None:
    memory = memory_of(guest)
    values = read_argument(memory, ARGUMENT, RFC_V2).values
    assert (values["trans_table"], values["entry_addr"], values["kern_arg0"]) == (TRANS_TABLE, NEW_KERNEL, DEVICE_TREE)
    copies = tuple(read_page_list(values["head"], memory).copies)
    assert copies == guest.copies
    assert len(copies) == NEW_KERNEL_PAGES + 1


def test_the_sources_hold_the_new_kernel_and_its_checksum(guest: RelocationGuest) -> None:
    memory = memory_of(guest)
    image = b"".join(memory.read(c.source, 4096) for c in guest.copies if c.destination >= NEW_KERNEL)
    words = [word for (word,) in struct.iter_unpack("<Q", image)]
    count, expected, factor = words[1:4]
    checksum = 0
    for position, word in enumerate(words):
        checksum = (checksum * factor + (0 if position == 2 else word)) % (1 << 64)
    assert (count, checksum) == (len(words), expected)


def test_sources_are_scattered_and_destinations_are_not_mapped_over(guest: RelocationGuest) -> None:
    sources = [copy.source for copy in guest.copies]
    assert len(set(sources)) == len(sources) and sources != sorted(sources)
    assert not {copy.destination for copy in guest.copies} & set(sources)


def test_the_case_decides_the_code_descriptor(guest: RelocationGuest) -> None:
    address = 0x1_B306_C400
    (word,) = struct.unpack("<Q", memory_of(guest).read(address, 8))
    assert word == RELOCATION_CODE | PAGE_KERNEL_EXEC
    repaired = RelocationCase().build()
    (word,) = struct.unpack("<Q", memory_of(repaired).read(address, 8))
    assert word == RELOCATION_CODE | PAGE_KERNEL_EXEC & ~(1 << 54)


def test_an_overridden_tcr_is_loaded_from_the_literal() -> None:
    """``ldr x14, literal`` replaces the instruction that inserts PS."""
    guest = RelocationCase(tcr_el2=0x8080_3510).build()
    memory, symbols = memory_of(guest), guest.program.symbols
    (word,) = struct.unpack("<I", memory.read(symbols["turn_on_mmu_insert_ps"], 4))
    assert word & 0xFF00_001F == 0x5800_000E
    offset = (word >> 5 & 0x7_FFFF) * 4
    assert symbols["turn_on_mmu_insert_ps"] + offset == symbols["tcr_el2_override"]
    assert struct.unpack("<Q", memory.read(symbols["tcr_el2_override"], 8)) == (0x8080_3510,)
