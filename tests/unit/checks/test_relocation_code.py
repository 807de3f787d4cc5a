"""Relocation code found in memory by what it does, and its landmarks by decoding."""

from __future__ import annotations

import pytest

from kexecdbg.checks.relocating.code_search import find_relocation_code, is_relocation_code
from kexecdbg.lab.relocation import RELOCATION_CODE, RelocationCase, RelocationGuest
from kexecdbg.machine.memory import BytesMemory


@pytest.fixture(scope="module")
def guest() -> RelocationGuest:
    return RelocationCase().build()


def test_the_copied_code_is_found_among_everything_else(guest: RelocationGuest) -> None:
    assert find_relocation_code(BytesMemory(dict(guest.program.segments))) == (RELOCATION_CODE,)


@pytest.mark.parametrize("distance", [0x1000, 0x20_0000])
def test_wherever_it_was_copied_to(guest: RelocationGuest, distance: int) -> None:
    code = guest.program.segments[RELOCATION_CODE].ljust(0x1000, b"\0")
    memory = BytesMemory({RELOCATION_CODE + distance: code})
    assert find_relocation_code(memory) == (RELOCATION_CODE + distance,)


def test_code_that_does_not_begin_on_the_page_is_not_taken(guest: RelocationGuest) -> None:
    code = (bytes(0x100) + guest.program.segments[RELOCATION_CODE]).ljust(0x1000, b"\0")
    assert find_relocation_code(BytesMemory({RELOCATION_CODE: code})) == ()


def test_other_code_is_not(guest: RelocationGuest) -> None:
    (other,) = (start for start in guest.program.segments if start > RELOCATION_CODE + 0x2_0000)
    memory = BytesMemory({start: data.ljust(0x1000, b"\0") for start, data in guest.program.segments.items()})
    assert not is_relocation_code(memory, other)


def test_memory_that_cannot_be_searched_is_not_reported_as_empty() -> None:
    class Opaque:
        def read(self, address: int, size: int) -> bytes:
            return bytes(size)

    assert find_relocation_code(Opaque()) is None
