"""The audit: a sound list is silent, each defect is found alone and with exact evidence, hostile lists are survived."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kexecdbg.kexec.audit import audit
from kexecdbg.kexec.defects import Area, AreaKind, Defect, DefectKind, Occurrence
from kexecdbg.kexec.kimage import Segment
from kexecdbg.kexec.list_reader import PageList, read_page_list
from kexecdbg.kexec.page_list import PAGE_SIZE, EntryKind, PageCopy
from kexecdbg.machine.memory import BytesMemory
from kexecdbg.machine.memory_map import MemoryMap, Region, RegionKind
from tests.unit.kexec.lists import LIST, RAM, list_page, page, read_copies, read_entries, target, valid_copies
from tests.unit.kexec.test_page_list import HostileMemory

CODE = Area(AreaKind.CODE, "the relocation code", 0x1_B308_0000, 0x1_B308_1000)


def copies_of(*pairs: tuple[int, int]) -> list[PageCopy]:
    return [PageCopy(source, destination) for source, destination in pairs]


def only(pages: PageList, areas: Sequence[Area] = (), segments: Sequence[Segment] | None = None) -> Defect:
    """The one defect of a list."""
    (defect,) = audit(pages, memory_map=RAM, areas=areas, segments=segments).defects
    return defect


@settings(deadline=None)
@given(valid_copies())
def test_sound_lists_are_silent(copies: list[PageCopy]) -> None:
    found = audit(read_copies(copies), memory_map=RAM, areas=[CODE])
    assert found.defects == ()
    assert found.unchecked == ("whether the destinations fill the image's segments: the segments are not known",)


def test_without_a_memory_map_it_says_that_ram_was_not_checked() -> None:
    found = audit(read_copies(copies_of((0x1000, 0x2000))), segments=[Segment(0, 5, 0x2000, PAGE_SIZE)])
    assert (found.defects, len(found.unchecked)) == ((), 1)
    assert found.unchecked[0].startswith("whether the pages are in RAM")


def test_a_cycle() -> None:
    defect = only(read_entries(target(0) | 1, page(0) | 8, LIST | 2))
    assert defect.kind is DefectKind.CYCLE
    assert defect.first == Occurrence(3, LIST + 16, LIST | 2, LIST)


def test_no_end() -> None:
    memory = BytesMemory({LIST: list_page([target(0) | 1, page(0) | 8]) + bytes(4 * PAGE_SIZE)})
    defect = only(read_page_list(LIST | EntryKind.INDIRECTION, memory))
    assert defect.kind is DefectKind.NO_END
    assert defect.first == Occurrence(2, LIST + 8, page(0) | 8, LIST + 16)


def test_an_end_that_cannot_be_read() -> None:
    defect = only(read_entries(target(0) | 1, page(0) | 8, 0x5000_0000 | 2))
    assert (defect.kind, defect.detail) == (DefectKind.UNREADABLE, "not part of what was given")
    assert defect.first == Occurrence(3, LIST + 16, 0x5000_0000 | 2, 0x5000_0000)


def test_entries_without_a_flag_and_with_several() -> None:
    defect = only(read_entries(target(0) | 1, page(0) | 8, page(1), page(2) | 8, 4))
    assert (defect.kind, defect.count) == (DefectKind.NO_FLAG, 1)
    assert defect.first == Occurrence(3, LIST + 16, page(1), page(1))
    defect = only(read_entries(target(0) | 1, page(0) | 9, 4))
    assert (defect.kind, defect.first.address) == (DefectKind.SEVERAL_FLAGS, LIST + 8)
    defect = only(read_entries(target(0) | 1, page(0) | 0x208, 4))
    assert (defect.kind, defect.first.entry) == (DefectKind.ODD_BITS, page(0) | 0x208)


def test_a_source_before_any_destination_goes_to_address_0() -> None:
    found = audit(read_entries(page(0) | 8, page(1) | 8, target(0) | 1, page(2) | 8, 4)).defects
    assert [(defect.kind, defect.count) for defect in found] == [(DefectKind.NO_DESTINATION, 2)]
    assert found[0].first == Occurrence(1, LIST, page(0) | 8, page(0))


@pytest.mark.parametrize("hole", [0x0, 0x3FFF_F000, 0x2_4000_0000, 0x00FF_FFFF_FFFF_F000])
def test_pages_outside_ram(hole: int) -> None:
    assert only(read_copies(copies_of((hole, target(0))))).kind is DefectKind.SOURCE_OUTSIDE_RAM
    defect = only(read_copies(copies_of((page(0), hole))))
    assert (defect.kind, defect.first.page) == (DefectKind.DESTINATION_OUTSIDE_RAM, hole)


def test_ram_in_pieces_counts_where_the_pieces_meet() -> None:
    regions = [Region(0, 0x1800, RegionKind.RAM, "a"), Region(0x1800, 0x3000, RegionKind.RAM, "b")]
    regions.append(Region(0x3000, 0x3800, RegionKind.DEVICE, "uart"))
    found = audit(read_copies(copies_of((0x1000, 0x2000), (0x0, 0x3000))), memory_map=MemoryMap(regions))
    assert [(d.kind, d.first.page) for d in found.defects if d.kind is not DefectKind.LIST_OUTSIDE_RAM] == [
        (DefectKind.DESTINATION_OUTSIDE_RAM, 0x3000)
    ]


def test_a_list_page_outside_ram() -> None:
    memory = BytesMemory({LIST: list_page([0x1000 | 2]), 0x1000: list_page([4])})
    defect = only(read_page_list(LIST | EntryKind.INDIRECTION, memory))
    assert defect.kind is DefectKind.LIST_OUTSIDE_RAM
    assert defect.first == Occurrence(1, LIST, 0x1002, 0x1000)


def test_a_destination_given_twice() -> None:
    defect = only(read_copies(copies_of((page(0), target(0)), (page(1), target(1)), (page(2), target(0)))))
    assert (defect.kind, defect.count) == (DefectKind.DESTINATION_TWICE, 1)
    assert defect.first == Occurrence(2, LIST + 8, page(0) | 8, target(0), writer=5, writer_source=page(2))


def test_the_same_copy_twice_does_no_harm() -> None:
    assert audit(read_copies(copies_of((page(0), target(0)), (page(0), target(0)))), memory_map=RAM).defects == ()


def test_the_order_decides_whether_a_source_is_lost() -> None:
    """Page 1 is a source and a destination: written first it is lost, read first it is not."""
    lost = only(read_copies(copies_of((page(0), page(1)), (page(1), target(0)))))
    assert lost.kind is DefectKind.SOURCE_OVERWRITTEN
    assert lost.first == Occurrence(4, LIST + 24, page(1) | 8, page(1), writer=2, writer_source=page(0))
    kept = only(read_copies(copies_of((page(1), target(0)), (page(0), page(1)))))
    assert kept.kind is DefectKind.SOURCE_WRITTEN_LATER
    assert kept.first.writer == 4


def test_a_source_that_is_its_own_destination_is_allowed() -> None:
    assert audit(read_copies(copies_of((target(0), target(0)))), memory_map=RAM).defects == ()


def test_the_list_overwritten_before_and_after_it_is_read() -> None:
    before = only(read_copies(copies_of((page(0), LIST), (page(1), target(0)))))
    assert before.kind is DefectKind.LIST_OVERWRITTEN
    assert before.first == Occurrence(3, LIST + 16, target(0) | 1, LIST, writer=2, writer_source=page(0))
    many = [(page(number), target(number)) for number in range(600)]
    after = only(read_copies(copies_of(*many, (page(601), LIST))))
    assert after.kind is DefectKind.LIST_WRITTEN_LATER
    second_page = only(read_copies(copies_of((page(601), LIST + PAGE_SIZE), *many)))
    assert (second_page.kind, second_page.first.index) == (DefectKind.LIST_OVERWRITTEN, 513)


@pytest.mark.parametrize(
    ("start", "end", "hit"),
    [
        (target(0), target(1), True),
        (target(1) - 1, target(1), True),
        (target(1), target(2), False),
        (target(0) - 8, target(0), False),
        (target(0) - 8, target(0) + 1, True),
        (0, 1 << 64, True),
    ],
)
def test_what_the_relocation_uses_overwritten(start: int, end: int, hit: bool) -> None:
    area = Area(AreaKind.TABLES, "the table at level 3", start, end)
    found = audit(read_copies(copies_of((page(0), target(0)))), memory_map=RAM, areas=[CODE, area]).defects
    if not hit:
        assert found == ()
        return
    (defect,) = found
    assert (defect.kind, defect.area) == (DefectKind.AREA_OVERWRITTEN, area)
    assert defect.first == Occurrence(2, LIST + 8, page(0) | 8, target(0), writer=2, writer_source=page(0))


def test_segments() -> None:
    three = read_copies(copies_of((page(0), target(0)), (page(1), target(1)), (page(2), target(4))))
    exact = [Segment(0, 10, target(0), 2 * PAGE_SIZE), Segment(0, PAGE_SIZE, target(4), PAGE_SIZE)]
    assert audit(three, memory_map=RAM, segments=exact).defects == ()
    defect = only(three, segments=exact[:1])
    assert (defect.kind, defect.count, defect.first.page) == (DefectKind.OUTSIDE_SEGMENTS, 1, target(4))
    defect = only(three, segments=[Segment(0, 0, target(0), 5 * PAGE_SIZE)])
    assert (defect.kind, defect.count, defect.first.page) == (DefectKind.SEGMENT_NOT_FILLED, 2, target(2))
    hostile = Segment(0, 0, target(0), (1 << 64) - PAGE_SIZE)
    assert only(three, segments=[hostile]).kind is DefectKind.SEGMENT_NOT_FILLED


def test_only_the_first_occurrences_are_kept() -> None:
    defect = only(read_copies(copies_of(*[(number * PAGE_SIZE, target(number)) for number in range(100)])))
    assert (defect.kind, defect.count, len(defect.occurrences)) == (DefectKind.SOURCE_OUTSIDE_RAM, 100, 8)


@settings(max_examples=60, deadline=None)
@given(head=st.integers(0, 2**64 - 1), seed=st.integers(0, 2**32), mostly=st.sampled_from([0, 1, 2, 8, 9]))
def test_hostile_lists_are_survived(head: int, seed: int, mostly: int) -> None:
    pages = read_page_list(head, HostileMemory(seed, mostly), most_entries=5000)
    found = audit(pages, memory_map=RAM, areas=[CODE], segments=[Segment(0, 0, seed << 12, seed << 20)])
    for defect in found.defects:
        assert 1 <= len(defect.occurrences) <= min(8, defect.count)
        assert all(0 <= place.index < len(pages.values) for place in defect.occurrences)


@settings(max_examples=40, deadline=None)
@given(valid_copies(), st.data())
def test_one_stray_copy_is_found_for_what_it_does(copies: list[PageCopy], data: st.DataObject) -> None:
    """Against a replay of the copies: harm is reported when something else than asked for arrives, and only then."""
    if not copies:
        return
    victim = data.draw(st.sampled_from(copies))
    position = data.draw(st.integers(0, len(copies)))
    stray = PageCopy(page(5000), victim.source)
    changed = [*copies[:position], stray, *copies[position:]]
    found = audit(read_copies(changed), memory_map=RAM).defects
    memory: dict[int, int] = {}
    for copy in changed:
        memory[copy.destination] = memory.get(copy.source, copy.source)
    arrived = all(memory[copy.destination] == copy.source for copy in copies)
    kinds = {defect.kind for defect in found}
    harmful = {DefectKind.SOURCE_OVERWRITTEN, DefectKind.DESTINATION_TWICE}
    assert bool(kinds & harmful) == (not arrived)
