"""The copy loop in decoded code: which instructions, what follows, what is read through the argument pointer."""

from __future__ import annotations

import pytest

from kexecdbg.arm64.faults import Access
from kexecdbg.arm64.instructions import decode_instruction, written_registers
from kexecdbg.checks.copy_loop import CopyLoop, find_copy_loop
from kexecdbg.checks.references import references
from kexecdbg.errors import MemoryUnreadableError
from tests.unit.assembly import assemble, word

START = 0x1_4000_0000
COPY = ("1: ldr x3, [x1], #8", "str x3, [x2], #8", "cmp x1, x4", "b.lo 1b")


def loop_in(*lines: str, pointers: tuple[str, ...] = ("X0",)) -> CopyLoop | None:
    code, _ = assemble(*lines)

    def fetch(address: int) -> int:
        offset = address - START
        if not 0 <= offset < len(code):
            raise MemoryUnreadableError(address, 4, "outside the code")
        return int.from_bytes(code[offset : offset + 4], "little")

    return find_copy_loop(fetch, START, pointers)


def reads(*lines: str, pointers: tuple[str, ...] = ("X0",)) -> list[int]:
    found = loop_in(*lines, pointers=pointers)
    assert found is not None
    return [read.offset for read in found.argument_reads]


def test_the_loop_and_what_follows() -> None:
    found = loop_in("mov x5, x6", *COPY, "dsb sy", "hvc #0", "br x9")
    assert found is not None
    assert [each.address - START for each in found.loop] == [4, 8, 12, 16]
    assert [each.text for each in found.after] == ["dsb sy", "hvc #0", "br x9"]
    assert [each.text for each in found.exception_calls] == ["hvc #0"]
    assert found.next_entry_load is not None and found.next_entry_load.address == START + 4
    assert found.first_access(Access.READ) is None, "pages are copied by pairs"


@pytest.mark.parametrize(
    "lines",
    [
        ("nop", "br x1"),
        ("1: subs x1, x1, #1", "b.ne 1b", "br x2"),
        ("1: dc cisw, x1", "subs x1, x1, #1", "b.ne 1b", "br x2"),
        ("1: str x1, [sp, #-16]!", "cbnz x1, 1b", "br x2"),
        ("str x1, [x2]", "br x2"),
        ("1: prfm pstl1keep, [x1]", "b 1b"),
    ],
)
def test_code_without_a_loop_that_stores(lines: tuple[str, ...]) -> None:
    assert loop_in(*lines) is None


def test_the_largest_loop_counts_and_a_loop_around_a_loop_is_one() -> None:
    found = loop_in("1: str x1, [x2]", "cbnz x1, 1b", "3: nop", *COPY[:3], "b.lo 1b", "cbnz x9, 3b", "br x9")
    assert found is not None
    nested = loop_in("2: mov x5, x6", "1: ldp x7, x8, [x1]", "stp x7, x8, [x2]", "cbnz x3, 1b", "cbnz x4, 2b", "br x9")
    assert nested is not None
    assert len(nested.loop) == 5
    pair = nested.first_access(Access.WRITE)
    assert pair is not None and pair.text == "stp x7, x8, [x2]"


def test_reads_after_the_loop_through_any_copy_of_the_pointer() -> None:
    assert reads("mov x18, x0", "ldr x9, [x0, #8]", *COPY, "ldr x9, [x18, #16]", "ldp x5, x6, [x0, #24]", "br x9") == [
        16,
        24,
    ]
    assert reads("add x18, x0, #0", *COPY, "ldr w9, [x18, #40]", "br x9") == [40]


@pytest.mark.parametrize(
    "lines",
    [
        ("mov x0, x7", *COPY, "ldr x9, [x0, #16]", "br x9"),
        ("ldr x0, [x0]", *COPY, "ldr x9, [x0, #16]", "br x9"),
        ("add x0, x0, #64", *COPY, "ldr x9, [x0, #16]", "br x9"),
        (*COPY, "ldr x9, [x0, x1]", "br x9"),
        (*COPY, "str x9, [x0, #16]", "br x9"),
        ("cbz x7, 2f", "mov x0, x8", "2: nop", *COPY, "ldr x9, [x0, #16]", "br x9"),
        ("bl 2f", *COPY, "ldr x9, [x0, #16]", "br x9", "2: ret"),
    ],
)
def test_a_register_that_may_hold_something_else_is_not_the_pointer(lines: tuple[str, ...]) -> None:
    assert reads(*lines) == []


def test_a_pointer_that_survives_both_ways_and_a_call() -> None:
    assert reads("cbz x7, 2f", "mov x8, x0", "2: nop", *COPY, "ldr x9, [x0, #16]", "br x9") == [16]
    assert reads("mov x19, x0", "bl 2f", *COPY, "ldr x9, [x19, #16]", "br x9", "2: ret") == [16]


def test_the_stack_counts_where_it_is_used() -> None:
    for last, used in (("ldr x9, [sp], #16", True), ("ldr x9, [x3]", False)):
        found = loop_in(*COPY, last, "br x9")
        assert found is not None and found.uses_stack is used


@pytest.mark.parametrize(
    ("line", "targets"),
    [
        ("b . + 8", [(8, Access.FETCH)]),
        ("cbz x0, . - 8", [(4, Access.FETCH), (-8, Access.FETCH)]),
        ("bl . + 0x100", [(4, Access.FETCH), (0x100, Access.FETCH)]),
        ("ldr x0, . + 0x100", [(4, Access.FETCH), (0x100, Access.READ)]),
        ("adr x0, . - 0x10", [(4, Access.FETCH), (-0x10, None)]),
        ("prfm pldl1keep, . + 0x10", [(4, Access.FETCH)]),
        ("br x0", []),
        ("add x0, x0, #1", [(4, Access.FETCH)]),
    ],
)
def test_references(line: str, targets: list[tuple[int, Access | None]]) -> None:
    found = references(decode_instruction(word(line), START))
    assert [(each.target - START, each.access) for each in found] == targets


def test_adrp_counts_pages_from_the_page_of_the_instruction() -> None:
    backwards = 0xF0FF_FFE0  # adrp x0, one page before
    found = list(references(decode_instruction(backwards, START + 0x124)))
    assert [each.target for each in found] == [START + 0x128, START - 0x1000]


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("mov x18, x0", {"X18"}),
        ("ldp w4, w3, [x2], #16", {"X2", "X3", "X4"}),
        ("add sp, sp, #16", {"SP"}),
        ("str x0, [x1]", set()),
        ("mrs x30, mpidr_el1", {"X30"}),
        ("isb", set()),
    ],
)
def test_written_registers(line: str, names: set[str]) -> None:
    assert written_registers(word(line), START) == names
