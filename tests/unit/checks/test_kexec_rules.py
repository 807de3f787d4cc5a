"""K01, K03 to K05, K08 and K09: silent on sound relocations, and exact about each way to spoil one."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kexecdbg.arm64.interfaces import PhysicalMemory
from kexecdbg.checks.finding import Severity
from kexecdbg.checks.image_entry import argument_here
from kexecdbg.checks.image_view import view_image
from kexecdbg.checks.situation import Situation
from kexecdbg.kexec.kimage import KIMAGE_5_16
from kexecdbg.kexec.reloc_arg import PATCH_V9, RFC_V2
from kexecdbg.lab.enable import EnableCase
from kexecdbg.lab.new_kernel import NEW_KERNEL
from kexecdbg.lab.relocation import (
    ARGUMENT,
    PAGE_LIST,
    RELOCATION_CODE,
    TRANS_TABLE,
    VECTORS,
    Places,
    RelocationCase,
    RelocationSetup,
)
from kexecdbg.lab.relocation_v9 import EL2_VECTORS, RelocationV9Case, RelocationV9Setup
from kexecdbg.machine.device_registers import check_is_register
from kexecdbg.machine.memory_map import Region, RegionKind
from kexecdbg.machine.state import CpuState
from tests.unit.assembly import word
from tests.unit.checks import mainline
from tests.unit.checks.mainline import Mainline, linear
from tests.unit.checks.relocations import (
    AT_EL1,
    RESET,
    SOUND,
    SOUND_V9,
    SparseRam,
    at_switch,
    findings,
    guest_of,
    kexec_findings,
    memory_of,
    only,
    source_of,
    symbol,
)

_ADRP_X0_16_PAGES_ON = 0x9000_0080


# Sound relocations, and code that is none.


@pytest.mark.parametrize("case", [SOUND, RelocationCase(), AT_EL1, SOUND_V9], ids=["el2", "vectors", "el1", "v9"])
def test_a_sound_relocation_is_left_alone(case: RelocationCase | RelocationV9Case) -> None:
    situation = at_switch(case)
    assert kexec_findings(situation) == []
    relocation = situation.relocation
    assert relocation is not None
    assert relocation.argument.layout is (PATCH_V9 if case is SOUND_V9 else RFC_V2)
    assert len(relocation.pages.copies) == 65
    assert relocation.loop is not None


def test_mainline_is_left_alone_and_understood() -> None:
    situation = Mainline().situation()
    assert kexec_findings(situation) == []
    relocation = situation.relocation
    assert relocation is not None
    assert relocation.argument.layout is KIMAGE_5_16
    assert relocation.state.get("TTBR1_EL1") == mainline.COPY_OF_LINEAR_MAP
    assert [each.address for each in relocation.vectors] == [mainline.VECTORS, mainline.EL2_VECTORS]
    assert relocation.loop is not None and [each.text for each in relocation.loop.exception_calls] == ["hvc #0"]
    assert relocation.addresses.sources.tolist() == [linear(copy.source) for copy in mainline.COPIES]
    assert relocation.audit.unchecked == ()


@pytest.mark.parametrize(("tg1", "size"), [(0, 0x1000), (1, 0x4000), (2, 0x1000), (3, 0x1_0000)])
def test_the_kernels_page_size_is_the_granule_of_its_own_tables(tg1: int, size: int) -> None:
    """TCR_EL1.TG1; 0 is reserved, and taken for what it mostly is."""
    relocation = at_switch(SOUND).relocation
    assert relocation is not None
    kernel = relocation.before.with_values({"TCR_EL1": 0x4_3510_3510 | tg1 << 30})
    pages = replace(relocation, before=kernel).pages
    assert pages.page_size == size
    assert len(pages.copies) == 65, "a short list is in the first 4 KiB of its page"


@pytest.mark.parametrize(("tg1", "size"), [(1, 0x4000), (2, 0x1000), (3, 0x1_0000)])
def test_kexec_image_reads_the_list_in_the_kernels_pages(tg1: int, size: int) -> None:
    situation = Mainline().situation()
    argument = argument_here(situation.before, situation.memory)
    assert argument is not None
    kernel = situation.before.with_values({"TCR_EL1": 0x4_3510_3510 | tg1 << 30})
    assert view_image(kernel, situation.memory, argument).pages.page_size == size


def test_code_without_an_argument_is_none_of_the_business() -> None:
    """Every register points somewhere into the guest, and to nothing that is an argument."""
    guest = EnableCase().build()
    pointers = {f"X{number}": address for number, address in enumerate(list(guest.image.pieces)[:31])}
    state = CpuState({**RESET, **pointers, "PC": guest.program.entry, "HCR_EL2": 0})
    situation = Situation(state, state, SparseRam(guest.image.runs()), guest.program.entry, guest.program.entry)
    assert len(pointers) > 5
    assert situation.relocation is None
    assert kexec_findings(situation) == []


def found_by_kexec_image(state: CpuState, memory: PhysicalMemory) -> list[str]:
    argument = argument_here(state, memory)
    assert argument is not None
    return [finding.id for finding in view_image(state, memory, argument).findings]


def test_kexec_image_finds_the_same_from_the_start_and_without_a_switch() -> None:
    case = replace(SOUND, places=Places(argument=NEW_KERNEL))
    start = CpuState({**RESET, "PC": guest_of(case).program.entry})
    assert found_by_kexec_image(start, memory_of(case)) == ["K01"]
    situation = Mainline(late_load=True, kimage_at=mainline.NEW_KERNEL).situation()
    assert found_by_kexec_image(situation.before, situation.memory) == ["K01"]


def test_an_assumed_argument_counts() -> None:
    situation = at_switch(SOUND)
    lost = situation.before.with_values({"X0": 0, "X18": 0})
    blind = Situation(lost, situation.after, situation.memory, situation.site, situation.next_pc)
    assert blind.relocation is None and kexec_findings(blind) == []
    told = replace(blind, before=lost.with_values({"X0": ARGUMENT}))
    assert told.relocation is not None and told.relocation.pointers == ("X0",)


words = st.one_of(
    st.integers(0, (1 << 64) - 1),
    st.builds(
        lambda page, flags: page << 12 | flags,
        st.sampled_from([PAGE_LIST >> 12, RELOCATION_CODE >> 12, TRANS_TABLE >> 12, NEW_KERNEL >> 12, 0x1_B3200, 0]),
        st.sampled_from([1, 2, 4, 8, 9, 3, 0]),
    ),
)


@settings(max_examples=40, deadline=None)
@given(entries=st.lists(words, min_size=1, max_size=600), head=st.sampled_from([PAGE_LIST | 2, PAGE_LIST | 8, 4, 9]))
def test_hostile_lists_give_findings_and_nothing_else(entries: list[int], head: int) -> None:
    memory = memory_of(SOUND)
    memory.contents[PAGE_LIST] = bytearray(struct.pack(f"<{len(entries)}Q", *entries))
    situation = at_switch(SOUND)
    memory.contents[ARGUMENT] = bytearray(struct.pack("<Q", head) + memory.read(ARGUMENT + 8, RFC_V2.size - 8))
    for finding in kexec_findings(replace(situation, memory=memory)):
        assert finding.id in {"K01", "K03", "K06", "K07"}
        assert finding.text.endswith(".")


# K01


def test_k01_names_the_field_its_new_value_and_where_the_cpu_ends_up() -> None:
    case = replace(SOUND, places=Places(argument=NEW_KERNEL))
    finding = only(at_switch(case), "K01")
    assert finding.severity is Severity.FATAL
    assert finding.evidence == {
        "instruction": symbol(case, "copy_done"),
        "field": "entry_addr",
        "address": NEW_KERNEL + 8,
        "value": NEW_KERNEL,
        "becomes": 0x8000,
        "writer": 2,
        "writer_source": source_of(case, NEW_KERNEL),
    }
    assert "kern_arg0, kern_arg1, kern_arg3" in finding.text, "kern_arg2 would be 0 in both"
    assert finding.leads_to is not None
    assert (finding.leads_to.esr, finding.leads_to.elr) == (0x0200_0000, 0x8000)


def test_k01_is_silent_when_all_is_read_before() -> None:
    situation = at_switch(RelocationV9Case(argument=NEW_KERNEL))
    assert kexec_findings(situation) == []
    assert situation.relocation is not None
    assert situation.relocation.audit.defects == ()


def test_k01_does_not_guess_without_the_loop() -> None:
    def jump_away(setup: RelocationSetup) -> None:
        setup.patch("copy_loop", word("br x2"))

    finding = only(at_switch(replace(SOUND, places=Places(argument=NEW_KERNEL), defect=jump_away)), "K01")
    assert finding.severity is Severity.HAZARD
    assert "cannot be told" in finding.text


def test_k01_in_struct_kimage() -> None:
    """The bug of 2022: struct kimage in the way, and start read after the loop."""
    at = mainline.NEW_KERNEL + 0x3000
    assert kexec_findings(Mainline(kimage_at=at).situation()) == []
    finding = only(Mainline(kimage_at=at, late_load=True).situation(), "K01")
    assert (finding.evidence["field"], finding.evidence["address"]) == ("start", at + 24)
    assert finding.evidence["writer_source"] == mainline.SOURCE + 0x6000


# K03


def test_k03_the_hvc_goes_to_overwritten_vectors() -> None:
    finding = only(at_switch(RelocationV9Case(el2_vectors=NEW_KERNEL + 0x3000)), "K03")
    assert finding.severity is Severity.FATAL
    assert finding.evidence["register"] == "el2_vector"
    assert finding.evidence["page"] == finding.evidence["address"] == NEW_KERNEL + 0x3000
    assert finding.evidence["instruction"] == symbol(SOUND_V9, "to_el2")


def test_k03_vectors_of_the_own_level_are_a_hazard() -> None:
    finding = only(at_switch(replace(SOUND, places=Places(vectors=NEW_KERNEL + 0x3000))), "K03")
    assert (finding.severity, finding.evidence["register"]) == (Severity.HAZARD, "VBAR_EL2")


def test_k03_a_copied_vector_that_leaves_the_copy() -> None:
    def handler_elsewhere(setup: RelocationV9Setup) -> None:
        setup.patch("el2_vectors_hvc", word("b . + 0x3c00"))

    def adrp_in_an_unused_vector(setup: RelocationV9Setup) -> None:
        setup.patch("el2_vectors", _ADRP_X0_16_PAGES_ON, word("b ."))

    used = only(at_switch(RelocationV9Case(defect=handler_elsewhere)), "K03")
    assert (used.severity, used.evidence["target"]) == (Severity.FATAL, EL2_VECTORS + 0x4000)
    unused = only(at_switch(RelocationV9Case(defect=adrp_in_an_unused_vector)), "K03")
    assert (unused.severity, unused.evidence["target"]) == (Severity.HAZARD, EL2_VECTORS + 0x10000)


def test_k03_a_handler_behind_vectors_that_are_no_copy() -> None:
    stub = {"arch.el2_vectors": 0}
    assert kexec_findings(Mainline(kimage=stub).situation()) == []
    target = mainline.NEW_KERNEL + 0x1000
    branch = 0x1400_0000 | (target - (mainline.EL2_VECTORS + 0x400)) // 4
    finding = only(Mainline(kimage=stub, el2_vectors={0x400: branch}).situation(), "K03")
    assert (finding.severity, finding.evidence["register"]) == (Severity.FATAL, "VBAR_EL2")
    assert finding.evidence["address"] == target


# K04


def test_k04_the_other_mmu_is_switched_on() -> None:
    def wrong_register(setup: RelocationSetup) -> None:
        setup.patch("turn_on_mmu_sctlr_write", word("msr sctlr_el1, x14"))

    case = replace(SOUND, defect=wrong_register)
    guest = guest_of(case)
    site = guest.program.symbols["turn_on_mmu_sctlr_write"]
    ahead = at_switch(SOUND)
    before = ahead.before
    after = before.with_values({"SCTLR_EL1": 0x30E5_183F})
    finding = only(Situation(before, after, memory_of(case), site, site + 4), "K04")
    assert finding.severity is Severity.HAZARD
    assert finding.evidence == {"register": "SCTLR_EL2", "field": "M", "value": 0x00C0_0830 | 0x5_0000, "el": 2}


def test_k04_at_the_entry_it_depends_on_the_code_ahead() -> None:
    """Code that will switch the MMU on has it off at its entry; code without a switch keeps it off (RFC v1)."""
    before = at_switch(SOUND).before

    def entry_of(memory: SparseRam) -> Situation:
        return Situation(before, before, memory, RELOCATION_CODE, RELOCATION_CODE)

    assert kexec_findings(entry_of(memory_of(SOUND))) == []

    def without_switch(setup: RelocationSetup) -> None:
        symbols = setup.program.symbols
        nops = (symbols["copy_loop"] - symbols["arm64_relocate_new_kernel"]) // 4 - 2
        setup.patch("arm64_relocate_new_kernel", *[word("nop")] * nops)

    assert only(entry_of(memory_of(replace(SOUND, defect=without_switch))), "K04").evidence["el"] == 2


# K05


def test_k05_the_code_is_out_of_reach() -> None:
    def four_gib(setup: RelocationV9Setup) -> None:
        setup.argument["trans_t0sz"] = 32

    situation = at_switch(RelocationV9Case(defect=four_gib))
    (finding,) = [each for each in kexec_findings(situation) if not each.is_consequence]
    assert (finding.id, finding.severity) == ("K05", Severity.FATAL)
    assert finding.evidence == {"address": RELOCATION_CODE, "field": "trans_t0sz", "value": 32}


@pytest.mark.parametrize(
    ("t0sz", "spoil", "words"),
    [
        (25, lambda tables: None, "Translation fault"),
        (16, lambda tables: tables.set_descriptor(RELOCATION_CODE, 3, 0), "Translation fault"),
        (16, lambda tables: tables.map_page(RELOCATION_CODE, VECTORS, 0x00C8_0000_0000_0713), f"{VECTORS:#x}"),
    ],
)
def test_k05_the_identity_map_is_not_one(t0sz: int, spoil: Callable[[Any], None], words: str) -> None:
    def defect(setup: RelocationV9Setup) -> None:
        setup.argument["trans_t0sz"] = t0sz
        spoil(setup.lower)

    (finding,) = [e for e in kexec_findings(at_switch(RelocationV9Case(defect=defect))) if not e.is_consequence]
    assert finding.id == "K05"
    assert words in finding.text


# K08


def leaving(line: str) -> RelocationCase:
    def defect(setup: RelocationSetup) -> None:
        setup.patch("copy_done", word(line))

    return replace(SOUND, defect=defect)


@pytest.mark.parametrize(
    ("line", "target", "severity", "esr"),
    [
        ("b . + 0x3000", 0x3000, Severity.FATAL, 0x8600_0007),
        ("cbz x3, . + 0x3000", 0x3000, Severity.FATAL, 0x8600_0007),
        ("bl . + 0x3000", 0x3000, Severity.FATAL, 0x8600_0007),
        ("ldr x19, . + 0x3000", 0x3000, Severity.FATAL, 0x9600_0007),
        ("ldr x19, . + 0x1000", 0x1000, Severity.HAZARD, None),  # the argument's page is mapped
        ("adr x19, . + 0x3000", 0x3000, Severity.HAZARD, None),
    ],
)
def test_k08_what_leaves_the_page(line: str, target: int, severity: Severity, esr: int | None) -> None:
    finding = only(at_switch(leaving(line)), "K08")
    start = symbol(SOUND, "copy_done")
    assert (finding.severity, finding.evidence["instruction"]) == (severity, start)
    assert (finding.evidence["target"], finding.evidence["page"]) == (start + target, RELOCATION_CODE)
    assert (finding.leads_to.esr if finding.leads_to else None) == esr


def test_k08_code_that_runs_over_the_end_of_its_page() -> None:
    """The last instruction of the page is an ordinary one."""

    def defect(setup: RelocationSetup) -> None:
        setup.patch("copy_done", word(f"b . + {RELOCATION_CODE + 0xFFC - setup.program.symbols['copy_done']:#x}"))
        setup.image.place(RELOCATION_CODE + 0xFFC, word("nop").to_bytes(4, "little"))

    finding = only(at_switch(replace(SOUND, defect=defect)), "K08")
    assert (finding.evidence["instruction"], finding.evidence["target"]) == (
        RELOCATION_CODE + 0xFFC,
        RELOCATION_CODE + 0x1000,
    )


# K09

REDISTRIBUTOR = Region(0x080A_0000, 0x080C_0000, RegionKind.DEVICE, "gicv3_redist_region[0]")


class WithRedistributor(SparseRam):
    """The guest's memory on a machine with one GICv3 redistributor."""

    def __init__(self, control: int, properties: int, pending: int) -> None:
        super().__init__(guest_of(SOUND).image.runs(), REDISTRIBUTOR)
        self._registers = {0: control, 8: 0x11, 0x70: properties, 0x78: pending}

    def read_device_register(self, address: int, size: int) -> int:
        """One of the registers."""
        check_is_register(self.memory_map, address, size)
        return self._registers[address - REDISTRIBUTOR.start]


ELSEWHERE = 0x1_C000_0000


def with_redistributor(control: int, properties: int, pending: int) -> Situation:
    return at_switch(SOUND, WithRedistributor(control, properties | 0xF, pending))


def test_k09_lpi_tables_in_the_new_image() -> None:
    inside = NEW_KERNEL + 0x2_0000
    pending = only(with_redistributor(1, ELSEWHERE, inside), "K09")
    assert pending.severity is Severity.HAZARD
    assert pending.evidence == {
        "device": "the GIC redistributor at 0x80a0000",
        "start": inside,
        "end": inside + 0x2000,
        "address": inside,
        "writes": 1,
        "GICR_CTLR": 1,
        "GICR_PROPBASER": ELSEWHERE | 0xF,
        "GICR_PENDBASER": inside,
    }
    configuration = only(with_redistributor(1, NEW_KERNEL - 0x3000, ELSEWHERE), "K09")
    assert (configuration.evidence["writes"], configuration.evidence["address"]) == (0, NEW_KERNEL)
    assert "0xa2" in configuration.text


def test_k09_is_silent_when_the_tables_are_away_or_lpis_are_off() -> None:
    assert findings(with_redistributor(1, ELSEWHERE, ELSEWHERE + (1 << 20)), "K09") == []
    assert findings(with_redistributor(0, NEW_KERNEL, NEW_KERNEL), "K09") == []


def test_k09_says_what_it_cannot_see() -> None:
    class WithoutRegisters(SparseRam):
        """A dump: the memory map is known, the devices are gone."""

    memory = WithoutRegisters(guest_of(SOUND).image.runs(), REDISTRIBUTOR)
    finding = only(at_switch(SOUND, memory), "K09")
    assert finding.severity is Severity.NOTE
    assert "gicv3_redist_region[0] at 0x80a0000: device registers can only be read on a running machine" in finding.text


def test_only_what_is_read_is_in_the_mainline_argument() -> None:
    """The offsets of the loads in the test's relocation code are those of the layout."""
    names = [KIMAGE_5_16.field_at(offset) for offset in (24, 664, 648, 688, 680, 0, 696)]
    assert names == [
        "start", "arch.el2_vectors", "arch.dtb_mem", "arch.zero_page", "arch.ttbr1", "head", "arch.phys_offset",
    ]  # fmt: skip
    assert struct.calcsize("<89Q") == KIMAGE_5_16.size
