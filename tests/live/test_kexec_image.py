"""kexec-image on the lab's relocations: live, and the same through a memory dump that QEMU's monitor makes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kexecdbg.errors import KexecdbgError
from kexecdbg.kexec.argument import ArgumentLayout
from kexecdbg.kexec.reloc_arg import PATCH_V1, PATCH_V9
from kexecdbg.lab.enable import EnableCase
from kexecdbg.lab.relocation import ARGUMENT, RELOCATION_CODE
from kexecdbg.lab.relocation_v9 import RelocationV9Case
from kexecdbg.machine.elf_core import ElfCore
from tests.live.machines import SECONDS, Bench, bench

NOT_IN_A_DUMP = (
    "HCR_EL2", "SCTLR_EL1", "SCTLR_EL2", "TCR_EL2", "MAIR_EL2", "TTBR0_EL2", "VBAR_EL2", "ID_AA64MMFR0_EL1",
    "ID_AA64MMFR1_EL1", "ID_AA64MMFR2_EL1", "ID_AA64PFR0_EL1",
)  # fmt: skip
RAM = 0x4000_0000
FREE_PAGE = 0x1_9000_0000
START, END = 0x1_8000_0000, 0x1_B400_0000
"""What the guest uses of its 8 GiB."""


@pytest.fixture(scope="module")
def at_switch() -> Iterator[Bench]:
    """Case A of 2019, at the write that switches the MMU on."""
    with bench("A") as lab:
        lab.stop_at(lab.symbol("turn_on_mmu_sctlr_write"))
        yield lab


def image_of(core: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """The shell command on a dump."""
    command = [sys.executable, "-m", "kexecdbg", "image", "--core", str(core), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)


def assumptions(lab: Bench) -> list[str]:
    """The system registers as they are, as options."""
    values = {name: lab.gdb.command(f"output/x ${name}") for name in NOT_IN_A_DUMP}
    return [f"--assume={name}={value}" for name, value in values.items() if value != "void"]


def test_pictures_change_no_document(at_switch: Bench) -> None:
    for line in ("kexec-image", "walk-ttbr0"):
        assert at_switch.run(f"{line} --map") == at_switch.run(line)
    drawn = at_switch.text("walk-ttbr0 --map")
    assert f"PC {at_switch.symbol('turn_on_mmu_sctlr_write'):#x}, not executable" in drawn
    assert "destination of the page list: 180080000-1800bffff" in drawn
    assert "64 pages in 64 runs" in at_switch.text("kexec-image --map")


def test_the_image_at_the_switch(at_switch: Bench) -> None:
    image = at_switch.run("kexec-image")
    assert image["argument"]["layout"] == "struct kern_reloc_arg, RFC v2"
    assert (image["list"]["pages"], image["list"]["end"], image["sound"]) == (65, "done", True)
    assert image["audit"] == []
    assert image["destinations"] == [
        {"start": "0x180000000", "end": "0x180001000", "va": "0x180000000", "mapped": 0x1000},
        {"start": "0x180080000", "end": "0x1800c0000", "va": "0x180080000", "mapped": 0x4_0000},
    ]
    kinds = {area["kind"] for area in image["areas"]}
    assert kinds == {"argument", "code", "tables", "vectors"}
    # An address says the same.
    assert at_switch.run(f"kexec-image {image['argument']['address']}") == image


def test_text_fits_and_begins_with_the_verdict(at_switch: Bench) -> None:
    for line in ("kexec-image", "kexec-image --list"):
        lines = at_switch.text(line).splitlines()
        assert lines[0] == "SOUND: 65 pages to copy, 0.3 MiB"
        assert max(map(len, lines)) <= 80
    runs = at_switch.run("kexec-image")["list"]["runs"]
    assert sum(run["destination"] in line for line in lines for run in runs[1:2]) == 1


def test_what_is_no_argument_is_refused(at_switch: Bench) -> None:
    message = at_switch.refused("kexec-image 0x180080000")
    assert "neither a struct kimage nor a kern_reloc_arg" in message and "--vmlinux" in message
    assert "not a sound ELF file" in at_switch.refused("kexec-image --vmlinux /dev/null")
    assert "cannot evaluate" in at_switch.refused("kexec-image no_such_symbol")


@pytest.mark.parametrize("layout", [PATCH_V1, PATCH_V9], ids=lambda layout: layout.name)
def test_the_arguments_of_the_later_patches(layout: ArgumentLayout) -> None:
    """The lab's relocation of 2020, and its argument laid out as it was in August 2019, in a free page."""
    with bench(RelocationV9Case()) as lab:
        live = lab.run(f"kexec-image {ARGUMENT:#x}")
        address = ARGUMENT if layout is PATCH_V9 else FREE_PAGE
        fields = {name: int(value, 16) for name, value in live["argument"]["fields"].items()}
        if layout is PATCH_V1:
            del fields["trans_t0sz"]
            with lab.machine.qemu.ram_file.open("r+b") as ram:
                ram.seek(address - RAM)
                ram.write(PATCH_V1.pack(fields))
        lab.stop_at(RELOCATION_CODE)
        image = lab.run(f"kexec-image {address:#x}")
        if layout is PATCH_V9:
            assert "use kexec-image to audit this one, kexec-step for" in lab.refused("kexec-relocate")
    assert image["argument"]["layout"] == layout.name
    assert {name: int(value, 16) for name, value in image["argument"]["fields"].items()} == fields
    assert image["list"] == live["list"] and image["list"]["pages"] == 65
    pages = {each["start"]: each["end"] for each in image["destinations"]}
    assert pages == {"0x180000000": "0x180001000", "0x180080000": "0x1800c0000"}
    assert (image["sound"], image["audit"], image["control_pages"]) == (True, [], None)


def test_without_code_ahead_it_says_what_to_type() -> None:
    with bench(EnableCase()) as lab:
        message = lab.refused("kexec-image")
        assert "kexec-image ADDRESS" in message and "symbol-file vmlinux" in message


@pytest.mark.parametrize("scenario", ["A", "K01"])
def test_a_dump_gives_the_same(scenario: str) -> None:
    with bench(scenario) as lab:
        core = lab.machine.qemu.directory / "guest.core"  # in memory, and gone with the machine
        lab.stop_at(lab.symbol("turn_on_mmu_sctlr_write"))
        live = lab.run("kexec-image")
        given = assumptions(lab)
        lab.gdb.command(f"monitor dump-guest-memory {core} {START:#x} {END - START:#x}", SECONDS)
        finished = image_of(core, "--json", *given)
        assert finished.stderr == ""
        assert ("is a destination, and the argument" in image_of(core, "--map", *given).stdout) == (scenario == "K01")
        dumped: Any = json.loads(finished.stdout)
        assert dumped.pop("core_missing") == []
        same = ("sound", "argument", "list", "destinations", "audit", "areas", "regime")
        assert {key: dumped[key] for key in same} == {key: live[key] for key in same}
        assert serious(dumped) == serious(live)
        assert finished.returncode == (0 if live["sound"] else 1)
        assert live["sound"] == (scenario == "A")
        check_without_registers(core, live)


def serious(image: Any) -> list[tuple[str, str, str]]:
    """What the rules found, but for notes on devices and what lies outside of the dump (``leads_to``)."""
    found = [(each["id"], each["severity"], each["text"]) for each in image["findings"]]
    return [each for each in found if each[1] != "note"]


def check_without_registers(core: Path, live: Any) -> None:
    """The list is audited without any system register, and what could not be checked is said."""
    blind = json.loads(image_of(core, "--json", live["argument"]["address"]).stdout)
    assert blind["list"] == live["list"]
    assert any("mapped" in clause for clause in blind["unchecked"])
    assert {each["kind"] for each in blind["audit"]} <= {each["kind"] for each in live["audit"]}
    with ElfCore(core) as opened:
        assert opened.cpus[0]["PC"] > 0
        with pytest.raises(KexecdbgError):
            opened.read(END, 8)
