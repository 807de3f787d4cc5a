"""kexec-report in GDB before, at and after the switch, of each CPU, and kexecdbg report of a scenario."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kexecdbg.ui.cli import main
from tests.live.machines import Bench, bench
from tests.unit.ui.freeze import Page


@pytest.fixture(scope="module")
def lab() -> Iterator[Bench]:
    with bench("A", "-smp", "2") as machine:
        yield machine


def reported(lab: Bench, file: Path, options: str = "") -> tuple[Any, Page]:
    document = lab.run(f"kexec-report {options} -o {file}")
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


def test_the_cpu_that_is_asked_for(lab: Bench, tmp_path: Path) -> None:
    document, page = reported(lab, tmp_path / "second.html", "--cpu 1")
    assert (document["cpu"], document["verdict"], document["site"]) == (1, "unknown", None)
    assert "CPU 1 (thread 2)" in page.text and "kexec-check --cpu 1" in page.text
    assert "There is no switch to judge. NOT STUCK: at 0x0, the CPU is powered off" in page.text
    assert lab.refused("kexec-report --cpu 2 -o second.html").endswith("this machine has CPUs 0 and 1")
    lab.gdb.disconnect(resume=False)
    address, file = str(lab.machine.qemu.gdb_socket), tmp_path / "shell.html"
    from_the_shell = shell_document("--attach", address, "--cpu", "1", "-o", str(file))
    lab.gdb.connect(address)
    assert (from_the_shell["cpu"], from_the_shell["reason"]) == (1, document["reason"])
    assert "CPU 1 (thread 2)" in Page(file.read_text()).text


def shell_document(*arguments: str) -> Any:
    """What ``kexecdbg report --json`` prints of a machine that is not sound."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        assert main(["report", "--json", *arguments]) == 1
    return json.loads(printed.getvalue())


def test_after_a_switch_that_is_sound(tmp_path: Path) -> None:
    with bench("B") as lab:
        lab.run("kexec-step")
        passed, page = reported(lab, tmp_path / "passed.html")
        site = lab.symbol("turn_on_mmu_sctlr_write")
        assert (passed["verdict"], passed["site"]) == ("sound", f"{site:#x}")
        assert "✓ as predicted. Seen by kexec-step" in page.text and page.count("li", "switch") == 1
        lab.gdb.command("stepi")
        later, page = reported(lab, tmp_path / "later.html")
        pc = lab.gdb.command("output/x $pc")
        assert (later["verdict"], later["site"], later["findings"]) == ("sound", None, [])
        assert f"The EL2 MMU is on, and no switch of it is ahead. The instruction at the PC, {pc}," in page.text
        assert f"is executable and fetched from {pc}: the CPU is not stuck." in page.text
        assert "No finding: there was no switch" in page.text


def test_refusals(lab: Bench) -> None:
    assert "required: -o/--output; usage: kexec-report -o FILE" in lab.refused("kexec-report")
    assert "cannot write the report" in lab.refused("kexec-report -o /absent/report.html")


def test_of_a_scenario(tmp_path: Path) -> None:
    file = tmp_path / "scenario.html"
    assert shell_document("--lab", "M04", "-o", str(file))["findings"] == ["M04"]
    page = Page(file.read_text())
    assert "✓ as predicted." in page.text and "enable_sequence+0x" in page.text
    assert "WXN: this decides" in page.text
