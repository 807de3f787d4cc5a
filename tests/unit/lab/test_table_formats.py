"""The lab's table builder beyond 4K pages: descriptors worked out by hand from the Arm ARM's formats."""

from __future__ import annotations

import struct

import pytest

from kexecdbg.arm64.geometry import GRANULE_4K, GRANULE_16K, GRANULE_64K, Granule
from kexecdbg.errors import KexecdbgError
from kexecdbg.lab.tables import Arena, TableBuilder, encode_address, table_format

ROOT = 0x1_4000_0000
ATTRIBUTES = 0x0040_0000_0000_0700


def builder(granule: Granule, input_bits: int, *, wide: bool = False, big_endian: bool = False) -> TableBuilder:
    table = table_format(granule, input_bits, wide=wide, big_endian=big_endian)
    return TableBuilder(Arena(ROOT, ROOT + 0x100_0000).allocate, table=table)


@pytest.mark.parametrize(
    ("granule", "input_bits", "wide", "start_level"),
    [
        (GRANULE_4K, 48, False, 0),
        (GRANULE_4K, 39, False, 1),
        (GRANULE_4K, 30, False, 2),
        (GRANULE_4K, 52, True, -1),
        (GRANULE_16K, 48, False, 0),
        (GRANULE_16K, 47, False, 1),
        (GRANULE_16K, 36, False, 2),
        (GRANULE_16K, 52, True, 0),
        (GRANULE_64K, 48, False, 1),
        (GRANULE_64K, 42, False, 2),
        (GRANULE_64K, 52, True, 1),
    ],
)
def test_the_walk_starts_where_the_tables_of_the_arm_arm_say(
    granule: Granule, input_bits: int, wide: bool, start_level: int
) -> None:
    tables = builder(granule, input_bits, wide=wide)
    tables.map_page(0x1_8000_0000 if input_bits > 32 else 0, 0x1_8000_0000, ATTRIBUTES)
    assert tables.table.start_level == start_level
    assert len(tables.pages()) == 4 - start_level


def test_64k_pages_of_a_42_bit_range() -> None:
    tables = builder(GRANULE_64K, 42)
    va = 0x1_8003_0000
    tables.map_page(va, va, ATTRIBUTES)
    # Level 2 indexes bits 41:29, level 3 bits 28:16.
    assert tables.descriptor_address(va, 2) == ROOT + 8 * 12
    assert tables.descriptor(va, 2) == ROOT + 0x1_0003
    assert tables.descriptor_address(va, 3) == ROOT + 0x1_0000 + 8 * 3
    assert tables.descriptor(va) == va | ATTRIBUTES | 0b11
    assert {len(page) for page in tables.pages().values()} == {0x1_0000}


def test_16k_pages_of_a_47_bit_range() -> None:
    tables = builder(GRANULE_16K, 47)
    va = 0x1_8003_4000
    tables.map_page(va, va, ATTRIBUTES)
    # Level 1 indexes bits 46:36, level 2 bits 35:25, level 3 bits 24:14.
    assert [tables.descriptor_address(va, level) - ROOT for level in (1, 2, 3)] == [
        0,
        0x4000 + 8 * 192,
        0x8000 + 8 * 13,
    ]
    assert tables.descriptor(va, 2) == ROOT + 0x8003


@pytest.mark.parametrize(
    ("granule", "input_bits", "level", "size"),
    [
        (GRANULE_4K, 48, 2, 1 << 21),
        (GRANULE_4K, 48, 1, 1 << 30),
        (GRANULE_16K, 47, 2, 1 << 25),
        (GRANULE_64K, 42, 2, 1 << 29),
    ],
)
def test_blocks_have_type_01_and_the_address_of_the_block(
    granule: Granule, input_bits: int, level: int, size: int
) -> None:
    tables = builder(granule, input_bits)
    tables.map_leaf(0x1_8765_4321, 0x1_8765_4321, ATTRIBUTES | 0b11, level)
    assert tables.descriptor(0x1_8765_4321, level) == 0x1_8765_4321 // size * size | ATTRIBUTES | 0b01


def test_a_block_may_stand_where_the_granule_allows_none() -> None:
    tables = builder(GRANULE_4K, 48)
    tables.map_leaf(0x1_8000_0000, 0, ATTRIBUTES, 0)
    assert tables.descriptor(0x1_8000_0000, 0) == ATTRIBUTES | 0b01
    assert list(tables.pages()) == [ROOT]


@pytest.mark.parametrize(
    ("granule", "bits_of_the_address"),
    [
        (GRANULE_4K, 0x3_F123_4567_8300),  # FEAT_LPA2: 49:48 stay, 51:50 at 9:8
        (GRANULE_16K, 0x3_F123_4567_8300),
        (GRANULE_64K, 0xF123_4567_F000),  # FEAT_LPA: 51:48 at 15:12
    ],
)
def test_the_top_of_a_52_bit_address_goes_where_the_format_has_it(granule: Granule, bits_of_the_address: int) -> None:
    table = table_format(granule, 52, wide=True)
    address = 0xF_F123_4567_8000 if granule is not GRANULE_64K else 0xF_F123_4567_0000
    assert encode_address(table, address) == bits_of_the_address
    assert table.output_address(encode_address(table, address), granule.shift) == address


def test_a_root_of_the_minimal_size_has_a_granule_of_its_own() -> None:
    tables = builder(GRANULE_4K, 32)
    assert [len(page) for page in tables.pages().values()] == [0x1000]


def test_big_endian_tables() -> None:
    tables = builder(GRANULE_4K, 39, big_endian=True)
    tables.map_page(0x4000_0000, 0x4000_0000, ATTRIBUTES)
    assert struct.unpack_from(">Q", tables.pages()[ROOT], 8) == (tables.descriptor(0x4000_0000, 1),)


def test_bits_are_set_and_cleared_where_the_path_goes() -> None:
    tables = builder(GRANULE_4K, 48)
    tables.map_page(0x4000_0000, 0x4000_0000, ATTRIBUTES)
    tables.change_descriptor(0x4000_0000, 2, set_bits=1 << 60, clear_bits=0b10)
    assert tables.descriptor(0x4000_0000, 2) == 1 << 60 | ROOT + 0x3001


def test_table_bits_are_in_every_table_descriptor_and_in_no_leaf() -> None:
    tables = TableBuilder(Arena(ROOT, ROOT + 0x1_0000).allocate, 1 << 59)
    tables.map_page(0x4000_0000, 0x4000_0000, ATTRIBUTES)
    assert [tables.descriptor(0x4000_0000, level) >> 59 & 1 for level in range(4)] == [1, 1, 1, 0]


def test_an_arena_aligns_and_ends() -> None:
    arena = Arena(0x1000, 0x4_0000)
    assert [arena.allocate(size) for size in (0x1000, 0x1_0000, 0x1000)] == [0x1000, 0x1_0000, 0x2_0000]
    with pytest.raises(KexecdbgError, match="no room for 0x20000 bytes below 0x40000"):
        arena.allocate(0x2_0000)
