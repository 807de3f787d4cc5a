"""The drawings of address spaces and relocations: rows within bounds, overlaps where they are."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kexecdbg.arm64.memory_types import NORMAL_WRITE_BACK
from kexecdbg.arm64.ranges import AccessRights, MappedRange, RangeAttributes
from kexecdbg.checks.image_view import KimageView
from kexecdbg.kexec.argument import RelocationArgument
from kexecdbg.kexec.defects import Area, AreaKind, Audit
from kexecdbg.kexec.list_reader import read_page_list
from kexecdbg.kexec.page_list import PAGE_SIZE, PageCopy, build_page_list
from kexecdbg.kexec.reloc_arg import RFC_V2
from kexecdbg.kexec.runs import copy_runs, summarize
from kexecdbg.machine.memory import BytesMemory
from kexecdbg.ui.report.address_map import Mark, address_map
from kexecdbg.ui.report.axis import joined
from kexecdbg.ui.report.relocation_map import overlaps, relocation_map
from kexecdbg.ui.report.words import about, counted, with_article

Stretch = tuple[int, int]


@given(
    gaps=st.lists(st.tuples(st.integers(0, 1 << 40), st.integers(1, 1 << 30)), min_size=1, max_size=60),
    most=st.integers(1, 12),
)
def test_neighbours_are_joined_across_the_narrowest_gaps(gaps: list[Stretch], most: int) -> None:
    items: list[Stretch] = []
    for gap, size in gaps:
        start = items[-1][1] + gap if items else 0
        items.append((start, start + size))
    groups = joined(items, most, lambda item: item[0], lambda item: item[1], lambda one, other: False)
    assert [item for group in groups for item in group] == items
    assert len(groups) == min(most, len(items))
    inside = [two[0] - one[1] for group in groups for one, two in pairwise(group)]
    between = [two[0][0] - one[-1][1] for one, two in pairwise(groups)]
    assert not inside or not between or max(inside) <= min(between)


def mapped(va: int, pages: int, rights: str, pa: int | None = None) -> MappedRange:
    allowed = AccessRights(*(letter != "-" for letter in rights))
    attributes = RangeAttributes(0, 0, allowed, None, NORMAL_WRITE_BACK, None, True, False, False, False, False)
    return MappedRange(va, va + pages * PAGE_SIZE, va if pa is None else pa, PAGE_SIZE, 3, attributes)


def words_of(drawing: str) -> list[str]:
    return re.findall(r"<text[^>]*>([^<]*)</text>", drawing)


def test_rights_are_letters_and_patterns() -> None:
    drawing = address_map(
        [mapped(0x1000, 1, "r-x"), mapped(0x2000, 2, "rw-"), mapped(0x9000, 1, "rwx", 0x4000)], [], ""
    )
    assert re.findall(r'class="swatch (rights-\w+)"', drawing) == ["rights-r0x", "rights-rw0", "rights-rwx"]
    words = words_of(drawing)
    assert [word for word in words if re.fullmatch("[r-][w-][x-]", word)] == ["r-x", "rw-", "rwx"]
    assert "not mapped, 20 KiB" in words and "4 KiB Normal WB → 0x4000" in words


def test_an_address_that_is_not_mapped_is_marked_in_its_gap() -> None:
    marks = [Mark(0x5000, "vector 0x5000", bad=True), Mark(0x1000, "next fetch 0x1000", bad=False)]
    words = words_of(address_map([mapped(0x1000, 1, "r-x"), mapped(0x9000, 1, "rw-")], marks, ""))
    gap = words.index("not mapped, 28 KiB")
    assert words.index("✓ next fetch 0x1000") < gap < words.index("✕ vector 0x5000") < words.index("0x9000")


def test_scattered_pages_in_a_row_are_one_row() -> None:
    ranges = [mapped(0x10_0000 + number * PAGE_SIZE, 1, "rw-", 0x900_0000 - number * 0x2000) for number in range(500)]
    words = words_of(address_map(ranges, [], ""))
    assert "2.0 MiB in 500 ranges, Normal WB → several" in words


def relocation(copies: Sequence[PageCopy], areas: Sequence[Area] = ()) -> KimageView:
    places = iter(range(0x8000_0000, 0x9000_0000, PAGE_SIZE))
    head, pages = build_page_list(copies, lambda: next(places))
    listed = read_page_list(head, BytesMemory(pages))
    return KimageView(
        argument=RelocationArgument(RFC_V2, 0x1000, {}),
        pages=listed,
        summary=summarize(listed),
        runs=copy_runs(listed),
        segments=None,
        areas=tuple(areas),
        control_pages=None,
        destinations=(),
        regime=None,
        audit=Audit((), ()),
        findings=(),
        applied=(),
        unchecked=(),
        assumptions=(),
    )


@pytest.fixture
def clashing() -> KimageView:
    copies = [PageCopy(0x10_0000 + n * PAGE_SIZE, 0x10_2000 + n * PAGE_SIZE) for n in range(4)]
    return relocation(copies, [Area(AreaKind.CODE, "the relocation code", 0x10_5000, 0x10_6000)])


def test_overlaps_are_found_where_they_are(clashing: KimageView) -> None:
    found = [(each.start, each.end, each.text) for each in overlaps(clashing)]
    assert found == [(0x10_2000, 0x10_4000, "a source"), (0x10_5000, 0x10_6000, "code")]


def test_overlaps_are_drawn_apart_from_other_destinations(clashing: KimageView) -> None:
    drawing = relocation_map(clashing)
    assert re.findall(r'class="pages (\w+)"', drawing) == ["source", "source", "clash", "destination", "clash"]
    words = words_of(drawing)
    assert "✕ overlap, 8 KiB" in words and "✕ overlap, 4 KiB: code" in words


def test_a_copy_onto_itself_is_no_overlap() -> None:
    assert overlaps(relocation([PageCopy(0x1000, 0x1000), PageCopy(0x5000, 0x2000)])) == ()


def test_a_list_of_thousands_of_scattered_pages_is_drawn_in_few_rows() -> None:
    copies = [PageCopy(0x4000_0000 + (n * 7919 % 6000) * 0x3000, 0x1000_0000 + n * PAGE_SIZE) for n in range(6000)]
    drawing = relocation_map(relocation(copies))
    assert len(drawing) < 20_000 and "23.4 MiB" in drawing


def test_words() -> None:
    assert [about(size) for size in (512, 4096, 0x1_8000, 29_859_840, 5 << 40)] == [
        "512 B",
        "4 KiB",
        "96 KiB",
        "28.5 MiB",
        "5 TiB",
    ]
    assert (counted(1, "entry", "entries"), counted(1200, "page")) == ("1 entry", "1,200 pages")
    assert (with_article("Address size fault"), with_article("Permission fault")) == (
        "an Address size fault",
        "a Permission fault",
    )
