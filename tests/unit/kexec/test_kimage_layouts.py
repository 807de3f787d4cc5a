"""Offsets of struct kimage out of code and out of BTF, made here field by field; damaged input gives typed errors."""

from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kexecdbg.errors import EnvironmentProblem, UsageError
from kexecdbg.kexec.argument import Addressing, Role
from kexecdbg.kexec.kimage import FIELDS, KIMAGE_5_16
from kexecdbg.kexec.kimage_btf import layout_in_btf
from kexecdbg.kexec.kimage_fields import Member, layout_of_members
from kexecdbg.kexec.kimage_loads import ORDER, layout_by_loads

OTHER_BUILD = {"start": 24, "arch.el2_vectors": 712, "arch.dtb_mem": 648, "arch.zero_page": 704, "arch.ttbr1": 688,
               "head": 0, "arch.phys_offset": 680}  # fmt: skip
NOP = 0xD503_201F


def ldr(register: int, offset: int, base: int = 0) -> int:
    """``ldr x<register>, [x<base>, #offset]``."""
    return 0xF940_0000 | offset // 8 << 10 | base << 5 | register


def code(offsets: dict[str, int], *, between: int = NOP) -> bytes:
    """The start of arm64_relocate_new_kernel of a build with these offsets."""
    words = [word for number, name in enumerate(ORDER) for word in (ldr(20 + number, offsets[name]), between)]
    return struct.pack(f"<{len(words)}I", *words)


@pytest.mark.parametrize("offsets", [{name: KIMAGE_5_16.offsets[name] for name in ORDER}, OTHER_BUILD])
def test_offsets_by_the_loads(offsets: dict[str, int]) -> None:
    layout = layout_by_loads(code(offsets))
    assert layout.offsets == offsets
    assert layout.size == max(offsets.values()) + 8
    assert (layout.segments, layout.addressing) == (None, Addressing.LINEAR_MAP)
    assert layout.roles[Role.ENTRY] == "start" and Role.TTBR0 not in layout.roles


def test_loads_through_other_registers_do_not_count() -> None:
    assert layout_by_loads(code(OTHER_BUILD, between=ldr(9, 0x40, base=1))).offsets == OTHER_BUILD


@pytest.mark.parametrize(
    "data",
    [
        b"",
        struct.pack("<I", NOP) * 64,
        code(OTHER_BUILD)[:-8],
        code({**OTHER_BUILD, "head": 8}),
        code({**OTHER_BUILD, "arch.ttbr1": 712}),
        struct.pack("<I", ldr(0, 8)) + code(OTHER_BUILD),
    ],
    ids=["nothing", "no loads", "one too few", "head not first", "twice the same", "x0 lost"],
)
def test_other_code_is_refused(data: bytes) -> None:
    with pytest.raises(UsageError):
        layout_by_loads(data)


@given(st.binary(max_size=256))
def test_any_code(data: bytes) -> None:
    with contextlib.suppress(UsageError):
        assert set(layout_by_loads(data).offsets) == set(ORDER)


def btf(members: list[tuple[str, int]], arch: list[tuple[str, int]], name: str = "kimage", size: int = 712) -> bytes:
    """BTF with an int, struct kimage_arch and struct kimage, whose member ``arch`` begins at 640."""
    strings = bytearray(b"\0")

    def text(value: str) -> int:
        strings.extend(value.encode() + b"\0")
        return len(strings) - len(value) - 1

    def structure(called: str, size: int, fields: list[tuple[str, int, int]]) -> bytes:
        head = struct.pack("<III", text(called), 4 << 24 | len(fields), size)
        return head + b"".join(struct.pack("<III", text(field), kind, 8 * at) for field, kind, at in fields)

    types = struct.pack("<IIII", text("unsigned long"), 1 << 24, 8, 64)
    types += structure("kimage_arch", 72, [(field, 1, at) for field, at in arch])
    types += structure(name, size, [*((field, 1, at) for field, at in members), ("arch", 2, 640)])
    header = struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(types), len(types), len(strings))
    return header + types + bytes(strings)


PLAIN = {name: KIMAGE_5_16.offsets[name] for name in FIELDS}
OUTER = [*((name, offset) for name, offset in PLAIN.items() if "." not in name), ("segment", 64)]
INNER = [(name.removeprefix("arch."), offset - 640) for name, offset in PLAIN.items() if "." in name]


def test_offsets_by_btf() -> None:
    layout = layout_in_btf(btf(OUTER, INNER), "of the test")
    assert (layout.offsets, layout.size, layout.segments) == (PLAIN, 712, 64)
    assert layout.name == "struct kimage, of the test"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "damaged"),
        (b"\xeb\x9f" + bytes(40), "big-endian"),
        (btf(OUTER, INNER, name="kimage_of_another_kind"), "there is none"),
        (btf(OUTER, INNER[1:]), "has no arch.dtb_mem"),
        (btf(OUTER, INNER, size=700), "behind them"),
    ],
)
def test_other_btf_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(EnvironmentProblem, match=message):
        layout_in_btf(data, "of the test")


@given(
    st.lists(st.tuples(st.integers(0, len(btf(OUTER, INNER)) - 1), st.integers(0, 255)), max_size=8),
    st.integers(0, len(btf(OUTER, INNER))),
)
def test_damaged_btf(changes: list[tuple[int, int]], length: int) -> None:
    data = bytearray(btf(OUTER, INNER))
    for place, value in changes:
        data[place] = value
    with contextlib.suppress(EnvironmentProblem):
        layout = layout_in_btf(bytes(data[:length]), "of the test")
        assert all(0 <= offset <= layout.size - 8 for offset in layout.offsets.values())


def test_a_kernel_from_before_has_no_such_structure() -> None:
    with pytest.raises(EnvironmentProblem, match=r"older than 5\.16"):
        layout_of_members([Member("head", 0), Member("arch", 640, (Member("dtb", 0),))], 712, "of 5.3")
