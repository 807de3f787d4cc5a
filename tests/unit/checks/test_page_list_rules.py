"""K06 and K07, the page list and its way through the tables: exact about each way to spoil one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from kexecdbg.checks.finding import DescriptorRepair, Severity
from kexecdbg.checks.judging import judge
from kexecdbg.checks.situation import Situation
from kexecdbg.checks.verdict import Judgement
from kexecdbg.kexec.page_list import EntryKind, PageCopy, entry
from kexecdbg.lab.new_kernel import DEVICE_TREE, NEW_KERNEL
from kexecdbg.lab.relocation import (
    PAGE_LIST,
    RELOCATION_CODE,
    TRANS_TABLE,
    RelocationSetup,
)
from kexecdbg.lab.relocation_scenarios import EXECUTABLE_AT_EL2
from kexecdbg.lab.relocation_v9 import SOURCES_VA, RelocationV9Case, RelocationV9Setup
from kexecdbg.machine.overlay_memory import OverlayMemory
from tests.unit.checks import mainline
from tests.unit.checks.mainline import Mainline, linear
from tests.unit.checks.relocations import (
    SOUND,
    at_switch,
    kexec_findings,
    only,
    source_of,
    symbol,
)

# K06


def copies_first(copies: list[PageCopy]) -> None:
    copies.insert(0, PageCopy(copies[0].source, copies[-2].source))


def twice(copies: list[PageCopy]) -> None:
    copies.append(PageCopy(copies[3].source, copies[4].destination))


def later(copies: list[PageCopy]) -> None:
    copies.append(PageCopy(copies[3].source, copies[4].source))


def over_the_list(copies: list[PageCopy]) -> None:
    copies.insert(5, PageCopy(copies[0].source, PAGE_LIST))


@pytest.mark.parametrize(
    ("change", "defect", "severity"),
    [
        (copies_first, "source_overwritten", Severity.FATAL),
        (twice, "destination_twice", Severity.FATAL),
        (later, "source_written_later", Severity.NOTE),
        (over_the_list, "list_overwritten", Severity.FATAL),
    ],
)
def test_k06_copies_in_each_others_way(
    change: Callable[[list[PageCopy]], None], defect: str, severity: Severity
) -> None:
    finding = only(at_switch(replace(SOUND, change_copies=change)), "K06")
    assert (finding.evidence["defect"], finding.severity) == (defect, severity)


def set_flag(index: int, flag: EntryKind) -> Callable[[RelocationSetup], None]:
    def defect(setup: RelocationSetup) -> None:
        setup.entries[index] |= flag

    return defect


def replaced(index: int, value: int) -> Callable[[RelocationSetup], None]:
    def defect(setup: RelocationSetup) -> None:
        setup.entries[index] = value

    return defect


@pytest.mark.parametrize(
    ("spoil", "defect", "severity", "index"),
    [
        (set_flag(40, EntryKind.DONE), "several_flags", Severity.HAZARD, 41),
        (replaced(40, 0), "no_flag", Severity.HAZARD, 41),
        (replaced(-1, entry(EntryKind.INDIRECTION, PAGE_LIST)), "cycle", Severity.FATAL, 68),
    ],
)
def test_k06_entries_that_are_wrong(
    spoil: Callable[[RelocationSetup], None], defect: str, severity: Severity, index: int
) -> None:
    finding = only(at_switch(replace(SOUND, defect=spoil)), "K06")
    assert (finding.evidence["defect"], finding.severity) == (defect, severity)
    assert (finding.evidence["index"], finding.evidence["address"]) == (index, PAGE_LIST + 8 * (index - 1))


def test_k06_a_list_without_an_end_leads_to_the_next_page() -> None:
    def no_end(setup: RelocationSetup) -> None:
        setup.entries.pop()

    situation = at_switch(replace(SOUND, defect=no_end))
    finding = only(situation, "K06")
    assert finding.evidence["defect"] == "no_end"
    assert finding.evidence["page"] == PAGE_LIST + 8 * 67, "what is read after the last entry"
    assert finding.leads_to is not None
    assert (finding.leads_to.esr, finding.leads_to.far) == (0x9600_0007, PAGE_LIST + 0x1000)
    assert finding.leads_to.elr == symbol(SOUND, "copy_done") - 8
    assert judge(situation).judgement is Judgement.FAULTS


def test_k06_destinations_outside_ram() -> None:
    def into_a_hole(copies: list[PageCopy]) -> None:
        copies.append(PageCopy(copies[0].source, 0x2_8000_0000))

    finding = only(at_switch(replace(SOUND, change_copies=into_a_hole)), "K06")
    assert finding.evidence["defect"] == "destination_outside_ram"
    assert finding.evidence["page"] == 0x2_8000_0000


@pytest.mark.parametrize(
    ("page", "area"),
    [(RELOCATION_CODE, "the relocation code"), (TRANS_TABLE + 0x1000, "a table of TTBR0_EL2")],
)
def test_k06_what_the_copy_pulls_from_under_itself(page: int, area: str) -> None:
    def over_it(copies: list[PageCopy]) -> None:
        copies.append(PageCopy(copies[0].source, page))

    finding = only(at_switch(replace(SOUND, change_copies=over_it)), "K06")
    assert finding.severity is Severity.FATAL
    assert (finding.evidence["area"], finding.evidence["page"]) == (area, page)


def test_k06_segments_of_struct_kimage() -> None:
    without_one = tuple(copy for copy in mainline.COPIES if copy.destination != mainline.NEW_KERNEL + 0x4000)
    finding = only(Mainline(copies=without_one).situation(), "K06")
    assert finding.evidence["defect"] == "segment_not_filled"
    assert finding.evidence["page"] == mainline.NEW_KERNEL + 0x4000


# K07


def unmap(page: int) -> Callable[[RelocationSetup], None]:
    def defect(setup: RelocationSetup) -> None:
        setup.tables.set_descriptor(page, 3, 0)

    return defect


def after_repair(situation: Situation, repair: DescriptorRepair) -> Situation:
    return replace(situation, memory=OverlaidRam(situation.memory, {repair.address: repair.new}))


class OverlaidRam(OverlayMemory):
    """Patched memory that still knows the machine's memory map."""

    def __init__(self, memory: Any, words: dict[int, int]) -> None:
        super().__init__(memory, words)
        self.memory_map = memory.memory_map


def test_k07_a_source_that_is_not_mapped() -> None:
    source = source_of(SOUND, NEW_KERNEL + 40 * 0x1000)
    situation = at_switch(replace(SOUND, defect=unmap(source)))
    finding = only(situation, "K07")
    assert finding.severity is Severity.FATAL
    assert (finding.evidence["va"], finding.evidence["page"], finding.evidence["count"]) == (source, source, 1)
    assert (finding.evidence["level"], finding.evidence["descriptor"]) == (3, 0)
    assert finding.leads_to is not None
    assert (finding.leads_to.esr, finding.leads_to.far) == (0x9600_0007, source)
    assert finding.leads_to.elr == symbol(SOUND, "copy_loop") + 12
    repair = finding.repair
    assert isinstance(repair, DescriptorRepair)
    assert repair.new == source | 0x00E8_0000_0000_0713, "PAGE_KERNEL"
    assert kexec_findings(after_repair(situation, repair)) == []


def test_k07_a_destination_that_is_read_only() -> None:
    def read_only(setup: RelocationSetup) -> None:
        setup.tables.change_descriptor(NEW_KERNEL, 3, set_bits=1 << 7)
        setup.tables.change_descriptor(DEVICE_TREE, 3, set_bits=1 << 7)

    situation = at_switch(replace(SOUND, defect=read_only))
    finding = only(situation, "K07")
    assert (finding.evidence["va"], finding.evidence["count"]) == (NEW_KERNEL, 2)
    assert finding.leads_to is not None and finding.leads_to.esr == 0x9600_004F
    assert isinstance(finding.repair, DescriptorRepair)
    assert only(after_repair(situation, finding.repair), "K07").evidence["va"] == DEVICE_TREE


def test_k07_the_list_is_not_mapped() -> None:
    finding = only(at_switch(replace(SOUND, defect=unmap(PAGE_LIST))), "K07")
    assert finding.evidence["page"] == PAGE_LIST
    assert finding.leads_to is not None and finding.leads_to.elr == symbol(SOUND, "copy_done") - 8


def test_k07_a_page_that_is_mapped_elsewhere() -> None:
    def moved(setup: RelocationSetup) -> None:
        setup.tables.map_page(NEW_KERNEL, NEW_KERNEL + (1 << 24), 0x00E8_0000_0000_0713)

    situation = at_switch(replace(SOUND, defect=moved))
    finding = only(situation, "K07")
    assert (finding.evidence["page"], finding.evidence["pa"]) == (NEW_KERNEL, NEW_KERNEL + (1 << 24))
    assert finding.leads_to is None
    assert isinstance(finding.repair, DescriptorRepair)
    assert kexec_findings(after_repair(situation, finding.repair)) == []


def test_k07_contiguous_mappings() -> None:
    def one_missing(setup: RelocationV9Setup) -> None:
        setup.upper.set_descriptor(SOURCES_VA + 7 * 0x1000, 3, 0)

    finding = only(at_switch(RelocationV9Case(defect=one_missing)), "K07")
    assert finding.evidence["va"] == SOURCES_VA + 7 * 0x1000
    assert finding.evidence["page"] == source_of(SOUND, NEW_KERNEL + 7 * 0x1000)


def test_k07_the_copy_of_the_linear_map() -> None:
    page = mainline.COPIES[5].destination
    finding = only(
        Mainline(spoil=lambda new: new.change_descriptor(linear(page), 3, set_bits=1 << 7)).situation(), "K07"
    )
    assert (finding.evidence["va"], finding.evidence["page"]) == (linear(page), page)


@pytest.mark.parametrize("tcr", [0x8084_351F, 0x8084_7510, 0x8080_3510])
def test_tables_that_are_read_wrong_are_the_other_rules_business(tcr: int) -> None:
    """T0SZ of 3 levels, TG0 of 64 KiB, PS of 32 bits: nothing is where it seems."""
    assert kexec_findings(at_switch(replace(SOUND, tcr_el2=tcr))) == []


def test_k07_is_about_tables_that_lead_to_the_code_even_if_it_cannot_be_fetched() -> None:
    source = source_of(SOUND, NEW_KERNEL + 40 * 0x1000)
    case = replace(SOUND, code_descriptor=EXECUTABLE_AT_EL2 | 1 << 54, defect=unmap(source))
    assert only(at_switch(case), "K07").evidence["va"] == source
