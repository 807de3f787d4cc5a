"""kexec-relocate on the lab's relocation guest: the way it takes, what arrives, injected errors, wrong turns."""

from __future__ import annotations

import re
from typing import Any

import pytest

from kexecdbg.kexec.page_list import EntryKind
from kexecdbg.lab.new_kernel import DEVICE_TREE, NEW_KERNEL
from kexecdbg.lab.relocation import PAGE_LIST, RELOCATION_CODE, RelocationCase, RelocationGuest
from tests.live.frozen import COUNTING, PARKED, several_cpus_before
from tests.live.machines import ARRIVED, SECONDS, Bench, bench

PAGES = 65
"""64 of the new kernel and the device tree."""
COPY_PAGE = 128 * 8
"""Instructions of relocation.s that copy a page: the inner loop, 32 bytes each time."""
WAY_AT_EL2 = [
    "code", "sctlr", "sctlr", "ttbr", "sctlr", "loop_end", "sctlr", "sctlr", "branch", "entry",
]  # fmt: skip
SCTLR_WITHOUT_MMU = 0x30E5_183F & ~0x1005
"""SCTLR_EL2 of the mail without M, C and I: the relocation as it was before the series."""

A_STEP = 4
"""Instructions that the debugger's own steps may add to what is counted."""


def landmarks(document: Any) -> list[str]:
    return [stop["landmark"] for stop in document["stops"]]


def switches(document: Any) -> list[tuple[str, bool, bool]]:
    checked = [stop["switch"] for stop in document["stops"] if stop["switch"] is not None]
    return [(switch["register"], switch["mmu"], switch["sound"]) for switch in checked]


@pytest.mark.parametrize("symbols", [True, False])
def test_from_the_first_instruction_to_the_new_kernels(symbols: bool) -> None:
    with bench("B") as lab:
        if not symbols:
            lab.gdb.command("symbol-file")
        document = lab.run("kexec-relocate")
        assert (document["outcome"], document["sound"]) == ("arrived", True)
        assert document["argument"]["layout"] == "struct kern_reloc_arg, RFC v2"
        assert document["code"] == f"{RELOCATION_CODE:#x}"
        assert (document["pages"], document["copied"]) == (PAGES, PAGES)
        assert document["verified"] == {"pages": PAGES, "superseded": 0, "differing": 0, "differences": []}
        assert landmarks(document) == WAY_AT_EL2
        assert switches(document) == [("SCTLR_EL2", True, True), ("SCTLR_EL2", False, True)]
        assert [stop["mmu"] for stop in document["stops"]] == [False] * 5 + [True] * 2 + [True, False, False]
        assert {check["name"]: check["met"] for check in document["boot"]} == dict.fromkeys(
            ("x0", "x1", "x2", "x3", "MMU", "data cache", "interrupts", "level"), True
        )
        assert document["boot"][0]["text"] == f"{DEVICE_TREE:#x}, a device tree"
        assert int(lab.gdb.command("output/x $pc"), 16) == NEW_KERNEL
        assert lab.go_on().startswith(ARRIVED)


def test_at_el1_and_with_the_mmu_off_it_is_the_same() -> None:
    with bench("EL1") as lab:
        document = lab.run("kexec-relocate")
        assert (document["outcome"], document["sound"]) == ("arrived", True)
        assert switches(document) == [("SCTLR_EL1", True, True), ("SCTLR_EL1", False, True)]
        assert document["boot"][-1] == {"name": "level", "met": True, "text": "EL1"}
        assert lab.go_on().startswith(ARRIVED)
    with bench(RelocationCase(sctlr_el2=SCTLR_WITHOUT_MMU)) as lab:
        document = lab.run("kexec-relocate")
        assert (document["outcome"], document["sound"]) == ("arrived", True)
        assert not any(stop["mmu"] for stop in document["stops"])
        assert lab.go_on().startswith(ARRIVED)


def phase(document: Any, name: str) -> float:
    return float(next(item["seconds"] for item in document["phases"] if item["name"] == name))


def test_phases_are_in_the_machines_own_time() -> None:
    with bench("B") as lab:
        lab.run("kexec-relocate --pages 1")
        document = lab.run("kexec-relocate --icount 4")
        assert 0 < phase(document, "copy") < phase(document, "relocation")
        copy = next(item for item in document["phases"] if item["name"] == "copy")
        assert copy["instructions"] == round(copy["seconds"] * 1e9) >> 4


def test_with_icount_the_same_loop_is_as_many_instructions_with_the_mmu_on_and_off() -> None:
    """That the series made it faster is the caches' doing, which QEMU does not have.

    With a shift of 4 an instruction takes 16 ns, a tick of the counter.
    """
    found = []
    for case in (RelocationCase(), RelocationCase(sctlr_el2=SCTLR_WITHOUT_MMU)):
        with bench(case, "-icount", "shift=4") as lab:
            result = lab.gdb.run("kexec-relocate --icount 4", SECONDS)
        phases = {item["name"]: item["instructions"] for item in result.document["phases"]}
        assert PAGES * COPY_PAGE < phases["copy"] < 1.1 * PAGES * COPY_PAGE
        assert f"  {phases['relocation']} instructions\n" in result.text
        found.append((phases["copy"], "copied with the MMU off" in result.text))
    (with_mmu, noted), (without_mmu, noted_without) = found
    assert (noted, noted_without) == (False, True)
    assert abs(with_mmu - without_mmu) <= A_STEP


def counting(lab: Bench, document: Any) -> Any:
    """What is said of the CPU that counts; the one that is to wait in WFI may not have come to it yet."""
    by_number = {each["cpu"]: each for each in document["running_cpus"]}
    assert COUNTING in by_number.keys() <= {COUNTING, PARKED}
    assert lab.symbol("first_cpu_start") <= int(by_number[COUNTING]["why"]["pc"], 16) < lab.symbol("park")
    return by_number[COUNTING]


def test_a_cpu_that_was_not_stopped() -> None:
    with several_cpus_before("B") as lab:
        result = lab.gdb.run("kexec-relocate", SECONDS)
        running = counting(lab, result.document)
        assert (running["overwritten"], running["why"]["stuck"]) == (None, False)
        assert (result.document["outcome"], result.document["sound"]) == ("arrived", True)
        assert f"CPU {COUNTING} still runs and sees memory change under it\n" in result.text
        assert lab.go_on().startswith(ARRIVED)
    with several_cpus_before("B", address=NEW_KERNEL + 17 * 0x1000) as lab:
        document = lab.run("kexec-relocate")
        running = counting(lab, document)
        assert running["overwritten"] == running["why"]["pc"]
        assert (document["outcome"], document["verified"]["differing"], document["sound"]) == ("arrived", 0, False)


def test_page_by_page() -> None:
    with bench("B") as lab:
        first = lab.run("kexec-relocate --pages 1")
        assert (first["outcome"], first["copied"], first["verified"]["pages"]) == ("under_way", 1, 1)
        assert page(lab, NEW_KERNEL) == new_kernel_page(lab, 0)
        assert page(lab, NEW_KERNEL + 0x1000) == bytes(0x1000)
        second = lab.run("kexec-relocate --pages 2")
        assert (second["copied"], second["sound"]) == (3, True)
        assert page(lab, NEW_KERNEL + 0x2000) == new_kernel_page(lab, 2)
        assert page(lab, NEW_KERNEL + 0x3000) == bytes(0x1000)
        assert lab.run(f"kexec-relocate --pages {PAGES}")["copied"] == PAGES
        last = lab.run("kexec-relocate --pages 1")
        assert (last["outcome"], last["copied"], last["sound"]) == ("arrived", PAGES, True)
        assert "this relocation is over" in lab.refused("kexec-relocate")
        assert lab.go_on().startswith(ARRIVED)


def page(lab: Bench, address: int) -> bytes:
    with lab.machine.qemu.ram_file.open("rb") as ram:
        ram.seek(address - 0x4000_0000)
        return ram.read(0x1000)


def new_kernel_page(lab: Bench, number: int) -> bytes:
    """What page ``number`` of the new kernel's image holds, read from where the lab put it."""
    guest = lab.machine.guest
    assert isinstance(guest, RelocationGuest)
    return page(lab, guest.copies[number].source)


def test_a_corrupted_page_is_named_with_both_addresses_and_its_first_byte() -> None:
    with bench("B") as lab:
        document = lab.run("kexec-relocate --corrupt 17+0x123")
        assert (document["outcome"], document["sound"]) == ("arrived", False)
        (difference,) = document["verified"]["differences"]
        destination = NEW_KERNEL + 17 * 0x1000
        assert difference["destination"] == f"{destination:#x}"
        assert (difference["copy"], difference["offset"], difference["differing_bytes"]) == (17, "0x123", 1)
        source = int(difference["source"], 16)
        assert page(lab, source) == new_kernel_page(lab, 17)
        assert int(difference["expected"], 16) == page(lab, source)[0x123]
        assert int(difference["found"], 16) == page(lab, destination)[0x123] == page(lab, source)[0x123] ^ 0xFF
        assert lab.go_on().startswith("new kernel: CORRUPT")


def test_what_the_guest_itself_corrupts_is_found() -> None:
    """A page that is changed behind the copy's back: here by the debugger, in the middle of it."""
    with bench("B") as lab:
        lab.run("kexec-relocate --pages 10")
        with lab.machine.qemu.ram_file.open("r+b") as ram:
            ram.seek(NEW_KERNEL + 4 * 0x1000 + 0xABC - 0x4000_0000)
            ram.write(b"\x5a\xa5")
        document = lab.run("kexec-relocate")
        (difference,) = document["verified"]["differences"]
        assert (difference["destination"], difference["found"]) == (f"{NEW_KERNEL + 0x4000:#x}", "0x5a")
        assert int(difference["offset"], 16) in (0xABC, 0xABD)


def test_it_stops_before_a_switch_that_the_cpu_would_not_survive() -> None:
    with bench("A") as lab:
        document = lab.run("kexec-relocate")
        assert (document["outcome"], document["sound"], document["copied"]) == ("blocked", False, 0)
        last = document["stops"][-1]
        assert last["pc"] == f"{lab.symbol('turn_on_mmu_sctlr_write'):#x}"
        assert last["switch"]["check"]["predicted"]["first"]["esr"] == "0x8600000f"
        assert lab.run("kexec-fix --yes")["applied"] is True
        repaired = lab.run("kexec-relocate")
        assert (repaired["outcome"], repaired["sound"]) == ("arrived", True)
        assert lab.go_on().startswith(ARRIVED)


def test_a_wrong_turn_is_explained_while_its_syndrome_is_there() -> None:
    with bench("A") as lab:
        lab.run("kexec-relocate")
        document = lab.run("kexec-relocate --force")
        assert (document["outcome"], document["copied"]) == ("wrong_turn", 0)
        why = document["wrong_turn"]["why"]
        assert (why["condition"], why["stuck"]) == ("vector_out_of_reach", True)
        assert (why["syndrome"]["esr"], why["syndrome"]["standing"]) == ("0x8600000f", "first")
        assert why["switch"]["site"] == f"{lab.symbol('turn_on_mmu_sctlr_write'):#x}"
        assert "this relocation is over" in lab.refused("kexec-relocate")


def test_an_exception_in_the_middle_of_the_copy() -> None:
    """The descriptor of a destination is cleared while pages are copied: a page that is still to come is not mapped."""
    with bench("B") as lab:
        lab.run("kexec-relocate --pages 3")
        (level3,) = (
            level for level in lab.run(f"walk-ttbr0 {NEW_KERNEL + 40 * 0x1000:#x}")["levels"] if level["level"] == 3
        )
        with lab.machine.qemu.ram_file.open("r+b") as ram:
            ram.seek(int(level3["address"], 16) - 0x4000_0000)
            ram.write(bytes(8))
        document = lab.run("kexec-relocate")
        assert document["outcome"] == "wrong_turn"
        syndrome = document["wrong_turn"]["why"]["syndrome"]
        assert (syndrome["esr"], syndrome["far"]) == ("0x96000047", f"{NEW_KERNEL + 40 * 0x1000:#x}")


def test_a_copy_that_never_ends_is_interrupted_and_its_list_named() -> None:
    with bench("B") as lab:
        end_of_list = PAGE_LIST + 8 * (PAGES + 2)
        with lab.machine.qemu.ram_file.open("r+b") as ram:
            ram.seek(end_of_list - 0x4000_0000)
            assert int.from_bytes(ram.read(8), "little") == EntryKind.DONE
            ram.seek(end_of_list - 0x4000_0000)
            ram.write((PAGE_LIST | EntryKind.INDIRECTION).to_bytes(8, "little"))
        document = lab.run("kexec-relocate --force --timeout 1")
        assert document["outcome"] == "interrupted"
        assert any("leads back" in defect["text"] for defect in document["list_defects"])
        assert document["copied"] == PAGES and document["wrong_turn"]["why"]["stuck"] is False


def test_the_new_kernel_is_followed_to_its_console() -> None:
    with bench("B") as lab:
        document = lab.run("kexec-relocate --continue")
        assert document["outcome"] == "arrived"
        assert document["console"].startswith(ARRIVED)
        assert lab.machine.qemu.console.wait_for(rf"\A\s*{re.escape(document['console'])}\s*\n", SECONDS)


def test_what_it_refuses() -> None:
    with bench("B") as lab:
        assert "--pages 0" in lab.refused("kexec-relocate --pages 0")
        assert "write it as PAGE or PAGE+OFFSET" in lab.refused("kexec-relocate --corrupt x")
        assert "the address hexadecimal" in lab.refused("kexec-relocate --symbol kernel_kexec")
        assert "of use are kernel_kexec" in lab.refused("kexec-relocate --symbol other=0xffff800008000000")
        assert f"pages are 0 to {PAGES - 1}" in lab.refused(f"kexec-relocate --corrupt {PAGES}")
    with bench("B") as lab:
        lab.stop_at(lab.symbol("copy_done"))
        assert "may have copied pages already" in lab.refused("kexec-relocate")


@pytest.mark.parametrize(
    ("case", "lines", "verdict"),
    [
        ("B", ["kexec-relocate"], "RELOCATED: 65 pages copied"),
        ("B", ["kexec-relocate --pages 2"], "COPYING: 2 of 65 pages copied"),
        ("B", ["kexec-relocate --corrupt 3"], "WRONG: 1 page differs"),
        ("A", ["kexec-relocate"], "WRONG: stopped before a write"),
        ("A", ["kexec-relocate", "kexec-relocate --force"], "WRONG: the relocation left its way; 0 of 65 pages copied"),
    ],
)
def test_the_text_has_the_verdict_first_and_the_next_command_last(case: str, lines: list[str], verdict: str) -> None:
    with bench(case) as lab:
        text = [lab.text(line) for line in lines][-1]
    assert text.startswith(verdict)
    assert [line for line in text.splitlines() if len(line) > 80 or line != line.rstrip()] == []
    assert any(line.startswith("next ") for line in text.splitlines()[-4:])
