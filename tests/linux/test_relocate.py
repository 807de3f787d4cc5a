"""kexec-relocate on a real kernel: to the second kernel's first instruction, with every page verified, and on."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.linux.course import SECONDS, WITHOUT_SYMBOLS, Course

ROOT = Path(__file__).parents[2]
IMAGE_PAGES = 5000
"""Kernel and initramfs are more than 20 MiB."""


def test_every_page_arrives(course: Course) -> None:
    document = course.relocated.document
    assert (document["outcome"], document["sound"]) == ("arrived", True)
    assert document["pages"] == document["copied"] == document["verified"]["pages"] > IMAGE_PAGES
    assert (document["verified"]["differing"], document["list_defects"], document["running_cpus"]) == (0, [], [])
    assert f"RELOCATED: {document['pages']} pages copied, each" in course.relocated.text


def test_it_stops_where_it_is_told_to(course: Course) -> None:
    pages = course.relocated.document["pages"]
    for document, copied in ((course.first_page, 1), (course.all_pages, pages)):
        assert (document["outcome"], document["copied"], document["pages"]) == ("under_way", copied, pages)
        assert (document["verified"]["pages"], document["verified"]["differing"]) == (copied, 0)


def test_the_way_without_vhe_leads_through_el2(course: Course) -> None:
    stops = course.relocated.document["stops"]
    end = ["branch"] if course.has_vhe else ["hvc", "el2_vector"]
    way = ["code", "ttbr", "ttbr", "loop_end", "sctlr", *end, "entry", "kernel"]
    assert [stop["landmark"] for stop in stops] == way
    assert [stop["el"] for stop in stops] == ([2] * 8 if course.has_vhe else [1] * 6 + [2] * 3)
    assert int(stops[-1]["pc"], 16) == course.arrived_at


def test_the_tables_are_validated_before_each_switch(course: Course) -> None:
    checked = [stop["switch"] for stop in course.relocated.document["stops"] if stop["switch"] is not None]
    el = 2 if course.has_vhe else 1
    assert [(switch["register"], switch["mmu"], switch["sound"]) for switch in checked] == [
        (f"TTBR1_EL{el}", True, True),
        (f"TTBR1_EL{el}", True, True),
        (f"SCTLR_EL{el}", False, True),
    ]


def test_the_boot_protocol_is_kept(course: Course) -> None:
    boot = course.relocated.document["boot"]
    assert {check["met"] for check in boot} == {True}
    assert boot[-1] == {"name": "level", "met": True, "text": "EL2"}


def test_the_phases(course: Course) -> None:
    """The shutdown needs to know where it begins: without symbols it is not timed."""
    phases = course.relocated.document["phases"]
    shutdown = [] if course.name in WITHOUT_SYMBOLS else ["shutdown"]
    assert [phase["name"] for phase in phases] == [*shutdown, "relocation", "copy", "purgatory"]
    assert all(phase["seconds"] > 0 for phase in phases)
    seconds = {phase["name"]: phase["seconds"] for phase in phases}
    whole = sum(seconds.values()) - seconds["copy"]
    assert course.relocated.document["relocation_share"] == pytest.approx(seconds["relocation"] / whole)


def test_linux_kexec_stops_before_a_jump_whose_image_a_device_writes_into() -> None:
    """With the GIC ITS the redistributor goes on using LPI tables that the relocation overwrites."""
    command = [str(ROOT / "qemu-scripts" / "linux-kexec"), "--its", "--drive", "--json"]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert finished.returncode == 1, finished.stderr
    document = json.loads(finished.stdout)
    assert (document["its"], document["release"]) == (True, None)
    relocation = document["relocation"]
    assert (relocation["outcome"], relocation["sound"], relocation["copied"]) == ("blocked", False, 0)
    assert [stop["landmark"] for stop in relocation["stops"]] == ["code", "ttbr"]
    assert "K09" in {finding["id"] for finding in relocation["stops"][-1]["switch"]["check"]["findings"]}
