"""The argument blocks: offsets as documented, and telling one from another by what is in memory."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kexecdbg.kexec.argument import ArgumentLayout, RelocationArgument, Role, read_argument
from kexecdbg.kexec.kimage import KIMAGE_5_16, SEGMENT_MAX, Segment, read_segments
from kexecdbg.kexec.recognise import LAYOUTS, recognise
from kexecdbg.kexec.reloc_arg import PATCH_V1, PATCH_V9, RFC_V2
from kexecdbg.machine.memory import BytesMemory
from tests.unit.kexec.lists import LIST

BLOCK = 0x1_B308_1000
TABLE = 0x1_B306_9000
NEW_KERNEL = 0x1_8008_0000
RAM_START, RAM_SIZE = 0x1_8000_0000, 0x4000_0000
LINEAR_MAP = 0xFFFF_0000_0000_0000

ARGUMENT = {"head": LIST | 2, "entry_addr": NEW_KERNEL, "kern_arg0": 0x1_8000_0000}
CONTIGUOUS = {
    "trans_ttbr0": TABLE,
    "trans_ttbr1": TABLE + 0x4000,
    "el2_vector": 0x1_B308_0800,
    "src_addr": LINEAR_MAP,
    "dst_addr": LINEAR_MAP | 1 << 47,
    "copy_len": 0x4_1000,
}
KIMAGE = {
    "head": LIST | 2,
    "entry": LINEAR_MAP + 0x1234_5678,
    "last_entry": LINEAR_MAP + 0x1234_5FF8,
    "start": NEW_KERNEL,
    "control_code_page": 0xFFFF_FC00_0123_4000,
    "nr_segments": 1,
    "control_pages": 0xFFFF_FC00_0123_5008,
    "arch.kern_reloc": 0x1_B308_0000,
    "arch.el2_vectors": 0x1_B309_0000,
    "arch.ttbr0": TABLE,
    "arch.ttbr1": TABLE + 0x4000,
    "arch.zero_page": 0x1_B3FF_0000,
    "arch.phys_offset": 0x1_0000_0000_4000_0000,
    "arch.t0sz": 16,
}
VALUES: dict[ArgumentLayout, dict[str, int]] = {
    RFC_V2: {**ARGUMENT, "trans_table": TABLE},
    PATCH_V1: {**ARGUMENT, **CONTIGUOUS},
    PATCH_V9: {**ARGUMENT, **CONTIGUOUS, "trans_t0sz": 16},
    KIMAGE_5_16: {name: value % (1 << 64) for name, value in KIMAGE.items()},
}


class Ram:
    """RAM that is readable where the machine has it: zeros but for one block."""

    def __init__(self, block: bytes) -> None:
        self._memory = BytesMemory({RAM_START: bytes(RAM_SIZE >> 8), BLOCK: block.ljust(4096, b"\0")})
        self._zeros = {TABLE, TABLE + 0x4000, 0x1_B308_0000, 0x1_B308_0800, 0x1_B309_0000, 0x1_B3FF_0000}

    def read(self, address: int, size: int) -> bytes:
        """The block, or zeros where there is RAM."""
        return bytes(size) if address in self._zeros else self._memory.read(address, size)


def block(layout: ArgumentLayout, **changes: int) -> Ram:
    data = bytearray(layout.pack(VALUES[layout] | changes))
    if layout is KIMAGE_5_16:
        struct.pack_into("<4Q", data, 64, 0x7000, 100, NEW_KERNEL, 0x4_0000)
    return Ram(bytes(data))


def test_offsets_of_the_2019_series() -> None:
    assert RFC_V2.offsets == {
        "head": 0, "entry_addr": 8, "kern_arg0": 16, "kern_arg1": 24, "kern_arg2": 32, "kern_arg3": 40,
        "trans_table": 48,
    }  # fmt: skip
    assert [PATCH_V1.offsets[name] for name in ("trans_ttbr0", "trans_ttbr1", "el2_vector", "copy_len")] == [
        48, 56, 64, 88,
    ]  # fmt: skip
    assert [PATCH_V9.offsets[name] for name in ("el2_vector", "trans_ttbr0", "trans_t0sz", "copy_len")] == [
        48, 56, 72, 96,
    ]  # fmt: skip
    assert (RFC_V2.size, PATCH_V1.size, PATCH_V9.size) == (56, 96, 104)


def test_fields_by_offset() -> None:
    assert [RFC_V2.field_at(offset) for offset in (0, 7, 8, 48, 55, 56)] == [
        "head", "head", "entry_addr", "trans_table", "trans_table", None,
    ]  # fmt: skip
    assert (KIMAGE_5_16.field_at(24), KIMAGE_5_16.field_at(688), KIMAGE_5_16.field_at(100)) == (
        "start", "arch.zero_page", None,
    )  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
def test_each_layout_is_told_from_the_others(layout: ArgumentLayout) -> None:
    found = recognise(block(layout), BLOCK)
    assert found.argument is not None
    assert found.argument.layout is layout
    assert {name: value for name, value in found.argument.values.items() if value} == {
        name: value for name, value in VALUES[layout].items() if value
    }
    assert set(found.refusals) == {other.name for other in LAYOUTS} - {layout.name}


def test_roles() -> None:
    def roles(argument: RelocationArgument | None) -> list[int | None]:
        assert argument is not None
        return [argument.get(role) for role in (Role.ENTRY, Role.TTBR0, Role.TTBR1, Role.T0SZ, Role.EL2_VECTORS)]

    assert roles(recognise(block(RFC_V2), BLOCK).argument) == [NEW_KERNEL, TABLE, None, None, None]
    assert roles(recognise(block(KIMAGE_5_16), BLOCK).argument) == [
        NEW_KERNEL, TABLE, TABLE + 0x4000, 16, 0x1_B309_0000,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("layout", "field", "value"),
    [
        (RFC_V2, "head", LIST),
        (RFC_V2, "head", LIST | 0x102),
        (RFC_V2, "entry_addr", 0),
        (RFC_V2, "entry_addr", NEW_KERNEL + 2),
        (RFC_V2, "entry_addr", 0x9_0000_0000),
        (RFC_V2, "kern_arg1", 1),
        (RFC_V2, "trans_table", 0),
        (RFC_V2, "trans_table", TABLE + 8),
        (PATCH_V1, "el2_vector", 0x1_B308_0400),
        (PATCH_V1, "src_addr", 0x1000),
        (PATCH_V9, "trans_t0sz", 64),
        (KIMAGE_5_16, "entry", NEW_KERNEL),
        (KIMAGE_5_16, "nr_segments", 17),
        (KIMAGE_5_16, "arch.ttbr1", 0),
    ],
)
def test_one_field_that_cannot_be_is_enough_to_refuse(layout: ArgumentLayout, field: str, value: int) -> None:
    found = recognise(block(layout, **{field: value}), BLOCK)
    assert found.argument is None
    assert field in found.refusals[layout.name]


def test_a_broken_list_is_no_reason_to_refuse() -> None:
    """What the list is worth is for the audit; a head outside RAM is still a head."""
    for head in (0x9_0000_0002, LIST | 9, 4):
        assert recognise(block(RFC_V2, head=head), BLOCK).argument is not None


def test_unreadable_memory_is_a_refusal_that_says_so() -> None:
    found = recognise(Ram(b""), 0x10_0000)
    assert found.argument is None
    assert all("cannot be read" in reason for reason in found.refusals.values())


def test_segments_are_bounded_whatever_the_count_says() -> None:
    kimage = read_argument(block(KIMAGE_5_16), BLOCK, KIMAGE_5_16)
    assert read_segments(block(KIMAGE_5_16), kimage) == (Segment(0x7000, 100, NEW_KERNEL, 0x4_0000),)
    many = read_argument(block(KIMAGE_5_16, nr_segments=2**63), BLOCK, KIMAGE_5_16)
    assert len(read_segments(block(KIMAGE_5_16, nr_segments=2**63), many)) == SEGMENT_MAX


@settings(deadline=None)
@given(st.binary(min_size=712, max_size=712))
def test_random_memory_is_nothing(data: bytes) -> None:
    assert recognise(Ram(data), BLOCK).argument is None
