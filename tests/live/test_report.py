"""kexec-report in GDB before, at and after the switch, and kexecdbg report of a scenario."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.live.machines import Bench, bench
from tests.unit.ui.freeze import Page


@pytest.fixture(scope="module")
def lab() -> Iterator[Bench]:
    with bench("A") as machine:
        yield machine


def reported(lab: Bench, file: Path) -> tuple[Any, Page]:
    document = lab.run(f"kexec-report -o {file}")
    assert document["bytes"] == file.stat().st_size
    return document, Page(file.read_text())


def test_from_before_the_switch_to_the_freeze(lab: Bench, tmp_path: Path) -> None:
    site = lab.symbol("turn_on_mmu_sctlr_write")
    ahead, page = reported(lab, tmp_path / "ahead.html")
    assert (ahead["verdict"], ahead["findings"][0], ahead["site"]) == ("faults", "M01", f"{site:#x}")
    assert "Nothing was recorded." in page.text

    lab.run("kexec-step --before --timeout 30")
    _, page = reported(lab, tmp_path / "at.html")
    assert f"The write at {site:#x} (turn_on_mmu_sctlr_write) switches the EL2 MMU on." in page.text
    assert "65 pages of 4K are copied" in page.text and "TTBR0_EL2 = 0x1b3069000" in page.text
    assert page.count("li", "register_write") >= 3 and page.count("li", "switch") == 0

    lab.run("kexec-step --follow")
    stuck, page = reported(lab, tmp_path / "stuck.html")
    assert (stuck["verdict"], stuck["site"]) == ("faults", f"{site:#x}")
    assert stuck["reason"].startswith("STUCK: at 0x1b30a0200")
    assert "✓ as predicted. Seen by kexec-step" in page.text and "65 pages of 4K are copied" in page.text
    assert (page.count("li", "switch"), page.count("li", "exception")) == (1, 2)
    assert page.count("li", "register_write") >= 3


def test_refusals(lab: Bench) -> None:
    assert "required: -o/--output; usage: kexec-report -o FILE" in lab.refused("kexec-report")
    assert "cannot write the report" in lab.refused("kexec-report -o /absent/report.html")


def test_of_a_scenario(tmp_path: Path) -> None:
    file = tmp_path / "scenario.html"
    command = [sys.executable, "-m", "kexecdbg", "report", "--lab", "M04", "-o", str(file), "--json"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ended.returncode, json.loads(ended.stdout)["findings"]) == (1, ["M04"])
    page = Page(file.read_text())
    assert "✓ as predicted." in page.text and "enable_sequence+0x" in page.text
    assert "WXN: this decides" in page.text
